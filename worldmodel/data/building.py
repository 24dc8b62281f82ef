"""A dataset of what somebody has: dictionaries of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from worldmodel.data import folders, inference
from worldmodel.data.dataset import Dataset, fingerprint
from worldmodel.data.environments import Source
from worldmodel.data.episodes import Episodes
from worldmodel.data.intake import Intake, named, told_lost
from worldmodel.data.parts import part_of
from worldmodel.data.provenance import Provenance, installed_versions
from worldmodel.data.splits import Shares
from worldmodel.data.writer import DatasetWriter
from worldmodel.errors import SpecError
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.types import Batch


def from_episodes(
    episodes: Iterable[Mapping[str, Any]],
    *,
    out: str | Path | None = None,
    observation_space: gym.Space | ObservationSpace | None = None,
    action_space: gym.Space | ActionSpace | None = None,
    splits: Mapping[str, float] | Sequence[str] | None = None,
    seed: int = 0,
    final_observation: bool = True,
    source: Source | None = None,
    notes: Sequence[str] = (),
    **told: str,
) -> Dataset:
    """Make a dataset of dictionaries of arrays.

    Each dictionary is an episode of T actions:

    - ``observations``: (T + 1, ...), or a nested dictionary of such arrays;
    - ``actions``: (T, ...), or a nested dictionary;
    - ``rewards``: (T,), if they are known;
    - ``terminated`` (or ``terminations``): (T,), or one boolean about the last step; without it no
      episode is known to end;
    - ``truncated`` (or ``truncations``), ``states`` (T + 1, n) and ``timestamps`` (T + 1,), if they
      are known;
    - ``seen`` (T + 1,), if there are gaps: False where the episode went on unobserved. What stands
      there for an observation is not looked at. The first must be seen.

    ``actions[t]`` leads from ``observations[t]`` to ``observations[t + 1]``, and rewards and ends
    are given on that arrival. What one episode has, all must have.

    Args:
        episodes: Of a list what is left out is inferred; of what can be gone through only once,
            the first episode tells the spaces, unless they hold whole numbers.
        out: Folder to write, which must be new; nothing stays of it if an episode is refused.
            Without it the dataset is in memory.
        observation_space: What one observation looks like; see ``inference`` for what is assumed
            otherwise. What was assumed is in ``provenance.notes``.
        action_space: Likewise.
        splits: Shares by name, as for ``Shares``; or the name of each episode's split.
        seed: Of the draw of splits.
        final_observation: Whether an episode of T actions has T + 1 observations. If False it has
            T, and its last action, whose outcome was not recorded, is left out with its reward.
        source: The environment that they come from, if there is one.
        notes: What whoever uses the data should know, a sentence each.
        told: ``actor``, ``origin`` and ``recorded`` (ISO 8601) of all episodes.

    Raises:
        ShapeError: Lengths do not fit, or values break the spaces; the message names the episode,
            and the stream.
        SpecError: There is no episode, a key is missing or unknown, a number is not finite, or
            what the arrays are cannot be told.
        ConfigError: The shares do not add up to 1.
        FileExistsError: There is something at ``out``.
    """
    if out is not None and folders.is_dataset(out):
        raise FileExistsError(f"there is a dataset at {out}; load(...).append(...) adds to it")
    named_splits, shares = _splits(splits, episodes, seed)
    rest, spaces, assumed = _inferred(episodes, observation_space, action_space)
    noted = [*notes, *assumed]
    if not final_observation:
        noted.append("the last action of every episode was left out: its outcome was not recorded")
    provenance = _provenance(source, seed, noted)
    if out is None:
        intake = Intake(*spaces, final_observation)
        return _held(rest, named_splits, shares, intake, provenance, told)
    writer = DatasetWriter(
        out, *spaces, provenance, shares.shares, seed, final_observation, whole=True
    )
    with writer:
        for i, episode in enumerate(rest):
            writer.write(episode, named_splits[i] if named_splits else None, **told)
        if not writer.episodes:
            raise SpecError("a dataset needs at least one episode, got none")
    return Dataset.read(out)


def save(dataset: Dataset, path: str | Path) -> Path:
    """Write a dataset; an older one at ``path`` is replaced in one step, at the very end.

    Args:
        dataset: What to write.
        path: Its folder. Missing folders are made.

    Returns:
        The path written to.

    Raises:
        FileExistsError: There is something at ``path`` that is no dataset.
        FolderInUse: Another process is writing to it.
        OSError: It cannot be written. Nothing half-written stays, nor on interruption.
    """
    specs = dataset.observation_spec, dataset.action_spec
    with DatasetWriter(path, *specs, dataset.provenance, whole=True) as writer:
        for name in dataset.splits:
            for part in dataset.split(name).parts:
                for i in range(len(part.lengths)):
                    writer.write_arrays(part.rows(i), name, **part.told_of(i))
    return Path(path)


def _held(
    episodes: Iterable[Mapping[str, Any]],
    named_splits: Sequence[str] | None,
    shares: Shares,
    intake: Intake,
    provenance: Provenance,
    told: Mapping[str, str],
) -> Dataset:
    """The dataset in memory."""
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    names: set[str] | None = None
    lost = 0
    for i, episode in enumerate(episodes):
        arrays = intake.read(episode, i)
        lost += intake.loses_end(episode, i)
        names = set(arrays) if names is None else names
        if names != set(arrays):
            wrong = sorted(names ^ set(arrays))[0]
            raise SpecError(f"episode {i} differs from those before in whether it has {wrong}")
        split = named_splits[i] if named_splits else shares.draw()
        shares.count(split, 1)
        found.setdefault(split, []).append(arrays)
    if not found:
        raise SpecError("a dataset needs at least one episode, got none")
    splits: dict[str, Episodes | Batch] = {}
    for split, rows in found.items():
        flat = {name: np.concatenate([each[name] for each in rows]) for name in rows[0]}
        lengths = np.array([len(each["actions"]) for each in rows])
        part = part_of(flat, lengths, [(len(rows), told)])
        splits[split] = Episodes([part], intake.observation_spec)
    seen, acted = intake.observation_spec, intake.action_spec
    notes = [*provenance.notes, *([told_lost(lost)] if lost else [])]
    told_of = replace(provenance, fingerprint=fingerprint(splits, seen, acted), notes=notes)
    return Dataset(splits, seen, acted, told_of)


def _splits(
    splits: Mapping[str, float] | Sequence[str] | None, episodes: Any, seed: int
) -> tuple[Sequence[str] | None, Shares]:
    """The split of each episode, if it is known beforehand, and the shares."""
    if splits is not None and not isinstance(splits, Mapping):
        if not isinstance(episodes, Sequence) or len(splits) != len(episodes):
            raise SpecError(f"{len(splits)} splits were named; expected one for each episode")
        return splits, Shares(None, seed)
    shares = Shares(splits, seed)
    return shares.assign(len(episodes)) if isinstance(episodes, Sequence) else None, shares


def _inferred(
    episodes: Iterable[Mapping[str, Any]], observed: Any, acted: Any
) -> tuple[Iterator[Mapping[str, Any]], tuple[ObservationSpace, ActionSpace], list[str]]:
    """All episodes, the spaces, and what was assumed."""
    notes: list[str] = []
    listed = isinstance(episodes, Sequence)
    rest = iter(episodes)
    if observed is None or acted is None:
        known = list(episodes) if listed else [e for _, e in zip(range(1), rest, strict=False)]
        if not known:
            raise SpecError("a dataset needs at least one episode, got none")
        given = [named(episode, i) for i, episode in enumerate(known)]
        for what, space in (("observations", observed), ("actions", acted)):
            if space is not None:
                continue
            infer = getattr(inference, f"{what[:-1]}_space")
            found, assumed = infer([episode[what] for episode in given])
            if assumed and not listed:
                raise SpecError(
                    f"{assumed[0]}; of episodes that can be gone through only once the values that "
                    "there are cannot be told"
                )
            notes += assumed
            observed, acted = (found, acted) if what == "observations" else (observed, found)
        rest = _before(known, rest) if not listed else rest
    if isinstance(observed, gym.Space):
        observed = ObservationSpace.from_space(observed)
    if isinstance(acted, gym.Space):
        acted = ActionSpace.from_space(acted)
    return rest, (observed, acted), notes


def _before(first: Iterable[Any], rest: Iterable[Any]) -> Iterator[Any]:
    yield from first
    yield from rest


def _provenance(source: Source | None, seed: int, notes: list[str]) -> Provenance:
    where: dict[str, Any] = {}
    if source is not None:
        where = {
            "env_id": source.env_id,
            "env_kwargs": source.env_kwargs,
            "wrapping": asdict(source.wrapping),
        }
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Provenance(
        **where, seed=seed, versions=installed_versions(), created=created, notes=notes
    )

"""Write episodes to a dataset's folder as they come."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

import gymnasium as gym
import numpy as np

from worldmodel.data import folders
from worldmodel.data.intake import Intake, told_lost
from worldmodel.data.parts import digest
from worldmodel.data.provenance import Provenance
from worldmodel.data.splits import Shares
from worldmodel.errors import SpecError
from worldmodel.files import clear_leftovers, locked
from worldmodel.interruption import held_signals
from worldmodel.spaces import ActionSpace, ObservationSpace

_BYTES, _SECONDS = 64_000_000, 30.0
TOLD = ("actor", "origin", "recorded")


class DatasetWriter:
    """Adds episodes to a folder, which others may read meanwhile; a context manager.

    Episodes wait in memory until there are 64 MB of one split, or half a minute has passed; then
    they are published together, whole or not at all. Whoever is killed loses those that waited.
    An error of the block publishes none of them; an interruption (Ctrl-C, or SIGTERM of a command)
    does.

    Args:
        path: Folder. A new one needs the spaces; to one with a dataset is added, and spaces that
            are given must be the dataset's.
        observation_space: Gymnasium's, or an ``ObservationSpace``.
        action_space: Gymnasium's, or an ``ActionSpace``.
        provenance: What is said of the whole, of a new dataset.
        splits: Shares by name, of episodes whose split is not said; 0.8 for training and 0.1 for
            validation and testing each by default.
        seed: Of that draw.
        final_observation: As for ``from_episodes``.
        whole: Whether nobody sees anything before the block has ended without error. Then all of
            it takes the place of the dataset that was there, if there was one.

    Raises:
        SpecError: Spaces are missing, or are not the dataset's.
        FileExistsError: There is something else at ``path``.
        FolderInUse: Another process is writing to it.
        FileFormatError: The dataset that is there is corrupt.
        OSError: The folder cannot be written to.
    """

    def __init__(
        self,
        path: str | Path,
        observation_space: gym.Space | ObservationSpace | None = None,
        action_space: gym.Space | ActionSpace | None = None,
        provenance: Provenance | None = None,
        splits: Mapping[str, float] | None = None,
        seed: int = 0,
        final_observation: bool = True,
        whole: bool = False,
    ) -> None:
        self.path, self._whole = Path(path), whole
        self._given = _spaces(observation_space, action_space)
        self.provenance, self._final = provenance or Provenance(), final_observation
        self._shares = Shares(splits, seed)
        self._waiting: dict[str, _Waiting] = {}
        self._names: dict[str, tuple[int, ...]] | None = None
        self._published, self.episodes = time.monotonic(), 0
        self._lost_ends = 0

    def __enter__(self) -> DatasetWriter:
        fresh = not folders.is_dataset(self.path)
        if fresh and self.path.exists() and (self.path.is_file() or _others(self.path)):
            raise FileExistsError(f"{self.path} exists and is no dataset; expected a new folder")
        if fresh and None in self._given:
            raise SpecError(f"a new dataset at {self.path} needs both spaces")
        self._made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        with ExitStack() as stack:
            stack.enter_context(locked(self.path))
            clear_leftovers(self.path / folders.INDEX)
            self._open(fresh)
            self._stack = stack.pop_all()
        return self

    def _open(self, fresh: bool) -> None:
        old = None if fresh else folders.read_index(self.path)
        if old and not self._whole:
            self._index = old
            _require_same(old, *self._given)
            self._take_up(self.path / old.parts)
            return
        seen, acted = (
            given or (old and known)
            for given, known in zip(
                self._given, (old and old.observation_spec, old and old.action_spec), strict=True
            )
        )
        assert isinstance(seen, ObservationSpace) and isinstance(acted, ActionSpace)
        parts = f"{folders.PARTS}-{secrets.token_hex(4)}" if old else folders.PARTS
        shutil.rmtree(self.path / parts, ignore_errors=True)
        (self.path / parts).mkdir()
        self._index = folders.Index(seen, acted, self.provenance, parts)
        if not self._whole:
            folders.write_index(self.path, self._index)

    def _take_up(self, parts: Path) -> None:
        """Go on where the last writer ended, or was killed."""
        folders.clean(parts)
        for split, found in folders.read_parts(parts).items():
            self._shares.count(split, sum(len(part.lengths) for part in found))
            self._names = {name: array.shape[1:] for name, array in found[0].arrays.items()}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        kept = kind is None or not (self._whole or issubclass(kind, Exception))
        with self._stack:
            try:
                if kept:
                    self.publish()
                    if self._lost_ends:
                        self.note(told_lost(self._lost_ends))
                if kept and self._whole:
                    folders.write_index(self.path, self._index)
            finally:
                self._tidy(failed=kind is not None)

    def _tidy(self, failed: bool) -> None:
        """Delete all parts but those of the dataset as it is now, and a new folder without any."""
        empty = failed and not folders.read_parts(self.path / self._index.parts)
        if self._made and (empty or not folders.is_dataset(self.path)):
            shutil.rmtree(self.path, ignore_errors=True)
        known = folders.read_index(self.path).parts if folders.is_dataset(self.path) else ""
        for other in self.path.glob(f"{folders.PARTS}*"):
            if other.name != known:
                shutil.rmtree(other, ignore_errors=True)

    @property
    def observation_spec(self) -> ObservationSpace:
        """Of the dataset."""
        return self._index.observation_spec

    @property
    def action_spec(self) -> ActionSpace:
        """Of the dataset."""
        return self._index.action_spec

    def write(self, episode: Mapping[str, Any], split: str | None = None, **told: str) -> None:
        """Add an episode.

        Args:
            episode: As for ``from_episodes``.
            split: Where it goes; by default it is drawn by the shares.
            told: ``actor``, ``origin`` and ``recorded`` (ISO 8601), as far as they are known.

        Raises:
            ShapeError: Lengths do not fit, or values break the spaces; the message names the
                episode by its number in this block, and the stream.
            SpecError: A key is missing or unknown, a number is not finite, or there are not the
                same arrays as in the episodes before.
        """
        intake = Intake(self.observation_spec, self.action_spec, self._final)
        arrays, lost = intake.read(episode, self.episodes), intake.loses_end(episode, self.episodes)
        self.write_arrays(arrays, split, **told)
        self._lost_ends += lost

    def write_arrays(
        self, arrays: Mapping[str, np.ndarray], split: str | None = None, **told: str
    ) -> None:
        """Add an episode as it is recorded: arrays by the names of ``Part``."""
        if unknown := sorted(set(told) - set(TOLD)):
            raise SpecError(f"of an episode is told {', '.join(TOLD)}; got {unknown[0]!r}")
        self._require_alike(arrays)
        split = self._shares.draw() if split is None else _named_split(split)
        self._shares.count(split, 1)
        waiting = self._waiting.setdefault(split, _Waiting())
        waiting.add(arrays, {name: told[name] for name in TOLD if name in told})
        self.episodes += 1
        if time.monotonic() - self._published > _SECONDS:
            self.publish()
        elif waiting.nbytes >= _BYTES:
            self._publish(split)

    def _require_alike(self, arrays: Mapping[str, np.ndarray]) -> None:
        found = {name: array.shape[1:] for name, array in arrays.items()}
        if self._names is None:
            self._names = found
        if found != self._names:
            wrong = next(n for n in found | self._names if found.get(n) != self._names.get(n))
            ours, theirs = (
                "none" if wrong not in each else f"{each[wrong]} each"
                for each in (found, self._names)
            )
            raise SpecError(
                f"episode {self.episodes}: {wrong} are {ours}; in the episodes before {theirs}"
            )

    def note(self, sentence: str) -> None:
        """Add to the dataset's notes, what whoever uses it should know."""
        told = self._index.provenance
        if sentence not in told.notes:
            noted = replace(told, notes=[*told.notes, sentence])
            self._index = replace(self._index, provenance=noted)
            if not self._whole:
                folders.write_index(self.path, self._index)

    def publish(self) -> None:
        """Let others see all episodes that wait."""
        for split in list(self._waiting):
            self._publish(split)
        self._published = time.monotonic()

    def _publish(self, split: str) -> None:
        waiting = self._waiting.pop(split)
        with held_signals():  # else an interruption would lose what it finds half written
            waiting.publish(self.path / self._index.parts, split)


class _Waiting:
    """Episodes of one split that are not published yet."""

    def __init__(self) -> None:
        # In one list, so that an interruption does not come between what belongs together.
        self._added: list[tuple[Mapping[str, np.ndarray], bytes, dict[str, str]]] = []
        self.nbytes = 0

    def add(self, arrays: Mapping[str, np.ndarray], told: dict[str, str]) -> None:
        self._added.append((arrays, digest(arrays), told))
        self.nbytes += sum(array.nbytes for array in arrays.values())

    def publish(self, parts: Path, split: str) -> None:
        episodes, digests, told = zip(*self._added, strict=True)
        alike = [(len(list(same)), known) for known, same in groupby(told)]
        folders.publish(parts, split, episodes, digests, alike)


def _spaces(
    observed: gym.Space | ObservationSpace | None, acted: gym.Space | ActionSpace | None
) -> tuple[ObservationSpace | None, ActionSpace | None]:
    if isinstance(observed, gym.Space):
        observed = ObservationSpace.from_space(observed)
    if isinstance(acted, gym.Space):
        acted = ActionSpace.from_space(acted)
    return observed, acted


def _require_same(
    index: folders.Index, observed: ObservationSpace | None, acted: ActionSpace | None
) -> None:
    pairs = (
        ("observations", observed, index.observation_spec),
        ("actions", acted, index.action_spec),
    )
    for what, given, known in pairs:
        if given is not None and given != known:
            raise SpecError(f"{what} of the dataset are {known.space()}, got {given.space()}")


def _named_split(split: str) -> str:
    if not split or not isinstance(split, str):
        raise SpecError(f"a split must be named by text, got {split!r}")
    return split


def _others(folder: Path) -> bool:
    """Whether there is anything but what a writer leaves that was killed early."""
    return any(not n.name.startswith((".", folders.PARTS)) for n in folder.iterdir())

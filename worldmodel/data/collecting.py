"""Record a dataset from a registered environment, and write down where it came from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from worldmodel.data.babble import ActionProcess, Uniform, describe
from worldmodel.data.behaviour import Behaviour
from worldmodel.data.dataset import Dataset, fingerprint
from worldmodel.data.environments import Source, Wrapping
from worldmodel.data.episodes import Episodes
from worldmodel.data.folders import is_dataset
from worldmodel.data.playing import EpisodePlayer
from worldmodel.data.provenance import Provenance, installed_versions
from worldmodel.data.record import (
    OneByOne,
    Plan,
    SideBySide,
    SplitConfig,
    Stage,
    default_splits,
    rounds,
)
from worldmodel.data.workers import Workers
from worldmodel.data.writer import DatasetWriter
from worldmodel.errors import SourceError, SpecError, require_at_least
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.types import Batch


def collect(
    env_id: str,
    env_kwargs: dict[str, Any] | None = None,
    process: ActionProcess | None = None,
    splits: dict[str, SplitConfig] | None = None,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    num_envs: int = 100,
    progress: bool = False,
    wrapping: Wrapping | None = None,
    out: str | Path | None = None,
    workers: int | None = 1,
    behaviour: Behaviour | None = None,
) -> Dataset:
    """Record a dataset from a registered environment.

    Args:
        env_id: Gymnasium id, with its version; "module:id" imports ``module`` first.
        env_kwargs: Arguments of the environment; must be expressible as JSON.
        process: Where actions come from; ``Uniform()`` by default.
        splits: Size of each split by name; ``default_splits()`` by default.
        seed: One seed for everything. Each split derives its own from it and from its name.
        options: Passed to every reset; must be expressible as JSON.
        num_envs: Environments that play side by side if they are natively vectorised; others play
            one episode after the other.
        progress: Whether to show progress bars.
        wrapping: What to put around the environment; nothing by default.
        out: Folder to write to, as episodes are complete, so that memory does not depend on how
            many there are. A new folder keeps what was complete when recording is
            interrupted; a dataset that is there is replaced at the very end. Without it the dataset
            is in memory.
        workers: Processes that play, unless the environment is natively vectorised; one is this
            process, None as many as there are cores if pictures are observed. The data do not
            depend on it.
        behaviour: A policy that acts in place of ``process`` in some or all of the episodes; then
            no native vector environment is used.

    Returns:
        The dataset, with its provenance; the same in memory and on disk.

    Raises:
        ConfigError: ``num_envs`` is less than 1, or ``seed`` less than 0.
        ShapeError: An observation breaks its declared space; the message names the stream.
        SpecError: ``env_id`` is not registered, arguments or options are not JSON, or the
            environment cannot be recorded (see ``record``).
        SourceError: The environment raised something. A new folder keeps the episodes before.
        WorkerError: A process that played has ended.
        MissingExtraError: The wrapping needs a package that is not installed.
        FileExistsError: There is something at ``out`` that is no dataset.
    """
    process = process or Uniform()
    splits = default_splits() if splits is None else splits
    require_at_least(1, num_envs=num_envs, workers=1 if workers is None else workers)
    require_at_least(0, seed=seed)
    source = Source(env_id, env_kwargs or {}, wrapping or Wrapping())
    provenance = Provenance(
        env_id=env_id,
        env_kwargs=_plain("env_kwargs", source.env_kwargs),
        wrapping=asdict(source.wrapping),
        process=describe(process) | (_described(behaviour) if behaviour else {}),
        options=_plain("options", options),
        seed=seed,
        num_envs=num_envs,
        versions=installed_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if not splits:
        raise SpecError("a dataset needs at least one split, got none")
    plans = {
        name: Plan(size, process, _split_seed(seed, name), options, behaviour)
        for name, size in splits.items()
    }
    with _staged(source, num_envs, workers, behaviour) as (stage, spaces):
        if out is not None:
            # What is played side by side is complete at the same time.
            together = num_envs if isinstance(stage, SideBySide) else 1
            return _written(stage, spaces, plans, provenance, out, together, progress)
        recorded = {
            name: next(rounds(stage, spaces, p, p.size.episodes, name if progress else None))
            for name, p in plans.items()
        }
    batches: dict[str, Episodes | Batch] = {
        name: Episodes.of(batch, spaces[0]) for name, (batch, _) in recorded.items()
    }
    notes = sorted({note for _, note in recorded.values() if note})
    mark = fingerprint(batches, *spaces)
    return Dataset(batches, *spaces, replace(provenance, fingerprint=mark, notes=notes))


Spaces = tuple[ObservationSpace, ActionSpace]


@contextmanager
def _staged(
    source: Source, num_envs: int, workers: int | None, behaviour: Behaviour | None
) -> Iterator[tuple[Stage, Spaces]]:
    """Where a dataset's episodes are played, as long as the block lasts."""
    if source.native and behaviour is None:
        env = source.make_vec(num_envs)
        try:
            side_by_side = SideBySide(env)
            yield side_by_side, side_by_side.spaces
        finally:
            env.close()
        return
    player = EpisodePlayer(source, behaviour)
    try:
        spaces = player.spaces
        count = (_cores() if spaces[0].filmed else 1) if workers is None else workers
        if count == 1:
            yield OneByOne(lambda jobs: map(player, jobs)), spaces
            return
    finally:
        player.close()
    with Workers(count, source, behaviour) as pool:
        yield OneByOne(pool.play), spaces


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    known = getattr(os, "sched_getaffinity", None)
    return len(known(0)) if known else os.cpu_count() or 1


def _described(behaviour: Behaviour) -> dict[str, Any]:
    told = {"policy": behaviour.name, "policy_share": behaviour.share}
    return told | {"exploration": behaviour.exploration}


def _written(
    stage: Stage,
    spaces: Spaces,
    plans: dict[str, Plan],
    provenance: Provenance,
    out: str | Path,
    together: int,
    progress: bool,
) -> Dataset:
    """See ``collect``."""
    failure, replacing = None, is_dataset(out)
    with DatasetWriter(out, *spaces, provenance, whole=replacing) as writer:
        try:
            for name, plan in plans.items():
                _write(writer, stage, spaces, plan, name, together, progress)
        except SourceError as error:
            if replacing or not writer.episodes:
                raise
            failure = error
    if failure:
        kept = f"{failure}; {out} keeps the {writer.episodes} episodes before"
        raise SourceError(kept) from failure
    return Dataset.read(out)


def _write(
    writer: DatasetWriter,
    stage: Stage,
    spaces: Spaces,
    plan: Plan,
    name: str,
    together: int,
    progress: bool,
) -> None:
    """One split of them."""
    drawn = str(writer.provenance.process["name"])
    actors = [plan.behaviour.name if p and plan.behaviour else drawn for p in plan.acting()]
    done = 0
    for batch, note in rounds(stage, spaces, plan, together, name if progress else None):
        (part,) = Episodes.of(batch, spaces[0]).parts
        for i in range(len(batch)):
            writer.write_arrays(part.rows(i), name, actor=actors[done + i])
        done += len(batch)
        if note:
            writer.note(note)


def _split_seed(seed: int, name: str) -> int:
    """Seed of a split: independent of the others', whatever else is recorded."""
    sequence = np.random.SeedSequence(seed, spawn_key=(crc32(name.encode()),))
    return int(sequence.generate_state(1, np.uint64)[0])


def _plain(what: str, value: Any) -> Any:
    """The value as JSON gives it back, arrays as lists."""
    try:
        return json.loads(json.dumps(value, default=lambda array: np.asarray(array).tolist()))
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(f"{what} must be expressible as JSON, got {value!r}") from error

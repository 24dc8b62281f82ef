"""Record episodes from any Gymnasium environment, single or vectorised.

``record`` plays one set of episodes; ``collect`` makes the environment, records every split of a
dataset and writes down where it came from.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from worldmodel.data.babble import ActionProcess, Uniform, describe
from worldmodel.data.buffer import EpisodeBuffer
from worldmodel.data.dataset import Dataset, fingerprint
from worldmodel.data.environments import Wrapping, check_each, make_vec, observed
from worldmodel.data.episodes import Episodes
from worldmodel.data.folders import is_dataset
from worldmodel.data.player import Player, autoreset_mode
from worldmodel.data.provenance import Provenance, installed_versions
from worldmodel.data.truth import Truth
from worldmodel.data.writer import DatasetWriter
from worldmodel.errors import SpecError, require_at_least
from worldmodel.spaces import ActionSpace, ObservationSpace, map_arrays
from worldmodel.types import Batch


@dataclass(frozen=True)
class SplitConfig:
    """Size of one split: ``episodes`` of ``steps`` steps, that is ``steps + 1`` frames each."""

    episodes: int
    steps: int

    def __post_init__(self) -> None:
        require_at_least(1, episodes=self.episodes, steps=self.steps)


def default_splits(
    episodes: int = 500, steps: int = 14, test_steps: int = 114, held_out: int | None = None
) -> dict[str, SplitConfig]:
    """Splits of the size of Karl et al. 2017, appendix B.3: 500 episodes of 15 frames.

    The test episodes go on after the paper's 15 frames, so that predictions can be judged to 100
    steps beyond them. ``held_out`` episodes are for validation and for testing each; by default as
    many as for training.
    """
    others = episodes if held_out is None else held_out
    return {
        "train": SplitConfig(episodes, steps),
        "validation": SplitConfig(others, steps),
        "test": SplitConfig(others, test_steps),
    }


def record(
    env: gym.Env | VectorEnv,
    episodes: int,
    steps: int,
    process: ActionProcess,
    seed: int,
    options: dict[str, Any] | None = None,
    progress: bool = False,
) -> Batch:
    """Play random actions and keep what happens.

    Each episode begins with a seeded reset. An episode that ends early (terminated or truncated)
    is padded: its last observation and state are repeated, everything else is zero, its mask
    False. Where every environment has a generator of its own (a single environment, Gymnasium's
    sync and async vector environments), the result depends on neither the number of environments
    nor the autoreset mode.

    Args:
        env: Stays open and belongs to the caller. A vector environment plays its environments
            side by side, in as many rounds as ``episodes`` need; it must declare its autoreset
            mode, and with ``DISABLED`` understand ``options["reset_mask"]``.
        episodes: Number of episodes B.
        steps: Number of steps T of each.
        process: Where actions come from.
        seed: Seed of actions and environments; the same seed gives the same batch.
        options: Passed to every reset.
        progress: Whether to show a progress bar.

    Returns:
        B episodes of T steps; ``states`` from ``info["state"]`` if the environment gives it. What
        is not made of numbers is ignored with a warning.

    Raises:
        ConfigError: ``episodes`` or ``steps`` is less than 1, or ``seed`` less than 0.
        ShapeError: An observation breaks its declared space; the message names the stream.
        SpecError: The environment's spaces cannot be modelled, ``process`` does not fit its action
            space, or it breaks a promise: no autoreset mode, no ``final_obs``, a state that comes
            and goes, a reward that is not finite.
    """
    size = SplitConfig(episodes, steps)
    require_at_least(0, seed=seed)
    if not isinstance(env, VectorEnv):
        single = env
        env = SyncVectorEnv([lambda: single])
    check_each(env)
    label = "recording" if progress else None
    batch, note = _record(env, _Plan(size, process, seed, options, label))
    if note:
        warnings.warn(note, stacklevel=2)
    return batch


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
) -> Dataset:
    """Record a dataset from a registered environment.

    Args:
        env_id: Gymnasium id, with its version; "module:id" imports ``module`` first.
        env_kwargs: Arguments of the environment; must be expressible as JSON.
        process: Where actions come from; ``Uniform()`` by default.
        splits: Size of each split by name; ``default_splits()`` by default.
        seed: One seed for everything. Each split derives its own from it and from its name.
        options: Passed to every reset; must be expressible as JSON.
        num_envs: Environments to play side by side: natively vectorised if the environment
            registered that, else one after the other.
        progress: Whether to show progress bars.
        wrapping: What to put around the environment; nothing by default.
        out: Folder to write to, a round of environments at a time, so that memory does not depend
            on how many episodes there are. A new folder keeps what was complete when recording is
            interrupted; a dataset that is there is replaced at the very end. Without it the dataset
            is in memory.

    Returns:
        The dataset, with its provenance; the same in memory and on disk.

    Raises:
        ConfigError: ``num_envs`` is less than 1, or ``seed`` less than 0.
        ShapeError: An observation breaks its declared space; the message names the stream.
        SpecError: ``env_id`` is not registered, arguments or options are not JSON, or the
            environment cannot be recorded (see ``record``).
        MissingExtraError: The wrapping needs a package that is not installed.
        FileExistsError: There is something at ``out`` that is no dataset.
    """
    wrapping = wrapping or Wrapping()
    process = process or Uniform()
    splits = default_splits() if splits is None else splits
    require_at_least(1, num_envs=num_envs)
    require_at_least(0, seed=seed)
    kwargs = _plain("env_kwargs", env_kwargs or {})
    plain_options = _plain("options", options)
    if not splits:
        raise SpecError("a dataset needs at least one split, got none")
    provenance = Provenance(
        env_id=env_id,
        env_kwargs=kwargs,
        wrapping=asdict(wrapping),
        process=describe(process),
        options=plain_options,
        seed=seed,
        num_envs=num_envs,
        versions=installed_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    env = make_vec(env_id, num_envs, env_kwargs or {}, wrapping)
    try:
        spaces = (
            observed(env.single_observation_space),
            ActionSpace.from_space(env.single_action_space),
        )
        plans = {
            name: _Plan(size, process, _split_seed(seed, name), options, name if progress else None)
            for name, size in splits.items()
        }
        if out is not None:
            return _written(env, plans, spaces, provenance, out)
        recorded = {name: _record(env, plan) for name, plan in plans.items()}
    finally:
        env.close()
    batches: dict[str, Episodes | Batch] = {
        name: Episodes.of(batch, spaces[0]) for name, (batch, _) in recorded.items()
    }
    notes = sorted({note for _, note in recorded.values() if note})
    mark = fingerprint(batches, *spaces)
    return Dataset(batches, *spaces, replace(provenance, fingerprint=mark, notes=notes))


@dataclass(frozen=True)
class _Plan:
    """What is recorded of a split; the progress bar is shown under ``label``."""

    size: SplitConfig
    process: ActionProcess
    seed: int
    options: dict[str, Any] | None
    label: str | None


def _written(
    env: VectorEnv,
    plans: dict[str, _Plan],
    spaces: tuple[ObservationSpace, ActionSpace],
    provenance: Provenance,
    out: str | Path,
) -> Dataset:
    """See ``collect``."""
    with DatasetWriter(out, *spaces, provenance, whole=is_dataset(out)) as writer:
        for name, plan in plans.items():
            for batch, note in _rounds(env, plan, env.num_envs):
                (part,) = Episodes.of(batch, spaces[0]).parts
                for i in range(len(batch)):
                    writer.write_arrays(part.rows(i), name)
                if note:
                    writer.note(note)
    return Dataset.read(out)


def _record(env: VectorEnv, plan: _Plan) -> tuple[Batch, str | None]:
    """See ``record``. And a note on the ground truth."""
    (found,) = _rounds(env, plan, plan.size.episodes)
    return found


def _rounds(env: VectorEnv, plan: _Plan, together: int) -> Iterator[tuple[Batch, str | None]]:
    """Some episodes at a time, as many as there are environments or a multiple of that."""
    autoreset_mode(env)  # refused before anything is drawn
    seen = observed(env.single_observation_space)
    acted = ActionSpace.from_space(env.single_action_space)
    size, steps = plan.size.episodes, plan.size.steps
    action_seeds, env_seeds = np.random.SeedSequence(plan.seed).spawn(2)
    rng = np.random.default_rng(action_seeds)
    actions = plan.process.sample(acted, size, steps, rng)
    seeds = env_seeds.generate_state(size).tolist()
    truth, told = Truth(), True
    with _progress_bar(plan.label, size * steps) as advance:
        for start in range(0, size, together):
            rows = slice(start, start + together)
            taken = map_arrays(lambda array, rows=rows: array[rows], actions)
            count = len(seeds[rows])
            buffer = EpisodeBuffer(seen, acted.encode(taken, (count, steps)))
            player = Player(env, buffer, truth, taken, steps, seeds[rows], plan.options, advance)
            for first in range(0, count, env.num_envs):
                player.play(first)
            batch = buffer.batch()
            # What the first round has not, the others have not either.
            told = told and batch.states is not None
            yield (batch if told else replace(batch, states=None)), truth.note or buffer.note


@contextmanager
def _progress_bar(label: str | None, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over steps, silent without a label; yields what advances it."""
    text = TextColumn("{task.description:>10}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn())
    with Progress(*columns, disable=label is None) as bar:
        task = bar.add_task(label or "", total=total)
        yield lambda count: bar.advance(task, count)


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

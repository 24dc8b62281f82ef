"""Record episodes from any Gymnasium environment, single or vectorised.

``record`` plays one set of episodes; ``collect`` makes the environment, records every split of a
dataset and writes down where it came from.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
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
from worldmodel.data.player import Player, autoreset_mode
from worldmodel.data.provenance import Provenance, installed_versions
from worldmodel.data.truth import Truth
from worldmodel.errors import SpecError, require_at_least
from worldmodel.spaces import ActionSpace
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
    batch, note = _record(env, size, process, seed, options, label)
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

    Returns:
        The dataset, with its provenance.

    Raises:
        ConfigError: ``num_envs`` is less than 1, or ``seed`` less than 0.
        ShapeError: An observation breaks its declared space; the message names the stream.
        SpecError: ``env_id`` is not registered, arguments or options are not JSON, or the
            environment cannot be recorded (see ``record``).
        MissingExtraError: The wrapping needs a package that is not installed.
    """
    wrapping = wrapping or Wrapping()
    process = process or Uniform()
    splits = default_splits() if splits is None else splits
    require_at_least(1, num_envs=num_envs)
    require_at_least(0, seed=seed)
    kwargs = _plain("env_kwargs", env_kwargs or {})
    plain_options = _plain("options", options)
    env = make_vec(env_id, num_envs, env_kwargs or {}, wrapping)
    try:
        spaces = (
            observed(env.single_observation_space),
            ActionSpace.from_space(env.single_action_space),
        )
        recorded = {
            name: _record(
                env, size, process, _split_seed(seed, name), options, name if progress else None
            )
            for name, size in splits.items()
        }
    finally:
        env.close()
    batches = {name: batch for name, (batch, _) in recorded.items()}
    notes = {note for _, note in recorded.values() if note}
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
        fingerprint=fingerprint(batches, *spaces),
        notes=sorted(notes),
    )
    return Dataset(dict(batches), *spaces, provenance)


def _record(
    env: VectorEnv,
    size: SplitConfig,
    process: ActionProcess,
    seed: int,
    options: dict[str, Any] | None,
    label: str | None,
) -> tuple[Batch, str | None]:
    """See ``record``; the progress bar is shown under ``label``. And a note on the ground truth."""
    autoreset_mode(env)  # refused before anything is drawn
    seen = observed(env.single_observation_space)
    acted = ActionSpace.from_space(env.single_action_space)
    action_seeds, env_seeds = np.random.SeedSequence(seed).spawn(2)
    rng = np.random.default_rng(action_seeds)
    actions = process.sample(acted, size.episodes, size.steps, rng)
    seeds = env_seeds.generate_state(size.episodes).tolist()
    buffer = EpisodeBuffer(seen, acted.encode(actions, (size.episodes, size.steps)))
    truth = Truth()
    with _progress_bar(label, size.episodes * size.steps) as advance:
        player = Player(env, buffer, truth, actions, size.steps, seeds, options, advance)
        for first in range(0, size.episodes, env.num_envs):
            player.play(first)
    batch = buffer.batch()
    return batch, truth.note or buffer.note


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

"""Record episodes from any Gymnasium environment, single or vectorised: one set of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv
from jaxtyping import Bool, Int

from worldmodel.data.babble import ActionProcess
from worldmodel.data.behaviour import Behaviour
from worldmodel.data.buffer import EpisodeBuffer, Played
from worldmodel.data.environments import check_each, observed
from worldmodel.data.player import Player, autoreset_mode
from worldmodel.data.playing import Job
from worldmodel.data.truth import Truth
from worldmodel.errors import SourceError, require_at_least
from worldmodel.progress import Steps
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
    plan = Plan(SplitConfig(episodes, steps), process, seed, options)
    require_at_least(0, seed=seed)
    if not isinstance(env, VectorEnv):
        single = env
        env = SyncVectorEnv([lambda: single])
    check_each(env)
    stage = SideBySide(env)
    ((batch, note),) = rounds(stage, stage.spaces, plan, episodes, "recorded" if progress else None)
    if note:
        warnings.warn(note, stacklevel=2)
    return batch


@dataclass(frozen=True)
class Plan:
    """What is recorded of a split; ``seed`` is of all that is drawn for it."""

    size: SplitConfig
    process: ActionProcess
    seed: int
    options: dict[str, Any] | None
    behaviour: Behaviour | None = None

    def acting(self) -> Bool[np.ndarray, " episodes"]:
        """In which episodes the policy acts."""
        episodes = self.size.episodes
        if self.behaviour is None:
            return np.zeros(episodes, np.bool_)
        of_shares = np.random.SeedSequence(self.seed).spawn(4)[3]
        return self.behaviour.acts(episodes, np.random.default_rng(of_shares))

    def draw(self, acted: ActionSpace) -> Drawn:
        """Everything random but what the environments draw themselves."""
        episodes = self.size.episodes
        of_actions, _, of_behaviour = np.random.SeedSequence(self.seed).spawn(3)
        rng = np.random.default_rng(of_actions)
        actions = self.process.sample(acted, episodes, self.size.steps, rng)
        seeds = reset_seeds(self.seed, episodes)
        if self.behaviour is None:
            return Drawn(actions, seeds)
        exploring = of_behaviour.generate_state(episodes, np.uint64)
        asked = zip(exploring.tolist(), self.acting(), strict=True)
        return Drawn(actions, seeds, [seed if acting else None for seed, acting in asked])


def reset_seeds(seed: int, episodes: int) -> list[int]:
    """Of the resets of episodes that are recorded under a seed."""
    return np.random.SeedSequence(seed).spawn(3)[1].generate_state(episodes).tolist()


@dataclass(frozen=True)
class Drawn:
    """What a plan has drawn.

    Attributes:
        actions: (B, T, *action shape), in Gymnasium's layout of a batch.
        seeds: Of the resets, B.
        exploring: As of ``Job``, B; none if there is no policy.
    """

    actions: Any
    seeds: list[int]
    exploring: list[int | None] = field(default_factory=list)

    def jobs(self, plan: Plan) -> Iterator[Job]:
        """One for every episode."""
        for i, seed in enumerate(self.seeds):
            actions = map_arrays(lambda array, i=i: array[i], self.actions)
            exploring = self.exploring[i] if self.exploring else None
            yield Job(plan.size.steps, seed, plan.options, actions, exploring)


Advance = Callable[[int], None]


@runtime_checkable
class Stage(Protocol):
    """Where episodes are played."""

    def open(
        self, plan: Plan, drawn: Drawn, acted: ActionSpace
    ) -> Callable[[EpisodeBuffer, Int[np.ndarray, " k"], Advance], str | None]:
        """What plays some episodes, which are asked for in their order.

        It writes them to a buffer of as many rows, calls back with the number of frames of each,
        and returns why there is no ground truth, if that is to be said.
        """
        ...


@dataclass(frozen=True)
class SideBySide:
    """In a vector environment, which stays open."""

    env: VectorEnv

    def __post_init__(self) -> None:
        autoreset_mode(self.env)  # refused before anything is drawn

    @property
    def spaces(self) -> tuple[ObservationSpace, ActionSpace]:
        """Of one of its environments."""
        acted = ActionSpace.from_space(self.env.single_action_space)
        return observed(self.env.single_observation_space), acted

    def open(
        self, plan: Plan, drawn: Drawn, acted: ActionSpace
    ) -> Callable[[EpisodeBuffer, np.ndarray, Advance], str | None]:
        """See ``Stage.open``."""
        truth, steps = Truth(), plan.size.steps

        def play(buffer: EpisodeBuffer, rows: np.ndarray, advance: Advance) -> str | None:
            taken = map_arrays(lambda array: array[rows], drawn.actions)
            buffer.act(np.arange(len(rows)), slice(steps), acted.encode(taken, (len(rows), steps)))
            seeds = [drawn.seeds[i] for i in rows]
            player = Player(self.env, buffer, truth, taken, steps, seeds, plan.options, advance)
            for first in range(0, len(rows), self.env.num_envs):
                player.play(first)
            return truth.note

        return play


@dataclass(frozen=True)
class OneByOne:
    """Each by itself, wherever ``play`` does that; nothing is played that is not kept."""

    play: Callable[[Iterable[Job]], Iterator[Played]]

    def open(
        self, plan: Plan, drawn: Drawn, acted: ActionSpace
    ) -> Callable[[EpisodeBuffer, np.ndarray, Advance], str | None]:
        """See ``Stage.open``."""
        flow = self.play(drawn.jobs(plan))

        def play(buffer: EpisodeBuffer, rows: np.ndarray, advance: Advance) -> str | None:
            note = None
            for i in range(len(rows)):
                played = next(flow)
                buffer.put(i, played)
                note = note or played.note
                advance(played.frames)
            return note

        return play


def rounds(
    stage: Stage,
    spaces: tuple[ObservationSpace, ActionSpace],
    plan: Plan,
    together: int,
    label: str | None,
) -> Iterator[tuple[Batch, str | None]]:
    """Some episodes at a time, and why they have no ground truth.

    An interruption (Ctrl-C, SIGTERM), and an environment's own error, is raised again after the
    episodes that are complete.

    Args:
        stage: Where they are played.
        spaces: Of an environment.
        plan: Which.
        together: How many at a time.
        label: Of the progress bar; None shows none.
    """
    seen, acted = spaces
    drawn, size, steps = plan.draw(acted), plan.size.episodes, plan.size.steps
    play, told = stage.open(plan, drawn, acted), True
    with Steps(label or "", size, "frames", disable=label is None) as bar:
        for start in range(0, size, together):
            rows = np.arange(start, min(start + together, size))
            empty = np.zeros((len(rows), steps, acted.size), np.float32)
            buffer, note, stopped = EpisodeBuffer(seen, empty), None, None
            try:
                note = play(buffer, rows, bar.advance)
            except BaseException as error:
                ours = isinstance(error, Exception | GeneratorExit)
                if (ours and not isinstance(error, SourceError)) or not buffer.complete.any():
                    raise
                stopped = error
            batch = buffer.batch()
            if stopped is not None:
                batch = batch[torch.from_numpy(buffer.complete)]
            # What the first round has not, the others have not either.
            told = told and batch.states is not None
            yield (batch if told else replace(batch, states=None)), note or buffer.note
            if stopped is not None:
                raise stopped

"""Stable-Baselines3's SAC in the dream, trained on whenever the dream has been refitted.

Dreams are short and begin at beliefs of the filter along real episodes. What an older model dreamt
is forgotten; networks and optimisers go on.

Source: Haarnoja et al. 2018, "Soft Actor-Critic"; short branches from real states as in Janner et
al. 2019, "When to Trust Your Model". Differs: it sees latent states, and learns from dreams alone.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch

from agents.rollout import Agent
from agents.starts import sample_states
from worldmodel.errors import (
    ConfigError,
    SpecError,
    require_at_least,
    require_extra,
    require_finite,
)
from worldmodel.types import Belief
from worldmodel.world.world import World

if TYPE_CHECKING:
    from stable_baselines3 import SAC

    from agents.sb3 import LatentVecEnv


@dataclass(frozen=True)
class SACConfig:
    """How SAC learns in a dream that is refitted.

    Attributes:
        updates: Gradient updates when there is nothing yet.
        more_updates: Every time after that.
        dreams: That run at once; a step of all of them is followed by ``updates_per_step``.
        updates_per_step: Gradient updates.
        branch: Steps of a dream at most.
        batch_size: Dreamt transitions per update.
        learning_rate: Of Adam.
        discount: Of rewards, per step.
        hidden: Units of each of two hidden layers.
    """

    updates: int = 2000
    more_updates: int = 500
    dreams: int = 32
    updates_per_step: int = 2
    branch: int = 25
    batch_size: int = 128
    learning_rate: float = 1e-3
    discount: float = 0.98
    hidden: int = 128

    def __post_init__(self) -> None:
        counts = ("updates", "more_updates", "dreams", "updates_per_step", "branch")
        more = ("batch_size", "hidden")
        require_at_least(1, **{name: getattr(self, name) for name in counts + more})
        require_finite(0, learning_rate=self.learning_rate)
        if not 0 <= self.discount < 1:
            raise ConfigError(f"discount must lie in [0, 1), got {self.discount}")


class DreamtSAC:
    """SAC that goes on from one model to the next.

    Args:
        config: How it learns.
        seed: Of everything random.

    Raises:
        MissingExtraError: Stable-Baselines3 is not installed.
    """

    def __init__(self, config: SACConfig, seed: int) -> None:
        require_extra("stable_baselines3", "agents")
        self._config, self._seed = config, seed
        self._learner: SAC | None = None

    def improve(self, world: World, starts: Belief, number: int) -> Agent:
        """Train on in a world as it is now; what acts there.

        Args:
            world: With a fitted support.
            starts: Beliefs that dreams begin at.
            number: Of this training; with the seed it decides on all that is drawn.

        Raises:
            SpecError: The actions are choices alone.
        """
        c, first = self._config, self._learner is None
        if world.model.action_spec.kind == "discrete":
            space = world.model.action_spec.space()
            raise SpecError(f"SAC needs numbers to act with, the actions are {space}")
        with _drawing(np.random.SeedSequence((self._seed, number)), world) as generator:
            env = self._dreams(world, starts, generator)
            env.seed(number)
            if self._learner is None:
                self._learner = self._begin(env)
            else:
                self._learner.set_env(env)
            # What an earlier model dreamt is not so.
            buffer = self._learner.replay_buffer
            assert buffer is not None, "it has been set up"
            buffer.reset()
            updates = c.updates if first else c.more_updates
            steps = -(-updates // c.updates_per_step)
            self._learner.learn(steps * c.dreams)
        return self._acting(world)

    def to_bytes(self) -> bytes:
        """Networks and optimisers, as Stable-Baselines3 saves them."""
        assert self._learner is not None, "it was trained"
        memory = io.BytesIO()
        self._learner.save(memory)
        return memory.getvalue()

    def restore(self, saved: bytes, world: World) -> Agent:
        """Be what ``to_bytes`` gave; what acts in a world.

        Raises:
            FileFormatError: It is foreign.
            SpecError: It does not fit the world.
        """
        from agents.sb3 import unpickled

        learner: Any = unpickled("SAC", io.BytesIO(saved), world)
        self._learner = learner
        return self._acting(world)

    def _acting(self, world: World) -> Agent:
        from agents.sb3 import acting

        assert self._learner is not None, "it was trained"
        return acting(self._learner, world.model.action_spec)

    def _dreams(self, world: World, starts: Belief, generator: torch.Generator) -> LatentVecEnv:
        from agents.sb3 import LatentVecEnv

        def begin(n: int) -> np.ndarray:
            return sample_states(starts, n, generator).cpu().numpy()

        c = self._config
        env = LatentVecEnv(world, c.dreams, c.branch, box=True, starts=begin)
        # The box of the data grows from model to model, and networks ask for one space.
        shape = env.observation_space.shape
        env.observation_space = gym.spaces.Box(-np.inf, np.inf, shape, np.float32)
        return env

    def _begin(self, env: LatentVecEnv) -> SAC:
        from stable_baselines3 import SAC

        c = self._config
        return SAC(
            "MlpPolicy",
            env,
            learning_rate=c.learning_rate,
            # No more than one training dreams: all of it is forgotten before the next.
            buffer_size=c.dreams * -(-max(c.updates, c.more_updates) // c.updates_per_step),
            learning_starts=0,
            batch_size=c.batch_size,
            gamma=c.discount,
            gradient_steps=c.updates_per_step,
            policy_kwargs={"net_arch": [c.hidden, c.hidden]},
            device="cpu",
        )


@contextmanager
def _drawing(sequence: np.random.SeedSequence, world: World) -> Iterator[torch.Generator]:
    """Seeded here, and outside as if nothing had been drawn: SB3 has no generators of its own.

    Yields:
        One for what draws by itself.
    """
    numbers = [int(n) for n in sequence.generate_state(3)]
    kept, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(numbers[0])
        np.random.seed(numbers[0])
        torch.manual_seed(numbers[1])
        try:
            yield torch.Generator(world.model.device).manual_seed(numbers[2])
        finally:
            random.setstate(kept)
            np.random.set_state(numpys)

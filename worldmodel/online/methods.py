"""How the agent of a run gets better in the dream, and what of it is kept from round to round."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from agents.actor_critic import train_actor_critic
from agents.exploration import Exploring
from agents.learner import ActorCritic
from agents.planning import Planner
from agents.rollout import Agent
from worldmodel.errors import SpecError, require_extra
from worldmodel.files import write_whole
from worldmodel.online.config import MethodName, OnlineConfig
from worldmodel.spaces import ActionSpace
from worldmodel.types import Belief
from worldmodel.world.dynamics import Goal
from worldmodel.world.world import World

POLICY, SAC_FILE = "policy.safetensors", "sac.zip"


class Method(ABC):
    """Improves an agent, round by round.

    Attributes:
        agent: As it is now; None before the first round.
    """

    agent: Agent | None = None

    @abstractmethod
    def improve(self, world: World, starts: Belief, goal: Goal | None, number: int) -> None:
        """Train on.

        Args:
            world: As it is now.
            starts: Beliefs that imagined episodes begin at.
            goal: What to collect; None for the task.
            number: Of the round.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All that going on needs, by name."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor], world: World) -> None:
        """Be what ``tensors`` were of."""

    @abstractmethod
    def save(self, run: Path) -> None:
        """Write the agent to its file."""

    def exploring(
        self, world: World, noise: tuple[float, float], generator: torch.Generator
    ) -> Exploring:
        """The agent with noise of a deviation and a correlation."""
        assert self.agent is not None, "the round before has trained it"
        model = world.model
        return Exploring(self.agent, model.action_spec, model.control_range, *noise, generator)


class ByActorCritic(Method):
    """Pathwise gradients and a critic (``agents.actor_critic``)."""

    def __init__(self, config: OnlineConfig) -> None:
        self._config = config
        self._learner: ActorCritic | None = None

    def improve(self, world: World, starts: Belief, goal: Goal | None, number: int) -> None:
        """See the base class."""
        c = self._config
        updates = c.agent.updates if self._learner is None else c.agent_updates
        settings = replace(c.agent, updates=updates, seed=c.seed)
        if goal is not None:
            # What is sought lies beyond the data.
            settings = replace(settings, ood_penalty=0.0, ood_radius=math.inf)
        self._learner, _ = train_actor_critic(world, settings, starts, self._learner, False, goal)
        self.agent = self._learner.policy

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        assert self._learner is not None, "a round has trained it"
        return self._learner.tensors()

    def restore(self, tensors: dict[str, Tensor], world: World) -> None:
        """See the base class."""
        hidden = self._config.agent.hidden
        self._learner = ActorCritic.restored(tensors, world.model.action_spec, hidden)
        self.agent = self._learner.policy.eval()

    def save(self, run: Path) -> None:
        """See the base class."""
        assert self._learner is not None, "a round has trained it"
        self._learner.policy.save(run / POLICY)


class ByPlanner(Method):
    """Nothing but a search at every step (``agents.planning``): what gets better is the dream."""

    def __init__(self, config: OnlineConfig) -> None:
        self._config = config

    def improve(self, world: World, starts: Belief, goal: Goal | None, number: int) -> None:
        """See the base class."""
        self.restore({}, world)

    def tensors(self) -> dict[str, Tensor]:
        """See the base class: all follows from the world."""
        return {}

    def restore(self, tensors: dict[str, Tensor], world: World) -> None:
        """See the base class."""
        c = self._config
        self.agent = Planner(world, c.planner, **asdict(replace(c.planning, seed=c.seed)))

    def save(self, run: Path) -> None:
        """See the base class."""
        assert isinstance(self.agent, Planner), "a round has made it"
        self.agent.save(run / POLICY)


class BySAC(Method):
    """Stable-Baselines3's SAC, in dreams that begin at beliefs (``agents.sac``)."""

    def __init__(self, config: OnlineConfig) -> None:
        require_extra("stable_baselines3", "agents")
        from agents.sac import DreamtSAC

        self._learner = DreamtSAC(config.sac, config.seed)

    def improve(self, world: World, starts: Belief, goal: Goal | None, number: int) -> None:
        """See the base class."""
        self.agent = self._learner.improve(world, starts, number)

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        return {"zip": torch.frombuffer(bytearray(self._learner.to_bytes()), dtype=torch.uint8)}

    def restore(self, tensors: dict[str, Tensor], world: World) -> None:
        """See the base class."""
        self.agent = self._learner.restore(tensors["zip"].numpy().tobytes(), world)

    def save(self, run: Path) -> None:
        """See the base class."""
        write_whole(run / SAC_FILE, self._learner.to_bytes())


_METHODS: dict[MethodName, Callable[[OnlineConfig], Method]] = {
    "actor-critic": ByActorCritic,
    "planner": ByPlanner,
    "sac": BySAC,
}


def method_of(config: OnlineConfig, actions: ActionSpace) -> Method:
    """What the settings ask for, before anything is trained.

    Raises:
        SpecError: It is not for such actions; nothing has been acted yet.
        MissingExtraError: It needs Stable-Baselines3.
    """
    asked = {
        "--method sac": config.method == "sac" and actions.kind == "discrete",
        "--intrinsic empowerment": config.intrinsic == "empowerment" and actions.kind != "box",
    }
    for name, wrong in asked.items():
        if wrong:
            raise SpecError(f"{name} needs numbers to act with, the actions are {actions.space()}")
    return _METHODS[config.method](config)

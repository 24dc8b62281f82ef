"""What the estimators need to know of a system: three functions and the actions' range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import SpecError
from worldmodel.world.world import World


@dataclass(frozen=True)
class Dynamics:
    """A differentiable system, of a model of ours or of anybody's.

    Attributes:
        step: (state (n, state), action (n, act), noise (n, noise)) to the next state (n, state).
            Rows must not see each other.
        observe: States (n, state) to what is sensed of them (n, observation).
        low: (act,), least action.
        high: (act,), greatest action.
        noise_size: Dimensions of the process noise, standard normal per step; may be 0.
    """

    step: Callable[[Tensor, Tensor, Tensor], Tensor]
    observe: Callable[[Tensor], Tensor]
    low: Float[Tensor, " act"]
    high: Float[Tensor, " act"]
    noise_size: int = 0

    @property
    def middle(self) -> Float[Tensor, " act"]:
        """The action half-way between the least and the greatest."""
        return (self.low + self.high) / 2

    @property
    def spread(self) -> Float[Tensor, " act"]:
        """Standard deviation of uniformly random actions."""
        return (self.high - self.low) / 12**0.5


def dynamics_of(world: World) -> Dynamics:
    """A learned model's transition and mean observation, pixels in [0, 1].

    Raises:
        SpecError: Its actions are discrete: capacities of Gaussian channels are about Box actions.
    """
    model, spec = world.model, world.model.action_spec
    if spec.kind != "box":
        raise SpecError(f"empowerment of a model needs Box actions, got {spec}")
    low, high = (
        torch.tensor(v, device=model.device, dtype=model.dtype) for v in (spec.low, spec.high)
    )
    return Dynamics(world.transition, lambda z: model.emit(z).mean, low, high, model.noise_size)

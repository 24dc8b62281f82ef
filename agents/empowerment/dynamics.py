"""What the estimators need to know of a system: three functions and the actions' range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import SpecError
from worldmodel.world.denoiser import DenoiserConfig, fit_denoiser
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
        return self.low / 2 + self.high / 2

    @property
    def half(self) -> Float[Tensor, " act"]:
        """Half the range of the actions, which itself may be more than a float holds."""
        return self.high / 2 - self.low / 2

    @property
    def scale(self) -> Float[Tensor, " act"]:
        """Standard deviation of uniformly random actions."""
        return self.half / 3**0.5


def dynamics_of(world: World) -> Dynamics:
    """A learned model's transition and mean observation, in natural units: pixels in [0, 1].

    Raises:
        SpecError: Its actions are discrete: capacities of Gaussian channels are about Box actions;
            or its states are chosen, not moved, by what is done.
    """
    model, spec = world.model, world.model.action_spec
    if spec.kind != "box":
        raise SpecError(f"empowerment of a model needs Box actions, got {spec.space()}")
    if not model.smooth:
        raise SpecError(
            "empowerment of a model needs a smooth transition, got one with categorical latents; "
            "train one with Gaussian latents"
        )
    return Dynamics(
        world.transition,
        lambda z: model.codec.natural(model.emit(z).mean),
        *model.control_range,
        model.noise_size,
    )


@torch.no_grad()
def on_its_data(world: World, config: DenoiserConfig, progress: bool = True) -> World:
    """The world with a denoiser of its own that keeps long dreams on the recorded states.

    How far it moves honest predictions is read off one step from recorded states under uniformly
    random actions.

    Args:
        world: With a fitted support.
        config: Of the denoiser; its seed is that of the actions and of the noise as well.
        progress: Whether to show a progress bar.
    """
    model, known = world.model, world.support.states
    kept = world.denoised_by(fit_denoiser(known, config, progress))
    generator = torch.Generator(model.device).manual_seed(config.seed)
    low, high = model.control_range
    chance = torch.rand((len(known), len(low)), generator=generator, device=model.device)
    noise = torch.randn((len(known), model.noise_size), generator=generator, device=model.device)
    predicted = model.transition(
        known, low * (1 - chance) + high * chance, kept.dream_noise * noise
    )
    assert kept.denoiser is not None
    kept.denoiser.calibrate(predicted)
    return kept

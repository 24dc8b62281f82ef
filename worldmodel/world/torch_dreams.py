"""Many dreams whose states never leave the device that their model is on: tensors in, tensors out.

Nothing here waits for the device, so that a GPU always has the next steps to do: which episodes end
is decided there, and where they begin anew has been drawn ahead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from worldmodel.errors import DeviceError, DivergenceError, ShapeError, SpecError
from worldmodel.spaces import ActionSpace
from worldmodel.world.dynamics import Dynamics

# First states that are drawn ahead at least, and after how many steps others are drawn. Only if
# more episodes than that begin meanwhile, some begin where another has.
_RESERVE, _FRESH = 4096, 256


class TorchStep(NamedTuple):
    """What a step gives: tensors on the dreams' device, as Gymnasium orders them.

    Attributes:
        observations: (n, latent) float32, within the observation space.
        rewards: (n,), in the environment's units.
        terminated: (n,) bool.
        truncated: (n,) bool.
        infos: "outside_support" (n,) bool; and in SAME_STEP mode "final_obs" (n, latent) and
            "_final_obs" (n,) bool, where an episode has just ended.
    """

    observations: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    infos: dict[str, Tensor]


class TorchDreams:
    """Steps dreams that begin anew by themselves; rules are those of ``LatentVectorEnv``.

    Args:
        dynamics: What to step.
        box: The observation space of one dream.
        states: First states (n, latent).
        generator: Of noise and of later first states, on the model's device.
        mode: When episodes begin anew; DISABLED is refused.
        limit: Steps after which an episode is truncated; None never does.
        noise: Whether the dreams have process noise, and end by chance.
        truncate_outside: Whether leaving the support ends an episode.

    Attributes:
        states: (n, latent), unclipped.

    Raises:
        SpecError: The mode is DISABLED, which asks at every step whether an episode is over.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        box: gym.spaces.Box,
        states: Tensor,
        generator: torch.Generator,
        mode: AutoresetMode,
        limit: int | None,
        noise: bool,
        truncate_outside: bool,
    ) -> None:
        if mode is AutoresetMode.DISABLED:
            raise SpecError("torch_step begins episodes anew by itself; autoreset_mode is DISABLED")
        self._dynamics, self._generator = dynamics, generator
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._limit, self._truncate_outside = limit, truncate_outside
        self._noise = noise and dynamics.draws > 0
        device, kind = states.device, {"device": states.device, "dtype": torch.float32}
        self._low, self._high = (torch.as_tensor(b, **kind) for b in (box.low, box.high))
        self.states = states.clone()
        self._age = torch.zeros(len(states), dtype=torch.int64, device=device)
        self._over = torch.zeros(len(states), dtype=torch.bool, device=device)
        self._finite = torch.ones((), dtype=torch.bool, device=device)
        self._reserve, self._taken = self._draw_firsts(), torch.zeros_like(self._age[0])
        self._clock = 0

    @torch.no_grad()
    def step(self, controls: Tensor) -> TorchStep:
        """One step of every dream.

        Args:
            controls: (n, act), as ``as_controls`` gives them.

        Raises:
            DivergenceError: A state or reward was not finite in one of the last 256 steps.
        """
        if self._clock % _FRESH == 0 and self._clock:
            self.require_finite()
            self._reserve, self._taken = self._draw_firsts(), torch.zeros_like(self._taken)
        self._clock += 1
        step = self._dynamics.step(self.states, controls, self._draw_noise())
        rewards, arrived = step.reward, step.next_state
        over = self._over
        self._finite &= (arrived.isfinite().all(1) & rewards.isfinite() | over).all()
        outside, terminated = ~step.inside, step.terminated
        self._age += 1
        if not self._same_step:
            # Who was over begins anew in place of this step.
            arrived, rewards = self._anew(over, arrived), rewards.masked_fill(over, 0)
            outside, terminated = outside & ~over, terminated & ~over
        truncated = outside & self._truncate_outside
        if self._limit is not None:
            truncated = truncated | (self._age >= self._limit)
        done, infos = terminated | truncated, {"outside_support": outside}
        if self._same_step:
            infos |= {"final_obs": self._observe(arrived), "_final_obs": done}
            infos["outside_support"] = outside & ~done
            arrived = self._anew(done, arrived)
        else:
            self._over = done
        self.states = arrived
        return TorchStep(self._observe(arrived), rewards, terminated, truncated, infos)

    def require_finite(self) -> None:
        """Wait for the device, and raise if anything so far was not finite.

        Raises:
            DivergenceError: It was not.
        """
        if not self._finite.item():
            raise DivergenceError(
                f"the model dreamt a state or reward that is not finite by step {self._clock}"
            )

    def _anew(self, chosen: Tensor, states: Tensor) -> Tensor:
        """The same states, those of chosen dreams replaced by first ones."""
        place = (self._taken + chosen.cumsum(0) - 1) % len(self._reserve)
        self._taken = self._taken + chosen.sum()
        self._age = self._age.masked_fill(chosen, 0)
        return torch.where(chosen.unsqueeze(1), self._reserve[place], states)

    def _draw_firsts(self) -> Tensor:
        return self._dynamics.reset(max(_RESERVE, len(self.states)), self._generator)

    def _draw_noise(self) -> Tensor | None:
        if not self._noise:
            return None
        return self._dynamics.draw(1, len(self.states), self._generator)[0].T

    def _observe(self, states: Tensor) -> Tensor:
        return states.float().clamp(self._low, self._high)


def as_controls(space: ActionSpace, actions: Any, n: int, like: Tensor) -> Tensor:
    """Actions of n environments to controls (n, act), where they are.

    Numbers are clipped to their bounds; that they are finite, and indices in range, is not asked,
    for that would wait for the device.

    Args:
        space: One Box, or one Discrete.
        actions: A tensor in Gymnasium's layout, or what gives one by ``__dlpack__`` (an array of
            JAX or CuPy).
        n: How many environments.
        like: Of the device and dtype that are wanted.

    Raises:
        SpecError: The space is of another kind.
        ShapeError: The actions are no such tensor, or of another shape or dtype.
        DeviceError: They are on another device.
    """
    if not isinstance(actions, Tensor):
        if not hasattr(actions, "__dlpack__"):
            raise ShapeError(f"actions must be a tensor or offer __dlpack__, got {actions!r:.200}")
        actions = torch.from_dlpack(actions)
    if actions.device != like.device:
        raise DeviceError(f"the dreams are on {like.device}, the actions on {actions.device}")
    real = space.space()
    if isinstance(real, gym.spaces.Discrete):
        if tuple(actions.shape) != (n,) or actions.is_floating_point():
            raise ShapeError(
                f"actions must be ({n},) integers, got {tuple(actions.shape)} {actions.dtype}"
            )
        places = torch.arange(int(real.n), device=actions.device) + int(real.start)
        return (actions.unsqueeze(1) == places).to(like.dtype)
    if not isinstance(real, gym.spaces.Box):
        raise SpecError(f"torch_step takes actions of one Box or Discrete, not of {real}; use step")
    if tuple(actions.shape) != (n, *real.shape):
        raise ShapeError(f"actions must be {(n, *real.shape)}, got {tuple(actions.shape)}")
    low, high = (like.new_tensor(bound) for bound in (space.low, space.high))
    return actions.to(like.dtype).reshape(n, -1).clamp(low, high)

"""Steps of one dream, or of many at once: arrays in and arrays out, compiled where that can be.

``compiled.py`` has the compiled ones, and this module those by tensor operations, for any model on
any device. They agree up to rounding.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from worldmodel.world.compiled import (
    DRAWS,
    Arrays,
    CompiledStep,
    CompiledSteps,
    compile_step,
)
from worldmodel.world.dynamics import Dynamics
from worldmodel.world.status import DIVERGED, OUTSIDE, TERMINATED


def step_of(
    dynamics: Dynamics, box: gym.spaces.Box
) -> tuple[CompiledStep | TensorStep, bool | str]:
    """The fastest step of one dream; and True if it is compiled, else the reason why not.

    Args:
        dynamics: What to step.
        box: The observation space of one dream.
    """
    program = compile_step(dynamics, box)
    if isinstance(program, str):
        return TensorStep(dynamics, box), program
    return CompiledStep(program), True


def steps_of(
    dynamics: Dynamics, box: gym.spaces.Box
) -> tuple[CompiledSteps | TensorSteps, bool | str]:
    """The same for many dreams at once."""
    program = compile_step(dynamics, box)
    if isinstance(program, str):
        return TensorSteps(dynamics, box), program
    return CompiledSteps(program), True


class TensorSteps:
    """Steps many dreams at once where the model lives; as ``CompiledSteps``."""

    def __init__(self, dynamics: Dynamics, box: gym.spaces.Box) -> None:
        self._dynamics, self._box = dynamics, box
        self._device, self._dtype = dynamics.model.device, dynamics.model.dtype

    def apart(self, noise: Tensor) -> list[Tensor]:
        """See ``CompiledSteps``."""
        return list(noise.unbind())

    @torch.inference_mode()
    def __call__(self, states: np.ndarray, actions: np.ndarray, noise: Tensor | None) -> Arrays:
        """See ``CompiledSteps``; actions have been checked and clipped already."""
        state = torch.from_numpy(states).to(self._device, self._dtype).T
        action = torch.from_numpy(actions).to(self._device, self._dtype)
        step = self._dynamics.step(state, action, None if noise is None else noise.T)
        reached, rewards = step.next_state.T.cpu().numpy(), step.reward.cpu().numpy()
        ended, outside = step.terminated.cpu().numpy(), ~step.inside.cpu().numpy()
        finite = np.isfinite(reached).all() and np.isfinite(rewards).all()
        status = TERMINATED * ended.any() + OUTSIDE * outside.any() + DIVERGED * (not finite)
        return Arrays(
            states=reached,
            observations=np.clip(reached.T, self._box.low, self._box.high, dtype=np.float32),
            rewards=rewards.astype(np.float32, copy=False),
            terminated=ended,
            outside=outside,
            status=int(status),
        )


class TensorStep:
    """Steps one dream where the model lives; as ``CompiledStep``."""

    def __init__(self, dynamics: Dynamics, box: gym.spaces.Box) -> None:
        model = dynamics.model
        kind = torch.empty(0, dtype=model.dtype).numpy().dtype
        self.state, self.following = np.zeros((2, model.latent_size), kind)
        self.observation = np.zeros(model.latent_size, np.float32)
        self.action = np.zeros(model.action_spec.size, np.float32)
        self.noise = np.zeros((DRAWS, dynamics.draws), kind)
        self._steps, self._model = TensorSteps(dynamics, box), model

    def __call__(self, draw: int) -> tuple[float, int]:
        """See ``CompiledStep``; the action has been checked and clipped already."""
        noise = None
        if draw >= 0:
            noise = torch.from_numpy(self.noise[draw, :, np.newaxis]).to(self._model.device)
        arrived = self._steps(self.state[:, np.newaxis], self.action[np.newaxis], noise)
        self.following[:] = arrived.states[:, 0]
        if not arrived.status & DIVERGED:
            self.state[:], self.observation[:] = self.following, arrived.observations[0]
        return float(arrived.rewards[0]), arrived.status

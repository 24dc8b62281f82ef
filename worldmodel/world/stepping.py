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
from worldmodel.world.dynamics import Dynamics, Step
from worldmodel.world.status import DIVERGED, OUTSIDE, TERMINATED


def step_of(
    dynamics: Dynamics, box: gym.spaces.Box, bounded: bool = False
) -> tuple[CompiledStep | TensorStep, bool | str]:
    """The fastest step of one dream; and True if it is compiled, else the reason why not.

    Args:
        dynamics: What to step.
        box: The observation space of one dream.
        bounded: Whether to bound errors, as far as the world can.
    """
    program = compile_step(dynamics, box, bounded)
    if isinstance(program, str):
        return TensorStep(dynamics, box, bounded), program
    return CompiledStep(program), True


def steps_of(
    dynamics: Dynamics, box: gym.spaces.Box, bounded: bool = False
) -> tuple[CompiledSteps | TensorSteps, bool | str]:
    """The same for many dreams at once."""
    program = compile_step(dynamics, box, bounded)
    if isinstance(program, str):
        return TensorSteps(dynamics, box, bounded), program
    return CompiledSteps(program), True


class TensorSteps:
    """Steps many dreams at once where the model lives; as ``CompiledSteps``."""

    def __init__(self, dynamics: Dynamics, box: gym.spaces.Box, bounded: bool = False) -> None:
        self._dynamics, self._box = dynamics, box
        self._trust = dynamics.world.trust if bounded else None
        self._device, self._dtype = dynamics.model.device, dynamics.model.dtype
        self.normal = None

    def apart(self, noise: Tensor) -> list[Tensor]:
        """See ``CompiledSteps``."""
        return list(noise.unbind())

    @torch.inference_mode()
    def __call__(
        self,
        states: np.ndarray,
        actions: np.ndarray,
        noise: Tensor | None,
        memory: np.ndarray | None = None,
    ) -> Arrays:
        """See ``CompiledSteps``; actions have been checked and clipped already."""
        state = torch.from_numpy(states).to(self._device, self._dtype).T
        action = torch.from_numpy(actions).to(self._device, self._dtype)
        drawn = None if noise is None else noise.T
        step = self._dynamics.step(state, action, drawn)
        remembered, bounds = self._bounded(memory, state, action, drawn, step)
        reached, rewards = step.next_state.T.cpu().numpy(), step.reward.cpu().numpy()
        ended, outside = step.terminated.cpu().numpy(), ~step.inside.cpu().numpy()
        finite = np.isfinite(reached).all() and np.isfinite(rewards).all()
        status = TERMINATED * ended.any() + OUTSIDE * outside.any() + DIVERGED * (not finite)
        return Arrays(
            states=reached,
            observations=np.clip(reached.T, self._box.low, self._box.high, dtype=np.float32),
            rewards=rewards.astype(np.float32, copy=False),
            flags=np.stack([ended, outside, np.zeros_like(ended)]),
            memory=remembered,
            bounds=bounds,
            status=int(status),
        )

    def _bounded(
        self,
        memory: np.ndarray | None,
        state: Tensor,
        action: Tensor,
        noise: Tensor | None,
        step: Step,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next memory (memory, n), and bounds (outputs, n)."""
        trust = self._trust
        if trust is None:
            return np.zeros((0, len(state)), np.float32), np.zeros((0, len(state)), np.float32)
        kept = state.new_zeros(len(state), trust.memory_size)
        if memory is not None:
            kept = torch.from_numpy(memory).to(state).T
        kept, bounds = trust(kept, state, action, noise, step.next_state, step.distance)
        return kept.T.cpu().numpy(), bounds.T.float().cpu().numpy()


class TensorStep:
    """Steps one dream where the model lives; as ``CompiledStep``."""

    def __init__(self, dynamics: Dynamics, box: gym.spaces.Box, bounded: bool = False) -> None:
        model, trust = dynamics.model, dynamics.world.trust if bounded else None
        kind = torch.empty(0, dtype=model.dtype).numpy().dtype
        self.state, self.following = np.zeros((2, model.latent_size), kind)
        self.observation = np.zeros(model.latent_size, np.float32)
        self.noise = np.zeros((DRAWS, dynamics.draws), kind)
        self.memory = np.zeros(0 if trust is None else trust.memory_size, kind)
        self.bounds = np.zeros(0 if trust is None else trust.outputs, np.float32)
        self._steps, self._model = TensorSteps(dynamics, box, bounded), model

    def run(self, action: np.ndarray, draw: int) -> tuple[float, int]:
        """See ``CompiledStep``; the action has been checked and clipped already."""
        noise = None
        if draw >= 0:
            noise = torch.from_numpy(self.noise[draw, :, np.newaxis]).to(self._model.device)
        given = self.state[:, np.newaxis], action[np.newaxis], noise
        arrived = self._steps(*given, self.memory[:, np.newaxis])
        self.following[:] = arrived.states[:, 0]
        if not arrived.status & DIVERGED:
            self.state[:], self.observation[:] = self.following, arrived.observations[0]
            self.memory[:], self.bounds[:] = arrived.memory[:, 0], arrived.bounds[:, 0]
        return float(arrived.rewards[0]), arrived.status

"""One step of many dreams, arrays in and arrays out: what ``LatentVectorEnv`` is a shell around.

``FusedTick`` is compiled; it needs numba (extra ``fast``), a CPU and a locally linear DVBF.
``TensorTick`` steps any model anywhere. They agree up to rounding.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from worldmodel.world.dynamics import Dynamics
from worldmodel.world.frozen import FrozenDVBF


class Arrays(NamedTuple):
    """What a tick gives: fresh arrays.

    Attributes:
        states: (latent, n), unclipped.
        observations: (n, latent), clipped to the observation space.
        rewards: (n,) float32, in the environment's units.
        terminated: (n,) bool.
        outside: (n,) bool: whether the state has left the data's support.
        finite: Whether all states and rewards are finite.
    """

    states: np.ndarray
    observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    outside: np.ndarray
    finite: bool


# From states (latent, n), model actions (n, act), and noise (noise, n) or None for none.
Tick = Callable[[np.ndarray, np.ndarray, Tensor | None], Arrays]


def make_tick(dynamics: Dynamics, box: gym.spaces.Box, num_envs: int) -> Tick:
    """The fastest there is for this model on this machine.

    Args:
        dynamics: What to step.
        box: The observation space of one environment.
        num_envs: How many are stepped at once.
    """
    model, frozen = dynamics.model, dynamics.frozen
    on_cpu = model.device.type == "cpu" and model.dtype == torch.float32
    if isinstance(frozen, FrozenDVBF) and on_cpu and importlib.util.find_spec("numba"):
        return FusedTick(dynamics, frozen, box, num_envs)
    return TensorTick(dynamics, box)


class TensorTick:
    """Steps tensors where the model lives; see ``Tick``."""

    def __init__(self, dynamics: Dynamics, box: gym.spaces.Box) -> None:
        self._dynamics, self._box = dynamics, box
        self._device, self._dtype = dynamics.model.device, dynamics.model.dtype

    @torch.inference_mode()
    def __call__(self, states: np.ndarray, actions: np.ndarray, noise: Tensor | None) -> Arrays:
        """See ``Tick``."""
        state = torch.from_numpy(states).to(self._device, self._dtype).T
        action = torch.from_numpy(actions).to(self._device, self._dtype)
        step = self._dynamics.step(state, action, None if noise is None else noise.T)
        reached, rewards = step.next_state.T.cpu().numpy(), step.reward.cpu().numpy()
        return Arrays(
            states=reached,
            observations=np.clip(reached.T, self._box.low, self._box.high, dtype=np.float32),
            rewards=rewards.astype(np.float32, copy=False),
            terminated=step.terminated.cpu().numpy(),
            outside=~step.inside.cpu().numpy(),
            finite=bool(np.isfinite(reached).all() and np.isfinite(rewards).all()),
        )


class FusedTick:
    """Steps arrays by compiled code; see ``Tick`` and ``fused.py``.

    Compiles when it is made, for some ten seconds the first time on a machine.

    Args:
        dynamics: What to step.
        frozen: Its transition and reward.
        box: The observation space of one environment.
        num_envs: How many are stepped at once.
    """

    def __init__(
        self, dynamics: Dynamics, frozen: FrozenDVBF, box: gym.spaces.Box, num_envs: int
    ) -> None:
        from worldmodel.world import fused

        self._run = fused.step
        model, cover = dynamics.model, dynamics.cover
        latent, act, draws = model.latent_size, model.action_spec.size, model.noise_size
        gate_in = _padded(frozen.mix_in, frozen.mix_in_bias)
        gate_out = _padded(frozen.mix_out, frozen.mix_out_bias, len(gate_in))
        # (state, action, noise, 1) becomes (state, action, 1, noise): see ``fused.step``.
        base = frozen.base.unflatten(0, (-1, latent))
        base = torch.cat([base[: latent + act], base[-1:], base[latent + act : -1]])
        reward_in = frozen.reward_in.roll(latent, 1)
        reward_in = _padded(reward_in, frozen.reward_in_bias)
        reward_out = _padded(frozen.reward_out.unsqueeze(0), frozen.reward_bias, len(reward_in))
        few = cover.first.shape[1]
        near = _padded(cover.first.T, cover.offsets[:few])
        far = torch.cat([cover.weights, cover.offsets.unsqueeze(0)])[:, few:]
        self._plan = (gate_in, gate_out, _padded(base.flatten(0, 1)), reward_in, reward_out, near)
        self._plan += (np.ascontiguousarray(far.cpu().numpy()),)
        smooth = isinstance(frozen.activation, nn.SiLU)
        self._sizes = (latent, act, draws, len(frozen.mix_out), smooth, frozen.factorial)
        least, greatest = model.reward_range
        outside = min(least, 0.0) if math.isfinite(least) else 0.0
        limits = (least, greatest, outside, cover.threshold.item())
        self._limits = tuple(np.float32(limit) for limit in limits)
        self._box = np.stack([box.low, box.high])
        self._noiseless = np.zeros((draws, num_envs), np.float32)
        self._model, self._can_terminate = model, model.can_terminate
        with Console(stderr=True).status("compiling the dream's step"):
            self(np.zeros((latent, 1), np.float32), np.zeros((1, act), np.float32), None)

    def __call__(self, states: np.ndarray, actions: np.ndarray, noise: Tensor | None) -> Arrays:
        """See ``Tick``."""
        draws = self._noiseless if noise is None else noise.numpy()
        n = states.shape[1]
        reached, rewards = np.empty_like(states), np.empty(n, np.float32)
        observations, inside = np.empty((n, len(states)), np.float32), np.empty(n, np.bool_)
        controls = np.ascontiguousarray(actions)
        residue = self._run(
            self._plan, self._sizes, self._limits, self._box, states, controls, draws,
            reached, observations, rewards, inside,
        )  # fmt: skip
        ends = self._ends(reached) if self._can_terminate else np.zeros(n, np.bool_)
        return Arrays(reached, observations, rewards, ends, ~inside, bool(residue == 0))

    @torch.inference_mode()
    def _ends(self, reached: np.ndarray) -> np.ndarray:
        return (self._model.termination(torch.from_numpy(reached.T)) > 0).numpy()


def _padded(weight: Tensor, bias: Tensor | None = None, bias_column: int = 0) -> np.ndarray:
    """Weights as ``fused`` multiplies by them: an even number of rows, 4 k + 1 columns.

    The bias is one more column, for a row of ones: the next one, or a later one.
    """
    rows, columns = weight.shape
    width = columns if bias is None else max(columns, bias_column) + 1
    padded = np.zeros((rows + rows % 2, width + (1 - width) % 4), np.float32)
    padded[:rows, :columns] = weight.cpu().numpy()
    if bias is not None:
        padded[:rows, width - 1] = bias.flatten().cpu().numpy()
    return padded

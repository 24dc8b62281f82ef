"""The same channels, measured on a real environment that can be set to a state.

The linearised channel's matrix comes from central differences: every action of the sequence is
moved a little both ways, in an environment of its own. The fitted channel's comes from the same
random sequences that a model is judged by. It is what a learned model's empowerment is judged by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float
from torch import Tensor

from agents.empowerment.gaussian import Noise, capacity
from agents.empowerment.sampled import fitted_nats, mirrored_sequences, require_fit
from worldmodel.errors import ConfigError, SpecError
from worldmodel.spaces import ObservationSpace


def measured_empowerment(
    make: Callable[[int], VectorEnv],
    states: Float[np.ndarray, "n state"],
    steps: int = 10,
    noise: Noise = Noise(),
    nudge: float = 0.05,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, " n"]:
    """Linearised empowerment of true states, nats; see ``GaussianEmpowerment``.

    Args:
        make: Number of environments to a vector environment whose reset takes the option "state"
            and whose steps are deterministic; pixels count as shares of full brightness.
        states: What "state" takes.
        steps: Actions in a sequence.
        noise: Which noise counts; sensor noise only.
        nudge: How far an action is moved from the middle of its range, as a fraction of the range.
        progress: Called with the number of states done.

    Raises:
        ConfigError: ``noise.process`` is not 0.
        SpecError: The actions are no Box.
    """
    act = len(_middle_and_half(make)[0])
    inputs = steps * act
    # One environment per state, input and direction.
    offsets = np.zeros((inputs, 2, steps, act))
    for i in range(inputs):
        offsets[i, :, i // act, i % act] = (2 * nudge, -2 * nudge)
    power = torch.tensor(float(inputs), dtype=torch.float64)

    def judge(shown: Tensor) -> Tensor:
        shown = shown.unflatten(1, (inputs, 2))
        # Per unit of the actions' standard deviation, as in the learned channel.
        change = (shown[:, :, 0] - shown[:, :, 1]) / (2 * nudge * 12**0.5)
        return capacity(torch.linalg.eigvalsh(change @ change.mT), power)

    return _measure(make, states, offsets.reshape(-1, steps, act), noise, judge, progress)


def measured_sampled(
    make: Callable[[int], VectorEnv],
    states: Float[np.ndarray, "n state"],
    steps: int = 15,
    noise: Noise = Noise(),
    samples: int = 128,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, " n"]:
    """Empowerment of true states by a fitted channel, nats; see ``SampledEmpowerment``.

    Arguments and errors are those of ``measured_empowerment`` and ``SampledEmpowerment``.
    """
    act = len(_middle_and_half(make)[0])
    require_fit(samples, steps * act)
    sequences = mirrored_sequences(samples, steps, act, seed).double()
    return _measure(
        make,
        states,
        sequences.numpy(),
        noise,
        lambda shown: fitted_nats(shown, sequences),
        progress,
    )


def _middle_and_half(make: Callable[[int], VectorEnv]) -> tuple[np.ndarray, np.ndarray]:
    """The middle of the actions' range and half its width, (act,) each."""
    env = make(1)
    box = env.single_action_space
    env.close()
    if not isinstance(box, gym.spaces.Box):
        raise SpecError(f"empowerment of a real environment needs Box actions, got {box}")
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    return (low + high) / 2, (high - low) / 2


def _measure(
    make: Callable[[int], VectorEnv],
    states: np.ndarray,
    sequences: np.ndarray,
    noise: Noise,
    judge: Callable[[Tensor], Tensor],
    progress: Callable[[int], None],
) -> np.ndarray:
    """What last observations (n, sequences, sensed), in units of the noise, are worth."""
    if noise.process:
        raise ConfigError(f"a real environment has no process noise, got {noise.process}")
    middle, half = _middle_and_half(make)
    actions = (middle + half * sequences).astype(np.float32)
    nats = []
    for part in np.array_split(states, max(1, len(states) // 50)):
        shown = _show(make, part, actions, noise.frames) / noise.sensor
        nats.append(judge(shown).numpy())
        progress(sum(map(len, nats)))
    return np.concatenate(nats)


def _show(
    make: Callable[[int], VectorEnv], states: np.ndarray, actions: np.ndarray, frames: int
) -> Float[Tensor, "n sequences sensed"]:
    """Last observations of each state under each of the action sequences."""
    count, steps = actions.shape[:2]
    env = make(len(states) * count)
    space = ObservationSpace.from_space(env.single_observation_space)
    env.reset(seed=0, options={"state": np.repeat(states, count, 0)})
    seen = []
    for t in range(steps):
        observed, *_ = env.step(np.tile(actions[:, t], (len(states), 1)))
        if t >= steps - frames:
            flat = _natural(space, observed, len(states) * count)
            seen.append(flat.reshape(len(states), count, -1))
    env.close()
    return torch.from_numpy(np.concatenate(seen, -1)).double()


def _natural(space: ObservationSpace, observed: Any, n: int) -> Float[np.ndarray, "n sensed"]:
    """All streams beside each other, pixels from 0 to 1."""
    read = space.read(observed, (n,))
    return np.concatenate([s.encode(read[s.name]) / s.unit for s in space.streams], 1)

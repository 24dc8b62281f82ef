"""The same Gaussian channel, measured on a real environment that can be set to a state.

The channel matrix comes from central differences: every action of the sequence is moved a little
both ways, in an environment of its own. It is what a learned model's empowerment is judged by.
"""

from __future__ import annotations

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float

from agents.empowerment.gaussian import Noise, capacity
from worldmodel.errors import ConfigError, SpecError


def measured_empowerment(
    make: Callable[[int], VectorEnv],
    states: Float[np.ndarray, "n state"],
    steps: int = 10,
    noise: Noise = Noise(),  # noqa: B008 (frozen)
    nudge: float = 0.05,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, " n"]:
    """Empowerment of true states, nats.

    Args:
        make: Number of environments to a vector environment whose reset takes the option "state"
            and whose steps are deterministic; pixels count as shares of full brightness.
        states: What "state" takes.
        steps: Actions in a sequence.
        noise: Which noise counts; sensor noise only.
        nudge: How far an action is moved from the middle of its range, as a share of the range.
        progress: Called with the number of states done.

    Raises:
        ConfigError: ``noise.process`` is not 0.
        SpecError: The actions are no Box.
    """
    if noise.process:
        raise ConfigError(f"a real environment has no process noise, got {noise.process}")
    nats = []
    for part in np.array_split(states, max(1, len(states) // 50)):
        nats.append(_measure(make, part, steps, noise, nudge))
        progress(sum(map(len, nats)))
    return np.concatenate(nats)


def _measure(
    make: Callable[[int], VectorEnv], states: np.ndarray, steps: int, noise: Noise, nudge: float
) -> np.ndarray:
    space_of = make(1)
    box = space_of.single_action_space
    space_of.close()
    if not isinstance(box, gym.spaces.Box):
        raise SpecError(f"empowerment of a real environment needs Box actions, got {box}")
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    inputs = steps * low.size
    # One environment per state, input and direction.
    offsets = np.zeros((inputs, 2, steps, low.size))
    for i in range(inputs):
        offsets[i, :, i // low.size, i % low.size] = (nudge, -nudge)
    sequence = (low + high) / 2 + offsets.reshape(2 * inputs, steps, -1) * (high - low)
    env = make(len(states) * 2 * inputs)
    env.reset(seed=0, options={"state": np.repeat(states, 2 * inputs, 0)})
    seen = []
    for t in range(steps):
        frames, *_ = env.step(np.tile(sequence[:, t], (len(states), 1)).astype(np.float32))
        if t >= steps - noise.frames:
            unit = 255.0 if frames.dtype == np.uint8 else 1.0
            seen.append(frames.reshape(len(states), inputs, 2, -1) / np.float32(unit))
    env.close()
    shown = torch.from_numpy(np.concatenate(seen, -1)).double()
    # Per unit of the actions' standard deviation, as in the learned channel.
    change = (shown[:, :, 0] - shown[:, :, 1]) / (2 * nudge * 12**0.5) / noise.sensor
    power = torch.tensor(float(inputs), dtype=change.dtype)
    return capacity(torch.linalg.eigvalsh(change @ change.mT), power).numpy()

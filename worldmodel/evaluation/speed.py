"""Steps per second of the dream, of the real environment, and of the bare tensor loop.

The bare loop is the model's own transition and reward, as one would write it by hand. All take
turns in one process, so that whatever else the machine does hits all of them; each figure is the
median over the rounds, and so is each ratio (taken within a round).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from worldmodel.data import Source
from worldmodel.device import wait
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World


def _bare_loop(model: StateSpaceModel, n: int, steps: int) -> Callable[[], None]:
    """Noise, transition and reward: what the dream cannot do without, and no env around it."""
    device = model.device
    generator = torch.Generator(device).manual_seed(0)

    def run() -> None:
        with torch.inference_mode():
            state = model.initial_prior(n, generator)
            action = torch.zeros(n, model.action_spec.size, device=device)
            for _ in range(steps):
                noise = torch.randn(model.noise_size, n, generator=generator, device=device).T
                arrived = model.transition(state, action, noise)
                model.reward(state, action, arrived)
                state = arrived

    return run


def _env_loop(env: gym.vector.VectorEnv, steps: int) -> Callable[[], None]:
    """Steps under random actions that were drawn beforehand."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(16)]

    def run() -> None:
        for t in range(steps):
            env.step(actions[t % 16])

    return run


def _torch_loop(env: LatentVectorEnv, steps: int) -> Callable[[], None]:
    """The same on the model's device; where all of a step is computed however many episodes end."""
    env.action_space.seed(0)
    env.reset(seed=0)
    device = env.model.device
    actions = [torch.as_tensor(env.action_space.sample(), device=device) for _ in range(16)]

    def run() -> None:
        for t in range(steps):
            env.torch_step(actions[t % 16])

    return run


def _start_at_all_ages(env: gym.vector.VectorEnv, limit: int) -> None:
    """Spread the episodes' ends evenly, as they are after a long while.

    Ends that fall together would make nearly every step one in which no episode ends: the cheap
    case.
    """
    env.reset(seed=0)
    zeros = np.zeros_like(env.action_space.sample())
    for t in range(limit):
        env.step(zeros)
        mask = np.arange(env.num_envs) % limit == t
        if mask.any():
            env.reset(options={"reset_mask": mask})


def _timed(run: Callable[[], None], device: torch.device) -> float:
    wait(device)
    begin = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - begin


def measure_speed(
    world: World,
    source: Source,
    num_envs: int = 1024,
    rounds: int = 7,
    steps: int = 200,
    limit: int = 200,
) -> dict[str, Any]:
    """Time all of them in turns; on another device than the CPU the dream by ``torch_step``.

    Args:
        world: With a fitted support.
        source: Makes the real environment.
        num_envs: Environments that step at once.
        rounds: How often each is timed, after one warm-up.
        steps: Steps of the dream and of the bare loops per round; a tenth of it for the real one.
        limit: Steps after which an episode is truncated.

    Returns:
        ``steps_per_second`` of each, and the ratios of the dream to the others.
    """
    limited = source.env_kwargs | {"max_episode_steps": limit}
    dream, device = LatentVectorEnv(world, num_envs, max_episode_steps=limit), world.model.device
    real = replace(source, env_kwargs=limited).make_vec(num_envs)
    _start_at_all_ages(real, limit)
    if device.type == "cpu":
        _start_at_all_ages(dream, limit)
    begin = _env_loop if device.type == "cpu" else _torch_loop
    real_steps = max(steps // 10, 1)
    loops = {
        "dream": (begin(dream, steps), steps),
        "bare": (_bare_loop(world.model, num_envs, steps), steps),
        "real": (_env_loop(real, real_steps), real_steps),
    }
    for run, _ in loops.values():
        run()
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, (run, count) in loops.items():
            speeds[name].append(num_envs * count / _timed(run, device))
    real.close()
    return {
        "num_envs": num_envs,
        "threads": torch.get_num_threads(),
        "steps_per_second": {name: median(values) for name, values in speeds.items()},
        "dream_over_real": _ratio(speeds["dream"], speeds["real"]),
        "dream_over_bare": _ratio(speeds["dream"], speeds["bare"]),
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return median(a / b for a, b in zip(ours, theirs, strict=True))

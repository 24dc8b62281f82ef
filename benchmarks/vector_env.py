"""Steps per second of the dream, of the real pixels, and of the bare tensor loop.

The three take turns in one process, so that whatever else the machine does hits all of them; each
figure is the median over the rounds, and so is each ratio (taken within a round).

    python benchmarks/vector_env.py --checkpoint pendulum --threads 1 --output vector_env.json

Without ``--checkpoint`` an untrained model of the default size stands in: it costs the same.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import gymnasium as gym
import numpy as np
import torch

from worldmodel.models.base import StateSpaceModel
from worldmodel.models.dvbf import DVBF, DVBFConfig
from worldmodel.simulator.dynamics import resolve
from worldmodel.simulator.vector_env import LatentVectorEnv
from worldmodel.types import ActionSpec, ObservationSpec

REAL = "envs:worldmodel/Pendulum-v0"


def untrained() -> StateSpaceModel:
    """A model of the default size whose support covers its own dreams."""
    model = DVBF(
        DVBFConfig(), ObservationSpec((16, 16, 1), True), ActionSpec("box", (-5.0,), (5.0,))
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        states = model.initial_prior(1024, generator)
        dreamt = model.rollout(states, torch.zeros(1024, 200, 1), generator).flatten(0, 1)
    dreamt = dreamt[torch.randperm(len(dreamt), generator=generator)]
    model.support.fit(dreamt[:8000], dreamt[8000:16000], margin=3.0)
    return model


def bare_loop(model: StateSpaceModel, n: int, steps: int) -> Callable[[], None]:
    """Noise, transition and reward: what the dream cannot do without."""
    generator = torch.Generator().manual_seed(0)

    def run() -> None:
        with torch.inference_mode():
            state = model.initial_prior(n, generator)
            action = torch.zeros(n, model.action_spec.size)
            for _ in range(steps):
                noise = torch.randn(n, model.noise_size, generator=generator)
                arrived = model.transition(state, action, noise)
                model.reward(state, action, arrived)
                state = arrived

    return run


def env_loop(env: gym.vector.VectorEnv, steps: int) -> Callable[[], None]:
    """Steps under random actions that were drawn beforehand."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(16)]

    def run() -> None:
        for t in range(steps):
            env.step(actions[t % 16])

    return run


def start_at_all_ages(env: gym.vector.VectorEnv, limit: int) -> None:
    """Spread the episodes' ends evenly, as they are after a long while.

    Ends that fall together would make nearly every step one in which no episode ends: the cheap
    case.
    """
    env.reset(seed=0)
    zeros = np.zeros(env.action_space.shape, np.float32)
    for t in range(limit):
        env.step(zeros)
        mask = np.arange(env.num_envs) % limit == t
        if mask.any():
            env.reset(options={"reset_mask": mask})


def timed(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def measure(model: StateSpaceModel, n: int, rounds: int, steps: int, limit: int) -> dict:
    dream = LatentVectorEnv.from_model(model, n, max_episode_steps=limit)
    real = gym.make_vec(REAL, num_envs=n, max_episode_steps=limit)
    for env in (dream, real):
        start_at_all_ages(env, limit)
    real_steps = max(steps // 10, 1)
    loops = {
        "dream": (env_loop(dream, steps), steps),
        "bare": (bare_loop(model, n, steps), steps),
        "real": (env_loop(real, real_steps), real_steps),
    }
    for run, _ in loops.values():
        run()
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, (run, count) in loops.items():
            speeds[name].append(n * count / timed(run))
    pairs = {name: zip(speeds["dream"], speeds[name], strict=True) for name in ("real", "bare")}
    return {
        "steps_per_second": {name: median(values) for name, values in speeds.items()},
        "ratio": {
            f"dream_over_{name}": median(d / other for d, other in pair)
            for name, pair in pairs.items()
        },
    }


def report(result: dict) -> None:
    for name, speed in result["steps_per_second"].items():
        print(f"{name:>6}  {speed:>12,.0f} steps/s")
    ratio = result["ratio"]
    print(f"dream / real pixels  {ratio['dream_over_real']:.1f} x   (goal: at least 5 x)")
    print(f"dream / bare loop    {ratio['dream_over_bare']:.0%}   (goal: at least 60 %)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="folder or bundled name; default: an untrained model")
    parser.add_argument("--num-envs", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--episode", type=int, default=200, help="steps of an episode")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--output", type=Path, help="write the figures as JSON here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = resolve(options.checkpoint) if options.checkpoint else untrained()
    result = measure(model, options.num_envs, options.rounds, options.steps, options.episode)
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    print(f"{options.num_envs} environments, torch threads: {options.threads}")
    report(result)
    if options.output:
        machine = {"python": platform.python_version(), "machine": platform.machine(), **versions}
        text = json.dumps({"settings": settings, **result, "machine": machine}, indent=2)
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()

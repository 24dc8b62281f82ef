"""Speed of the dream beside that of the real environment, written to docs/results.md.

    make benchmark-speed

Where the time goes is measured part by part, each called in turn as a step calls them, so that
every part finds the caches as the others leave them. Other work on the machine slows all of it;
ratios and fractions suffer less than speeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from seeds import write_block

import envs  # noqa: F401 - imported to register the real pendulum
from agents.policy import Policy
from worldmodel import load
from worldmodel.evaluation.speed import measure_speed
from worldmodel.world.actions import ActionReader
from worldmodel.world.checkpoint import BUNDLED
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.env import LatentEnv
from worldmodel.world.filter import FilterObservation
from worldmodel.world.stepping import TensorSteps, steps_of
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World

COMPILED = "transition, reward, support, observation"
AS_TENSORS = f"{COMPILED}, if not compiled"


def microseconds(world: World, num_envs: int, rounds: int = 1000) -> dict[str, float]:
    """Median time of each part of a step; "rest" is what the whole takes beyond its parts."""
    model = world.model
    env = LatentVectorEnv(world, num_envs, max_episode_steps=200)
    env.reset(seed=0)
    env.action_space.seed(0)
    read = ActionReader(model.action_spec, (num_envs,), model.device, model.dtype)
    dynamics, generator = Dynamics(world), torch.Generator().manual_seed(0)
    compiled, _ = steps_of(dynamics, latent_box(world))
    tensors = TensorSteps(dynamics, latent_box(world))
    taken: dict[str, list[float]] = {}

    def draw() -> torch.Tensor:
        return dynamics.draw(1, num_envs, generator)[0]

    def timed(name: str, part: Callable[..., Any], *inputs: Any) -> Any:
        begin = time.perf_counter()
        result = part(*inputs)
        taken.setdefault(name, []).append(1e6 * (time.perf_counter() - begin))
        return result

    for _ in range(rounds):
        chosen = env.action_space.sample()
        states = np.ascontiguousarray(env.states.T)
        timed("whole step", env.step, chosen)
        with torch.inference_mode():
            action = timed("actions: check, clip", read.array, chosen)
            noise = timed("noise", draw)
            timed(COMPILED, compiled, states, action, noise.numpy())
            timed(AS_TENSORS, tensors, states, action, noise)
    table = {name: median(values) for name, values in taken.items()}
    whole, tensors = table.pop("whole step"), table.pop(AS_TENSORS)
    rest = whole - sum(table.values())
    return table | {"rest: ends of episodes": rest, "whole step": whole, AS_TENSORS: tensors}


def alone(world: World, rounds: int = 15, steps: int = 1000) -> dict[str, float]:
    """Median microseconds of one step of one environment, and of what goes with it, in turns."""
    model, dream = world.model, LatentEnv(world, truncate_outside=False)
    real, seen = (gym.make("worldmodel/Pendulum-v0", max_episode_steps=10**9) for _ in range(2))
    seen = FilterObservation(seen, world)
    policy = Policy.load(BUNDLED / "pendulum" / "policy.safetensors")
    observation, _ = seen.reset(seed=0)
    dream.reset(seed=0)
    real.reset(seed=0)
    action = real.action_space.sample()
    state, control = torch.zeros(1, model.latent_size), torch.zeros(1, model.action_spec.size)
    generator = torch.Generator().manual_seed(0)

    def bare() -> None:
        noise = torch.randn(1, model.noise_size, generator=generator)
        model.reward(state, control, model.transition(state, control, noise))

    parts: dict[str, Callable[[], Any]] = {
        "dream, `LatentEnv`": lambda: dream.step(action),
        "bare tensor loop: noise, and the model's transition and reward": bare,
        "real pendulum, pixels": lambda: real.step(action),
        "the same through `FilterObservation`": lambda: seen.step(action),
        "the bundled policy's `predict`": lambda: policy.predict(observation),
    }
    taken: dict[str, list[float]] = {name: [] for name in parts}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, part in parts.items():
                begin = time.perf_counter()
                for _ in range(steps):
                    part()
                taken[name].append(1e6 * (time.perf_counter() - begin) / steps)
    return {name: median(values) for name, values in taken.items()}


def report(speed: dict[str, Any], parts: dict[str, float], single: dict[str, float]) -> str:
    """The block between the markers, in Markdown."""
    rates = {name: f"{rate / 1e6:.2f} million" for name, rate in speed["steps_per_second"].items()}
    ratio = {name: f"{speed[f'dream_over_{name}']:.2f}" for name in rates if name != "dream"}
    whole = parts["whole step"]
    lines = [
        f"`make benchmark-speed` ({speed['num_envs']:,} environments, torch threads: "
        f"{speed['threads']}, in turns, medians; torch {torch.__version__}):",
        "",
        "| | steps per second | dream over it | goal |",
        "|---|---|---|---|",
        f"| dream, `LatentVectorEnv` | {rates['dream']} | | |",
        f"| real pendulum, pixels, native vector env | {rates['real']} | {ratio['real']} | ≥ 5 |",
        "| bare tensor loop: noise, and the model's transition and reward "
        f"| {rates['bare']} | {ratio['bare']} | ≥ 2 |",
        "",
        "| part of a step | microseconds | fraction |",
        "|---|---|---|",
        *(f"| {name} | {value:.0f} | {value / whole:.0%} |" for name, value in parts.items()),
        "",
        "| one environment | microseconds a step |",
        "|---|---|",
        *(f"| {name} | {value:.1f} |" for name, value in single.items()),
    ]
    return "\n".join(lines)


def main(num_envs: int = 1024, rounds: int = 25, threads: int = 1) -> None:
    """Run the benchmark.

    Args:
        num_envs: Environments that step at once.
        rounds: How often each loop is timed.
        threads: Of torch.
    """
    torch.set_num_threads(threads)
    world = load("pendulum")
    speed = measure_speed(world, world.require_source(), num_envs, rounds)
    text = report(speed, microseconds(world, num_envs), alone(world))
    write_block("speed", text)
    print(text)


if __name__ == "__main__":
    tyro.cli(main)

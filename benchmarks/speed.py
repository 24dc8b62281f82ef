"""Speed of the dream beside that of the real environment, written to docs/results.md.

    make benchmark-speed

Where the time goes is measured part by part, each called in turn as a step calls them, so that
every part finds the caches as the others leave them. Other work on the machine slows all of it;
ratios and shares suffer less than speeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
import tyro
from seeds import write_block

import envs  # noqa: F401 - imported to register the real pendulum
from worldmodel import load
from worldmodel.cli.speed import measure_speed
from worldmodel.world.actions import ActionReader
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.tick import TensorTick, make_tick
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World

AS_TENSORS = "transition, reward, support, observation, if not compiled"


def microseconds(world: World, num_envs: int, steps: int = 1000) -> dict[str, float]:
    """Median time of each part of a step; "rest" is what the whole takes beyond its parts."""
    model = world.model
    env = LatentVectorEnv(world, num_envs, max_episode_steps=200)
    env.reset(seed=0)
    env.action_space.seed(0)
    read = ActionReader(model.action_spec, (num_envs,), model.device, model.dtype)
    dynamics, generator = Dynamics(world), torch.Generator().manual_seed(0)
    fused = make_tick(dynamics, latent_box(world), num_envs)
    tensor = TensorTick(dynamics, latent_box(world))
    taken: dict[str, list[float]] = {}

    def draw() -> torch.Tensor:
        return torch.randn(model.noise_size, num_envs, generator=generator)

    def timed(name: str, part: Callable[..., Any], *inputs: Any) -> Any:
        begin = time.perf_counter()
        result = part(*inputs)
        taken.setdefault(name, []).append(1e6 * (time.perf_counter() - begin))
        return result

    for _ in range(steps):
        chosen = env.action_space.sample()
        states = np.ascontiguousarray(env.states.T)
        timed("whole step", env.step, chosen)
        with torch.inference_mode():
            action = timed("actions: check, clip", read.array, chosen)
            noise = timed("noise", draw)
            timed("transition, reward, support, observation", fused, states, action, noise)
            timed(AS_TENSORS, tensor, states, action, noise)
    table = {name: median(values) for name, values in taken.items()}
    whole, tensors = table.pop("whole step"), table.pop(AS_TENSORS)
    rest = whole - sum(table.values())
    return table | {"rest: ends of episodes": rest, "whole step": whole, AS_TENSORS: tensors}


def report(speed: dict[str, Any], parts: dict[str, float]) -> str:
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
        "| bare tensor loop: noise, transition, reward, frozen as in the dream "
        f"| {rates['bare']} | {ratio['bare']} | ≥ 0.6 |",
        "| the same with the model's own transition and reward "
        f"| {rates['bare_unfrozen']} | {ratio['bare_unfrozen']} | |",
        "",
        "| part of a step | microseconds | share |",
        "|---|---|---|",
        *(f"| {name} | {value:.0f} | {value / whole:.0%} |" for name, value in parts.items()),
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
    speed = measure_speed(world, "worldmodel/Pendulum-v0", num_envs, rounds)
    text = report(speed, microseconds(world, num_envs))
    write_block("speed", text)
    print(text)


if __name__ == "__main__":
    tyro.cli(main)

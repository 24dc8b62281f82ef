"""Speed of the dream beside that of the real environment, written to docs/results.md.

    make benchmark-speed

Where the time goes is measured part by part, each called in turn as a step calls them, so that
every part finds the caches as the others leave them. Other work on the machine slows all of it;
ratios and fractions suffer less than speeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from seeds import write_block

import envs  # noqa: F401 - imported to register the real pendulum
from agents.policy import Policy
from worldmodel import data, load
from worldmodel.evaluation.speed import measure_speed
from worldmodel.models.dvbf_config import TransitionConfig
from worldmodel.models.program import PANEL, Op
from worldmodel.models.registry import MODELS
from worldmodel.world.actions import ActionReader
from worldmodel.world.checkpoint import BUNDLED
from worldmodel.world.compiled import CompiledSteps, compile_step
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.env import LatentEnv
from worldmodel.world.filter import FilterObservation
from worldmodel.world.stepping import TensorSteps, steps_of
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World

COMPILED = "transition, reward, support, bounds, observation"
AS_TENSORS = f"{COMPILED}, if not compiled"
NOISE = "noise, drawn ahead"
_AHEAD = 16  # steps
_FEW = 4  # panels of points that all dreams are compared with


def microseconds(world: World, num_envs: int, rounds: int = 1000) -> dict[str, float]:
    """Median time of each part of a step; "rest" is what the whole takes beyond its parts."""
    model = world.model
    env = LatentVectorEnv(world, num_envs, max_episode_steps=200)
    env.reset(seed=0)
    env.action_space.seed(0)
    read = ActionReader(model.action_spec, (num_envs,), model.device, model.dtype)
    dynamics, generator = Dynamics(world), torch.Generator().manual_seed(0)
    compiled, _ = steps_of(dynamics, latent_box(world), bounded=True)
    tensors = TensorSteps(dynamics, latent_box(world), bounded=True)
    taken: dict[str, list[float]] = {}

    def draw() -> torch.Tensor:
        return dynamics.draw(_AHEAD, num_envs, generator, compiled.normal)

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
            action = timed("actions: check", read.raw, chosen)
            noise = timed(NOISE, draw)[0]
            timed(COMPILED, compiled, states, action, noise.numpy())
            timed(AS_TENSORS, tensors, states, action, noise)
    table = {name: median(values) for name, values in taken.items()}
    table[NOISE] /= _AHEAD
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
    # One torque for ever would spin the pendulum as no data show it, where filters begin anew.
    real.action_space.seed(0)
    actions = cycle([real.action_space.sample() for _ in range(64)])
    state, control = torch.zeros(1, model.latent_size), torch.zeros(1, model.action_spec.size)
    generator = torch.Generator().manual_seed(0)

    def bare() -> None:
        noise = torch.randn(1, model.noise_size, generator=generator)
        model.reward(state, control, model.transition(state, control, noise))

    parts: dict[str, Callable[[], Any]] = {
        "dream, `LatentEnv`": lambda: dream.step(next(actions)),
        "bare tensor loop: noise, and the model's transition and reward": bare,
        "real pendulum, pixels": lambda: real.step(next(actions)),
        "the same through `FilterObservation`": lambda: seen.step(next(actions)),
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


def multiply_adds(code: np.ndarray) -> int:
    """Of one dream's step: products of matrices, and distances to the first points."""
    total = 0
    for op, _, rows, _, columns, *_, size, _ in code.tolist():
        if op in (Op.LINEAR, Op.LINEAR_RELU):
            total += rows * columns
        elif op == Op.CONTRACT:
            total += rows * size
        elif op == Op.NEAREST:
            total += columns * PANEL * min(size, _FEW)
    return total


def kinds(bundled: World) -> dict[str, tuple[World, bool]]:
    """Worlds of several models, and whether errors are bounded; some with random weights."""
    seen, acted = bundled.model.observation_spec, bundled.model.action_spec
    splits = {"train": data.SplitConfig(episodes=20, steps=14)}
    recorded = data.collect("worldmodel/Pendulum-v0", splits=splits, seed=0).train

    def fresh(name: str, **changes: Any) -> tuple[World, bool]:
        model = MODELS[name](MODELS[name].config_type(**changes), seen, acted, 0)
        model.requires_grad_(False).calibrate(recorded)
        world, generator = World(model), torch.Generator().manual_seed(0)
        states = 0.6 * torch.randn(4000, model.latent_size, generator=generator)
        world.support.fit(states[:3000], states[3000:])
        return world, False

    parts: dict[str, Any] = {"support": bundled.support, "dream_noise": bundled.dream_noise}
    return {
        "bundled DVBF, no denoiser, no bounds": (World(bundled.model, **parts), False),
        "with its denoiser": (World(bundled.model, denoiser=bundled.denoiser, **parts), False),
        "with denoiser and bounds": (bundled, True),
        "EKVAE": fresh("ekvae"),
        "DVBF with an MLP transition": fresh("dvbf", transition=TransitionConfig("mlp")),
        "E2C": fresh("e2c"),
        "RSSM": fresh("rssm"),
    }


def by_work(bundled: World, count: int, rounds: int = 25, steps: int = 20) -> list[str]:
    """Rows of a table: what models' compiled steps cost for each multiply-add; best, in turns."""
    runs: dict[str, tuple[int, Callable[[], Any]]] = {}
    generator = np.random.default_rng(0)
    for name, (world, bounded) in kinds(bundled).items():
        dynamics, spec = Dynamics(world), world.model.action_spec
        program = compile_step(dynamics, latent_box(world), bounded)
        if isinstance(program, str):
            raise RuntimeError(f"{name} is not compiled: {program}")
        states = np.resize(world.support.states.numpy(), (count, world.model.latent_size))
        actions = generator.uniform(spec.low, spec.high, (count, spec.size)).astype(np.float32)
        noise = generator.standard_normal((dynamics.draws, count)).astype(np.float32)
        step = CompiledSteps(program)
        given = np.ascontiguousarray(states.T), actions, noise
        runs[name] = multiply_adds(program.code), partial(step, *given)
    best = dict.fromkeys(runs, np.inf)
    for _ in range(rounds):
        for name, (_, run) in runs.items():
            begin = time.process_time()
            for _ in range(steps):
                run()
            best[name] = min(best[name], (time.process_time() - begin) / steps)
    rates = {name: work * count / best[name] / 1e9 for name, (work, _) in runs.items()}
    plain = next(iter(rates.values()))
    return [
        f"| {name} | {runs[name][0]:,} | {1e6 * best[name]:.0f} | {rate:.0f} | {rate / plain:.0%} |"
        for name, rate in rates.items()
    ]


def report(
    speed: dict[str, Any], parts: dict[str, float], single: dict[str, float], work: list[str]
) -> str:
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
        "",
        "| model | multiply-adds a dream | µs a step | thousand million a second | of the first |",
        "|---|---|---|---|---|",
        *work,
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
    parts, single = microseconds(world, num_envs), alone(world)
    text = report(speed, parts, single, by_work(world, num_envs))
    write_block("speed", text)
    print(text)


if __name__ == "__main__":
    tyro.cli(main)

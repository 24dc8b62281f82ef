"""The recurrent state-space model: updates and steps per second, and what it predicts.

    make benchmark-rssm
    python benchmarks/rssm.py --parts speed stepping
    python benchmarks/rssm.py --parts quality --seconds 150 --seeds 0 1 2
    python benchmarks/rssm.py --smoke

Speed is that of an update of the same sizes and batch by the plain implementation in
``plain_rssm.py``, in turns, on one core. Quality is that of others trained on the same frames of
Gymnasium's own pendulum, for the same time of one core: each is timed first, and given as many
updates as fit. Everything is printed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from foreign_systems import FOREIGN
from plain_rssm import PlainRSSM
from torch import Tensor, nn

from worldmodel import data
from worldmodel.data import Dataset, SplitConfig
from worldmodel.evaluation.prediction import frame_variance, open_loop_error
from worldmodel.evaluation.tracking import tracked
from worldmodel.models.registry import MODELS
from worldmodel.models.rssm import RSSM, RSSMConfig
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.systems import GENERIC, system_of
from worldmodel.training.losses.balanced import Balanced, BalancedConfig
from worldmodel.training.trainer import Trainer
from worldmodel.types import Batch
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.stepping import TensorSteps, steps_of
from worldmodel.world.world import World

Part = Literal["speed", "stepping", "quality"]
HORIZONS = (1, 5, 10, 30)
FILTERED = 15
_PILOT = 40  # updates that a model is timed by
# Deterministic, stochastic and hidden units, sequences and their frames; the first are the paper's.
SIZES = {"published": (200, 30, 200, 50, 50), "preset": (128, 16, 128, 32, 31)}
SEEN, ACTED = 24, 6  # numbers of an observation and of an action: a planar walker's


def cpu_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Of one call, the median of several."""
    taken = []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        taken.append(time.process_time() - begin)
    return median(taken)


def updates_per_second(sizes: tuple[int, ...], rounds: int, repeats: int) -> dict[str, float]:
    """Of ours and of the plain implementation, on the same batch, in turns.

    Args:
        sizes: See ``SIZES``.
        rounds: Times that either is measured.
        repeats: Updates of each.
    """
    deterministic, stochastic, hidden, count, frames = sizes
    generator = torch.Generator().manual_seed(0)
    steps = frames - 1
    seen = torch.randn(count, frames, SEEN, generator=generator)
    acted = 2 * torch.rand(count, steps, ACTED, generator=generator) - 1
    paid = torch.randn(count, steps, generator=generator)
    never = torch.zeros(count, steps, dtype=torch.bool)
    batch = Batch(seen, acted, paid, never, ~never)
    config = RSSMConfig(deterministic, "gaussian", stochastic, hidden=hidden, head_hidden=hidden)
    config = replace(config, codec=replace(config.codec, hidden=hidden))
    spaces = gym.spaces.Box(-np.inf, np.inf, (SEEN,)), gym.spaces.Box(-1, 1, (ACTED,))
    ours = RSSM(config, ObservationSpace.from_space(spaces[0]), ActionSpace.from_space(spaces[1]))
    ours.calibrate(batch)
    objective = Balanced(BalancedConfig(multiplier=1.0, free=3.0))
    plain = PlainRSSM(SEEN, ACTED, deterministic, stochastic, hidden)
    updates = {
        "ours": updater(
            ours, lambda: objective.loss(ours.terms(batch, generator, prefix=1), count)
        ),
        "plain": updater(plain, lambda: plain.loss(seen, acted, paid)),
    }
    taken: dict[str, list[float]] = {name: [] for name in updates}
    for _ in range(rounds):
        for name, update in updates.items():
            taken[name].append(cpu_seconds(update, repeats))
    return {name: 1 / min(values) for name, values in taken.items()}


def updater(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """One update by Adam."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def update() -> None:
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()

    return update


def speed(rounds: int, repeats: int) -> str:
    """A table of both sizes."""
    rows = []
    for name, sizes in SIZES.items():
        found = updates_per_second(sizes, rounds, repeats)
        told = f"{found['ours']:.1f} | {found['plain']:.1f} | {found['ours'] / found['plain']:.2f}"
        rows.append(f"| {name}: {' / '.join(map(str, sizes))} | {told} |")
    head = "| h / z / hidden / sequences / frames | ours, updates/s | plain | ratio |"
    return "\n".join([head, "|---" * 4 + "|", *rows])


def recorded(folder: Path, smoke: bool) -> Dataset:
    """Pictures of Gymnasium's pendulum, as ``foreign.py`` records them."""
    system = FOREIGN["pendulum"].brief() if smoke else FOREIGN["pendulum"]
    if not folder.exists():
        source, size = system.source, SplitConfig(system.held_out, system.steps)
        splits = {"train": SplitConfig(system.episodes, system.steps)}
        data.collect(
            source.env_id,
            source.env_kwargs,
            data.Held(),
            splits | {"validation": size, "test": size},
            num_envs=1,
            wrapping=source.wrapping,
            out=folder,
        )
    return data.load(folder)


def learn(name: str, dataset: Dataset, seconds: float, seed: int) -> tuple[World, dict[str, Any]]:
    """A world of the generic preset, trained for so long on one core; and what that took."""
    observations = dataset.observation_spec
    chosen = GENERIC[observations.preset]
    settings = chosen.model(name, observations)
    config = replace(chosen.training(dataset), seed=seed, tensorboard=False, patience=0)

    def trainer(updates: int, folder: str) -> Trainer:
        model = MODELS[name](settings, observations, dataset.action_spec, seed)
        every = max(1, updates // 8)
        return Trainer(
            model, dataset, replace(config, updates=updates, validate_every=every), folder
        )

    with tempfile.TemporaryDirectory() as folder:
        pilot = trainer(_PILOT, f"{folder}/pilot")
        each = cpu_seconds(pilot.step, _PILOT)
        updates = max(_PILOT, round(seconds / each))
        begin = time.process_time()
        world = trainer(updates, f"{folder}/run").fit(progress=False)
        taken = time.process_time() - begin
    return world, {"updates": updates, "seconds": taken}


@torch.no_grad()
def judged(world: World, dataset: Dataset) -> dict[str, Any]:
    """What the filter knows late in an episode, what is predicted, and whether support tells."""
    train, test = dataset.train.sample(), dataset.test.sample()
    targets = system_of(dataset.provenance.env_id).targets
    tracking = tracked(world.model, train, test, targets)
    error = open_loop_error(world, test, FILTERED) / frame_variance(world.model, test)
    return {
        "r2": {name: list(stretches.values())[-1] for name, stretches in tracking.items()},
        "error": [error[k - 1].item() for k in HORIZONS],
        "auroc": support_auroc(world, test),
    }


def support_auroc(world: World, test: Batch, ahead: int = 30) -> float:
    """How well the largest distance so far tells dreams that err more than the median one.

    Dreams of ``ahead`` steps from filtered states all along the test episodes.
    """
    model = world.model
    means = model.filter_beliefs(test.observations, test.actions, seen=test.seen).mean
    truth = model.scale_observations(test.observations)
    errors, distances = [], []
    for start in range(FILTERED, test.steps - ahead, ahead):
        states = world.rollout(means[:, start], test.actions[:, start : start + ahead])
        away = [world.support.distance(state) for state in states[:, 1:].unbind(1)]
        distances.append(torch.stack(away).amax(0))
        shown = model.emit(states[:, -1]).mean
        errors.append((shown - truth[:, start + ahead]).square().sum(1))
    error, distance = torch.cat(errors), torch.cat(distances)
    bad = error > error.median()
    return (distance[bad].unsqueeze(1) > distance[~bad]).double().mean().item()


def quality(
    folder: Path, models: tuple[str, ...], seeds: tuple[int, ...], seconds: float, smoke: bool
) -> str:
    """A table, a row for each model and seed."""
    dataset = recorded(folder, smoke)
    head = "| model | seed | updates | CPU s | late R² cos / sin / velocity |"
    head += f" error at {' / '.join(map(str, HORIZONS))} steps | AUROC of support |"
    lines = [head, "|---" * 7 + "|"]
    for seed in seeds:
        for name in models:
            world, took = learn(name, dataset, seconds, seed)
            found = judged(world, dataset)
            cells = [
                name,
                str(seed),
                f"{took['updates']:,}",
                f"{took['seconds']:.0f}",
                " / ".join(f"{value:.3f}" for value in found["r2"].values()),
                " / ".join(f"{value:.3f}" for value in found["error"]),
                f"{found['auroc']:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def stepping(world: World, counts: tuple[int, ...] = (1, 64, 1024)) -> str:
    """Steps per second of dreams, compiled and as tensors."""
    head = "| dreams at once | compiled, steps/s | tensors | ratio |\n|---|---|---|---|"
    rows = []
    for count in counts:
        found = {
            name: steps_per_second(world, count, tensors)
            for name, tensors in (("compiled", False), ("tensors", True))
        }
        ratio = found["compiled"] / found["tensors"]
        told = f"{found['compiled']:,.0f} | {found['tensors']:,.0f} | {ratio:.1f}"
        rows.append(f"| {count:,} | {told} |")
    return "\n".join([head, *rows])


def steps_per_second(world: World, count: int, tensors: bool, rounds: int = 5) -> float:
    """Of the bare step with process noise, the best of some rounds."""
    dynamics, box = Dynamics(world), latent_box(world)
    model, generator = world.model, torch.Generator().manual_seed(0)
    states = dynamics.reset(count, generator).T.contiguous()
    actions = torch.zeros(count, model.action_spec.size)
    noise = dynamics.draw(1, count, generator)[0]
    given: tuple[Any, ...] = states.numpy(), actions.numpy(), noise
    if tensors:
        run: Any = TensorSteps(dynamics, box)
    else:
        run, reason = steps_of(dynamics, box)
        assert reason is True, reason
        given = (*given[:2], noise.numpy())
    repeats = max(5, 20_000 // (count + 100))
    taken = []
    with torch.inference_mode():
        for _ in range(rounds):
            begin = time.process_time()
            for _ in range(repeats):
                run(*given)
            taken.append(time.process_time() - begin)
    return count * repeats / min(taken)


def main(
    parts: tuple[Part, ...] = ("speed", "stepping", "quality"),
    models: tuple[str, ...] = ("dvbf", "rssm", "ekvae"),
    seeds: tuple[int, ...] = (0, 1, 2),
    seconds: float = 150,
    folder: Path = Path("runs/benchmark-rssm"),
    smoke: bool = False,
) -> None:
    """Run the benchmark.

    Args:
        parts: What is measured.
        models: Whose predictions are compared.
        seeds: Of the models.
        seconds: That each is trained, of one core.
        folder: Where the data go.
        smoke: Whether to try all of it in a minute; the numbers then say nothing.
    """
    torch.set_num_threads(1)
    if smoke:
        seeds, seconds = seeds[:1], 1.0
    data_folder = folder / ("smoke" if smoke else "data")
    if "speed" in parts:
        print(speed(*((1, 1) if smoke else (7, 3))), flush=True)
    if "stepping" in parts:
        world, _ = learn("rssm", recorded(data_folder, smoke), 1.0, 0)
        print(stepping(world), flush=True)
    if "quality" in parts:
        print(quality(data_folder, models, seeds, seconds, smoke))


if __name__ == "__main__":
    tyro.cli(main)

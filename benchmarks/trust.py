"""How far the bundled models' dreams can be believed: coverage, ranking and cost of the bounds.

    make benchmark-trust
    python benchmarks/trust.py --systems RUN RUN --block trust-others

The models are those that ship, with the bounds that they ship with; they are asked about the real
systems under smooth, square, held and random actions, under several seeds of these, none of which
was calibrated on. Writes the table into docs/results.md and the pictures beside the others.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from seeds import write_block

import envs  # noqa: F401 (registers the environments that ship)
from worldmodel import load
from worldmodel.evaluation.trust import joined, record_probes, trust_report
from worldmodel.plots.trust import ROWS, trust_figure, written
from worldmodel.types import Batch
from worldmodel.world.believed import BAD
from worldmodel.world.consistency import Consistency, innovations, shown_better
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.stepping import steps_of
from worldmodel.world.trust import TrustConfig
from worldmodel.world.world import World

IMAGES = Path(__file__).parents[1] / "docs" / "images"
# By table: of others some last for few steps.
HORIZONS = {"trust": (10, 20, 30), "trust-others": (1, 5, 10, 20, 30)}
# Beyond those of calibration.
FIRST_SEED = 2_000_000


def main(
    systems: tuple[str, ...] = ("pendulum", "ball"),
    seeds: int = 3,
    episodes: int = 200,
    out: Path = Path("runs/benchmark-trust"),
    block: Literal["trust", "trust-others"] = "trust",
) -> None:
    """Judge models' bounds.

    Args:
        systems: Names of bundled models, or run folders that ``worldmodel calibrate`` was asked of.
        seeds: Of the actions.
        episodes: Of every probe under every seed.
        out: Where the numbers go.
        block: Which table of the results to write; "trust", of the bundled ones, has pictures.
    """
    torch.set_num_threads(1)
    reports: dict[str, list[dict[str, Any]]] = {}
    costs: dict[str, float] = {}
    filters: dict[str, tuple[float, float]] = {}
    for name in systems:
        world, config = load(name), TrustConfig()
        steps = config.steps + config.looks - 1
        for seed in range(seeds):
            first = FIRST_SEED + 100 * seed
            probes, _ = record_probes(world.require_source(), world, episodes, steps, first)
            reports.setdefault(name, []).append(trust_report(world, probes, seed=seed))
        costs[name] = cost(name)
        probes, _ = record_probes(world.require_source(), world, episodes, 100, FIRST_SEED - 100)
        filters[name] = lost(world, joined(probes), False), lost(world, joined(probes), True)
        if block == "trust":
            trust_figure(reports[name][0], IMAGES / f"trust_{name}.png")
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(
        json.dumps({"reports": reports, "cost": costs, "filters": filters}, indent=2)
    )
    text = "\n\n".join(
        table(title(name), parts, costs[name], filters[name], HORIZONS[block])
        for name, parts in reports.items()
    )
    print(text)
    command = "make benchmark-trust" if block == "trust" else "python benchmarks/trust.py"
    under = f"seeds 0 to {seeds - 1}" if seeds > 1 else "seed 0"
    said = f"`{command}`, {episodes} episodes of each probe, {under}"
    write_block(block, f"{said}; torch {torch.__version__}.\n\n{text}")


def title(name: str) -> str:
    """A bundled model's name, or the environment that a run is of."""
    return load(name).require_source().env_id if Path(name).is_dir() else name


def table(
    name: str,
    reports: list[dict[str, Any]],
    cost: float,
    filters: tuple[float, float],
    horizons: tuple[int, ...],
) -> str:
    """Markdown of one model: all probes together, and coverage by probe; medians over seeds."""
    lines = [f"| **{name}**, steps dreamt | {' | '.join(map(str, horizons))} |"]
    lines.append("|---" * (1 + len(horizons)) + "|")

    def row(title: str, parts: list[dict[str, Any]], key: str, how: str) -> str:
        cells = []
        for horizon in horizons:
            told = [dict(zip(part["horizons"], part[key], strict=True)) for part in parts]
            known = [each[horizon] for each in told if each.get(horizon) is not None]
            cells.append(written(float(np.median(known)) if known else None, how))
        return f"| {title} | {' | '.join(cells)} |"

    everything = [report["all"] for report in reports]
    lines += [row(title.strip(), everything, key, how) for title, key, how in ROWS]
    for probe in reports[0]["probes"]:
        parts = [report["probes"][probe] for report in reports]
        lines.append(row(f"bound holds, {probe} actions", parts, "covered", ".1%"))
        lines.append(row(f"AUROC by the bound, {probe} actions", parts, "auroc", ".3f"))
    believable = [part["believable"] for part in everything]
    lines.append(f"\nSteps until the median bound exceeds 10 %: {np.median(believable):.0f}. ")
    lines[-1] += f"A vector dream of 1,024 with bounds steps {cost:.2f} times as fast as without. "
    lines[-1] += (
        f"Frames 10 to 100 that the live filter predicts worse than 10 %: {filters[0]:.1%} if it "
        f"is left alone, {filters[1]:.1%} if it begins anew when frames contradict it twice."
    )
    return "\n".join(lines)


@torch.no_grad()
def lost(world: World, batch: Batch, watched: bool) -> float:
    """Fraction of frames from the tenth on that a filter predicts badly, one step ahead."""
    model, judge = world.model, Consistency(world, len(batch))
    start, none = batch.observations[:, :1], batch.actions[:, :0]
    belief, bad, counted = model.initial(start, none), [], batch.mask.numpy()[:, 10:]
    for t in range(batch.steps):
        control, frame = batch.actions[:, t], batch.observations[:, t + 1]
        lost = judge.judge(innovations(world, belief.mean, control, frame))
        bad.append(~(judge.innovation <= BAD))
        belief = model.update(belief, control, frame)
        if watched and lost.any():
            fresh = model.initial(batch.observations[:, t + 1 : t + 2], none)
            lost &= shown_better(world, fresh.mean, belief.mean, frame)
            belief = fresh.where(torch.from_numpy(lost), belief)
    return float(np.stack(bad, 1)[:, 10:][counted].mean()) if counted.any() else 0.0


def cost(name: str, count: int = 1024, rounds: int = 15, steps: int = 200) -> float:
    """Steps per second of the dream with bounds over without, median of interleaved rounds."""
    world = load(name)
    dynamics, box = Dynamics(world), latent_box(world)
    assert world.trust is not None, "the bundled models have bounds"
    bounded, plain = (steps_of(dynamics, box, trusted)[0] for trusted in (True, False))
    states = np.ascontiguousarray(np.resize(world.support.states.numpy(), (count, len(box.low))).T)
    memory = np.ascontiguousarray(world.trust.begin(count).T.numpy())
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((dynamics.draws, count)).astype(np.float32)
    low, high = world.model.action_spec.low, world.model.action_spec.high
    actions = generator.uniform(low, high, (count, len(low))).astype(np.float32)
    ratios = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(steps):
            bounded(states, actions, noise, memory)
        middle = time.perf_counter()
        for _ in range(steps):
            plain(states, actions, noise)
        ratios.append((time.perf_counter() - middle) / (middle - begin))
    return float(np.median(ratios))


if __name__ == "__main__":
    tyro.cli(main)

"""What is gained by recording what a model asks for, instead of more of the same.

    make benchmark-asked

The bundled models say what to record next, as `worldmodel evaluate` does, about a tenth as many
frames as they were trained on. Training then goes on from their weights, as by `worldmodel train
--warm`, once with these frames added and once with as many of babbling, all else alike; both are
asked about the real systems under probes that neither of them saw. Writes a table into
docs/results.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from seeds import write_block

import envs  # noqa: F401 (registers the environments that ship)
from worldmodel import data, load
from worldmodel.cli.demo import babble, settings
from worldmodel.data.fulfilling import fulfil
from worldmodel.errors import require_at_least
from worldmodel.evaluation.requests import ask
from worldmodel.evaluation.trust import probe_seeds, record_probes
from worldmodel.models.registry import registered
from worldmodel.training.trainer import Trainer
from worldmodel.types import Batch
from worldmodel.world.calibration import rollouts
from worldmodel.world.trust import TrustConfig
from worldmodel.world.world import World

FRACTION = 0.1
# Of probes that requests are made from, and of those that are asked about afterwards.
ASKED, HELD_OUT = 1_000_000, 3_000_000
# Episodes of every probe.
FEW, MANY = 100, 200
ARMS = ("babbling", "requests")
UPDATES = {"pendulum": 1000, "ball": 600}
CONFIG = TrustConfig()
STEPS = CONFIG.steps + CONFIG.looks - 1


def main(
    systems: tuple[str, ...] = ("pendulum", "ball"),
    seeds: tuple[int, ...] = (0,),
    updates: int | None = None,
    out: Path = Path("runs/benchmark-asked"),
) -> None:
    """Run what has not been run yet.

    Args:
        systems: Names of bundled models.
        seeds: Of probes, babbling and training.
        updates: That training goes on for; by default 1,000 of the pendulum and 600 of the ball,
            whose batches are four times as large.
        out: Where data, runs and numbers go.
    """
    require_at_least(1, updates=updates or 1)
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name in systems:
        world = load(name)
        held_out, _ = record_probes(world.require_source(), world, MANY, STEPS, HELD_OUT)
        rows = {"as bundled": [judged(name, world, held_out)]}
        count = updates or UPDATES[name]
        for arm in ARMS:
            rows[arm] = [
                cached(out / f"{name}_{seed}_{arm}", name, arm, seed, count, held_out)
                for seed in seeds
            ]
        found[name] = rows
        print(table(name, rows), flush=True)
    tables = "\n\n".join(table(name, rows) for name, rows in found.items())
    said = f"`make benchmark-asked`, {MANY} episodes of each probe, seeds"
    told = f"{said} {' '.join(map(str, seeds))}; torch {torch.__version__}."
    write_block("asked", f"{told}\n\n{tables}")


def cached(
    folder: Path, name: str, arm: str, seed: int, updates: int, held_out: Mapping[str, Batch]
) -> dict[str, float]:
    """What was measured of a run, or is now."""
    file = folder / "metrics.json"
    if not file.exists():
        world = trained(folder, name, arm, seed, updates)
        file.write_text(json.dumps(judged(name, world, held_out), indent=2))
        print(file, file.read_text(), flush=True)
    return json.loads(file.read_text())


def trained(folder: Path, name: str, arm: str, seed: int, updates: int) -> World:
    """The bundled model after training on more data."""
    config = settings(name)
    path = folder / "data"
    data.save(babble(config), path)
    grown = more(load(name), path, arm, seed)
    print(folder, grown.frames("train"), "frames", flush=True)
    model = registered(load(name).model)
    train = replace(config.train.warmed(), updates=updates, seed=seed, patience=0)
    trainer = Trainer(
        model.requires_grad_(True), grown, train, folder, config.preset, path, warm=True
    )
    return trainer.fit()


def more(world: World, path: Path, arm: str, seed: int) -> data.Dataset:
    """The dataset with a tenth more of frames."""
    recorded, source = data.load(path), world.require_source()
    frames = int(FRACTION * recorded.frames("train"))
    if arm == "babbling":
        steps = recorded.train.steps
        splits = {"train": data.SplitConfig(frames // (steps + 1), steps)}
        babbled = data.collect(source.env_id, source.env_kwargs, splits=splits, seed=1000 + seed)
        with data.DatasetWriter(path) as writer:
            for part in babbled.train.parts:
                for i in range(len(part.lengths)):
                    writer.write_arrays(part.rows(i), "train", actor="uniform")
        return data.load(path)
    first = ASKED + 1000 * seed
    probes, _ = record_probes(source, world, FEW, STEPS, first)
    sample = recorded.train.sample()
    known = world.filter(sample.observations.numpy(), sample.actions.numpy())
    known = known[sample.frame_mask.numpy()]
    requests = ask(world, source, probes, probe_seeds(probes, first), known, frames)
    requests.write(path.parent / "requests.json")
    return fulfil(requests, path)


def judged(name: str, world: World, held_out: Mapping[str, Batch]) -> dict[str, float]:
    """Errors of dreams of 50 steps, as fractions of the variance that the bundled model knows."""
    known = load(name).trust
    assert known is not None, "the bundled models have bounds"
    world.model.eval()
    errors = {
        probe: rollouts(world, batch, CONFIG, variance=known.variance).errors[..., 0].numpy()
        for probe, batch in held_out.items()
    }
    every = np.concatenate(list(errors.values()))
    found = {f"{probe} actions": float(e.mean()) for probe, e in errors.items()}
    return {
        "mean of all 50 steps": float(every.mean()),
        **{f"after {h} steps": float(every[:, h - 1].mean()) for h in (10, 30, 50)},
        "after 50 steps, median": float(np.median(every[:, -1])),
        "bad after 50 steps": float((every[:, -1] > 0.1).mean()),
        **found,
    }


def table(name: str, rows: Mapping[str, list[dict[str, float]]]) -> str:
    """Markdown: medians over seeds, and what requests leave of the error that babbling leaves."""
    lines = [f"| **{name}** | {' | '.join(rows)} | ratio |", "|---" * (len(rows) + 2) + "|"]
    for key in rows["as bundled"][0]:
        values = {arm: [each[key] for each in found] for arm, found in rows.items()}
        cells = [f"{np.median(value):.1%}" for value in values.values()]
        ratio = np.median([b / a for a, b in zip(*(values[arm] for arm in ARMS), strict=True)])
        lines.append(f"| {key} | {' | '.join(cells)} | {ratio:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(main)

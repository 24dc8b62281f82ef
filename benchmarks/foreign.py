"""Small systems that others rendered, learned from pixels by the default preset.

    make benchmark-foreign
    python benchmarks/foreign.py --systems pendulum acrobot --seeds 0
    python benchmarks/foreign.py --systems pendulum --models dvbf rssm ekvae
    python benchmarks/foreign.py --smoke

Each run records its own data, trains and is measured by the command line as a user types it: no
flag but the environment, the side of its pictures and how much is recorded. Then predictions are
judged under actions drawn in ways that nothing was trained on. Runs that are done are not done
again, nor are those that failed: delete their folders. Tables go to docs/results.md; where other
models than the default are asked for, they are printed only.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shlex
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import tyro
from foreign_systems import FOREIGN, Foreign
from foreign_tables import summary, tables
from foreign_unseen import film, fractions, under_unseen_actions
from measured import run_measured
from seeds import write_block

from worldmodel import data, load
from worldmodel.errors import WorldModelError, require_extra
from worldmodel.evaluation.shortcomings import shortcomings
from worldmodel.files import read_json, write_json

HERE = Path(__file__).parent
# The model that is trained if nobody names one.
DEFAULT = "dvbf"
# MuJoCo draws without a display, and the software renderer with one thread like everything else.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "LP_NUM_THREADS": "1",
    "SDL_VIDEODRIVER": "dummy",
    "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl"),
    "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
}


def commands(
    system: Foreign, model: str, seed: int, folder: Path, updates: int | None
) -> dict[str, list[str]]:
    """What a user would type, by stage."""
    recorded, run = str(folder / "data"), str(folder / "run")
    sizes = {"episodes": system.episodes, "held-out": system.held_out, "steps": system.steps}
    collect = ["collect", system.env_id, "--out", recorded, "--pixels", "--resize"]
    collect += [str(system.side), "--process", system.process, "--num-envs", "1"]
    for flag, value in {**sizes, "test-steps": system.steps, "seed": seed}.items():
        collect += [f"--{flag}", str(value)]
    if system.env_kwargs:
        collect += ["--env-kwargs", json.dumps(system.env_kwargs)]
    train = ["train", recorded, "--run", run, "--seed", str(seed), "--no-tensorboard"]
    train += [] if model == DEFAULT else ["--model", model]
    train += [] if updates is None else ["--updates", str(updates)]
    evaluate = ["evaluate", run, "--seed", str(seed), "--out", str(folder / "evaluation")]
    return {"collect": collect, "train": train, "evaluate": evaluate}


def run(name: str, model: str, seed: int, folder: Path, smoke: int | None) -> dict[str, Any]:
    """One system under one seed; its metrics, also written.

    Args:
        name: Of the system.
        model: Name of the model.
        seed: Of data and model.
        folder: Of this run.
        smoke: Updates of a smoke run; None for a whole one.
    """
    torch.set_num_threads(1)
    os.environ.update(ENVIRONMENT)
    system = FOREIGN[name] if smoke is None else FOREIGN[name].brief()
    typed = commands(system, model, seed, folder, smoke)
    metrics: dict[str, Any] = {
        "system": name if model == DEFAULT else f"{name}, {model}",
        "seed": seed,
        "smoke": smoke is not None,
        "command": shlex.join([sys.executable, *sys.argv]),
        "typed": {stage: shlex.join(["worldmodel", *words]) for stage, words in typed.items()},
        "versions": data.installed_versions(),
    }
    try:
        metrics["taken"] = carry_out(typed, folder)
        metrics |= measure(system, seed, folder)
    except (WorldModelError, ValueError, RuntimeError) as error:
        metrics["error"] = f"{type(error).__name__}: {error}"
    write_json(folder / "metrics.json", metrics)
    return metrics


class StageFailed(WorldModelError, RuntimeError):
    """A command did not end as it should."""


def carry_out(typed: dict[str, list[str]], folder: Path) -> dict[str, Any]:
    """Run the stages that are not done yet, and tell what each of them took.

    Raises:
        StageFailed: One failed; the message is the last of what it said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done, log = folder / "taken.json", folder / "log.txt"
    taken = read_json(done) if done.exists() else {}
    for stage, words in typed.items():
        if stage in taken:
            continue
        if stage == "train":
            # What a killed run has learned is not gone on from: its time would be lost.
            shutil.rmtree(folder / "run", ignore_errors=True)
        one = run_measured([sys.executable, "-m", "worldmodel.cli", *words], log, ENVIRONMENT)
        if one.status:
            said = log.read_text().strip().splitlines()
            raise StageFailed(f"{stage} failed: {' '.join(said[-3:])}")
        taken[stage] = one.plain()
        write_json(done, taken)
    return taken


def measure(system: Foreign, seed: int, folder: Path) -> dict[str, Any]:
    """What was measured, and the settings and data that it was measured with."""
    world, recorded = load(folder / "run"), data.load(folder / "data")
    evaluated = read_json(folder / "evaluation" / "metrics.json")
    lengths = {name: recorded.split(name).lengths.tolist() for name in recorded.splits}
    test = recorded.test.padded()
    film(world, test, folder / "film.gif")
    return {
        **evaluated,
        "shortcomings": shortcomings(evaluated),
        "fraction": {"babbling": fractions(evaluated, test, system.enough)}
        | under_unseen_actions(world, system, seed),
        "reached": test.frame_mask.sum(0).tolist(),
        "enough": system.enough,
        "frames": {name: recorded.frames(name) for name in recorded.splits},
        "episode_steps": {name: [min(n), max(n)] for name, n in lengths.items()},
        "film_bytes": (folder / "film.gif").stat().st_size,
        "settings": read_json(folder / "run" / "settings.json"),
        "provenance": asdict(recorded.provenance),
    }


def main(
    systems: tuple[str, ...] = tuple(FOREIGN),
    models: tuple[str, ...] = (DEFAULT,),
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    folder: Path = Path("runs/benchmark-foreign"),
    parallel: int = 2,
    smoke: bool = False,
    smoke_updates: int = 200,
) -> None:
    """Run the benchmark.

    Args:
        systems: Names from ``foreign_systems.py``.
        models: Names, each with the settings that are chosen for pictures.
        seeds: Of data and models.
        folder: Where the runs go.
        parallel: Processes at a time, of one thread each.
        smoke: Whether to try one seed with a tenth of the data and few updates: what comes out says
            that all of it runs, and is printed only.
        smoke_updates: How many.
    """
    if unknown := set(systems) - FOREIGN.keys():
        raise SystemExit(f"unknown {sorted(unknown)}; there are {list(FOREIGN)}")
    for module in ("shimmy", "dm_control", "Box2D", "mujoco"):
        require_extra(module, "foreign")
    folder = folder / "smoke" if smoke else folder
    seeds = seeds[:1] if smoke else seeds
    runs, waiting = [], []
    # Not forked, since a copy of a process with threads may hang; and none is used twice, since
    # renderers keep what they once had.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(parallel, mp_context=spawn, max_tasks_per_child=1) as pool:
        for seed in seeds:
            for name, model in itertools.product(systems, models):
                path = folder / name / ("" if model == DEFAULT else model) / f"seed_{seed}"
                if (path / "metrics.json").exists():
                    runs.append(read_json(path / "metrics.json"))
                else:
                    updates = smoke_updates if smoke else None
                    waiting.append(pool.submit(run, name, model, seed, path, updates))
        for done in as_completed(waiting):
            runs.append(done.result())
            print(summary(runs[-1]), flush=True)
    text = tables(runs)
    print(text)
    if not smoke and models == (DEFAULT,):
        said = f"`make benchmark-foreign`, seeds {', '.join(map(str, seeds))}"
        write_block("foreign", f"{said}; torch {runs[0]['versions']['torch']}.\n\n{text}")


if __name__ == "__main__":
    tyro.cli(main)

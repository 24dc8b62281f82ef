"""Learning online, from state: how many real steps an agent needs, system by system, seed by seed.

    python benchmarks/online.py --seeds 0 1 2 3 4

A step that an agent takes counts, times how often the environment repeats it, those of random
actions and of validation episodes included; evaluations, which nothing is learned from, do not.
Seeds that are done are not done again; tables go to docs/results.md, curves beside the runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from seeds import Row, table, write_block

from worldmodel.data import Source, Wrapping
from worldmodel.data.environments import observed
from worldmodel.online.config import OnlineConfig, online_for
from worldmodel.online.learn import learn
from worldmodel.plots.learning import learning_curve, read_progress
from worldmodel.spaces import ActionSpace


@dataclass(frozen=True)
class Case:
    """A system, the clean return that is asked for, and within how many real steps.

    Attributes:
        source: Of the environment.
        goal: Least mean clean return.
        steps: Real steps in all.
        changes: Of the default settings.
    """

    source: Source
    goal: float
    steps: int
    changes: dict[str, Any] = field(default_factory=dict)

    def settings(self, seed: int) -> OnlineConfig:
        """The defaults of such a system but for the changes, judged after every round."""
        env = self.source.make()
        spaces = observed(env.observation_space), ActionSpace.from_space(env.action_space)
        env.close()
        judged = {"evaluate_every": 1, "evaluate_episodes": 10, "film_every": 0}
        return replace(online_for(*spaces), seed=seed, **judged, **self.changes)


def _suite(task: str, repeat: int) -> Source:
    return Source(f"shimmy:dm_control/{task}-v0", wrapping=Wrapping(frame_skip=repeat))


CASES = {
    "Pendulum-v1": Case(Source("Pendulum-v1"), -160.0, 2000),
    "CartPole-v1": Case(Source("CartPole-v1"), 475.0, 5000),
    "Acrobot-v1": Case(Source("Acrobot-v1"), -100.0, 10_000),
    "MountainCarContinuous-v0": Case(
        Source("MountainCarContinuous-v0"), 90.0, 20_000, {"intrinsic": "disagreement"}
    ),
    "InvertedPendulum-v5": Case(Source("InvertedPendulum-v5"), 950.0, 10_000),
    "cartpole-swingup": Case(_suite("cartpole-swingup", 8), 800.0, 25_000),
    "reacher-easy": Case(_suite("reacher-easy", 4), 937.0, 50_000),
    "ball-in-cup": Case(_suite("ball_in_cup-catch", 4), 950.0, 50_000),
    "pendulum-swingup": Case(_suite("pendulum-swingup", 4), 724.0, 50_000),
    "Hopper-v5": Case(Source("Hopper-v5"), 1000.0, 50_000),
}


def measured(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """A run, or what is left of it to do; and what came of it."""
    case, run = CASES[name], folder / f"{name}-{seed}"
    repeat = case.source.wrapping.frame_skip
    begun = time.process_time()
    rows = read_progress(run)
    if not rows or rows[-1]["real_steps"] * repeat < case.steps:
        learn(case.source, run, case.steps // repeat, case.settings(seed))
        rows = read_progress(run)
    clean = [(row["real_steps"] * repeat, row["clean_return"], row["seconds"]) for row in rows]
    clean = [row for row in clean if row[1] is not None]
    reached = [row for row in clean if row[1] >= case.goal]
    return {
        "seed": seed,
        "steps_to_goal": reached[0][0] if reached else float("inf"),
        "best": max(row[1] for row in clean),
        "last": clean[-1][1],
        "seconds": clean[-1][2],
        "cpu_seconds": time.process_time() - begun,
    }


def rows(case: Case) -> tuple[Row, ...]:
    """What is reported."""
    return (
        Row(f"real steps to {case.goal:g}", "steps_to_goal", False, f"≤ {case.steps:,}"),
        Row("clean return at the end", "last", True, f"≥ {case.goal:g}"),
        Row("best clean return", "best", True),
        Row("seconds, evaluations included", "seconds", False),
    )


def main(
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    systems: tuple[str, ...] = tuple(CASES),
    out: Path = Path("runs/online"),
    write: bool = True,
    threads: int = 1,
) -> None:
    """Run all systems under all seeds.

    Args:
        seeds: Of everything.
        systems: Of ``CASES``.
        out: Folder for the runs and the curves.
        write: Whether to put the tables in the results.
        threads: Of torch.
    """
    torch.set_num_threads(threads)
    for name in systems:
        runs = []
        for seed in seeds:
            runs.append(measured(name, seed, out))
            Console().print(runs[-1])
        curves = {f"seed {seed}": read_progress(out / f"{name}-{seed}") for seed in seeds}
        learning_curve(curves, out / f"{name}.png", CASES[name].goal)
        text = table(rows(CASES[name]), runs)
        Console().print(text)
        if write:
            said = f"`{name}`, seeds {', '.join(map(str, seeds))}, 20 episodes an evaluation:"
            write_block(f"online {name}", f"{said}\n\n{text}")


if __name__ == "__main__":
    tyro.cli(main)

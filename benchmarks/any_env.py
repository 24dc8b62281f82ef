"""Agents trained in the dream alone, on vectors of environments from elsewhere, seed by seed.

Every step that an environment is ever babbled with counts: training, validation and test data.

    python benchmarks/any_env.py --seeds 0 1 2 3 4

Seeds that are done are not done again; the table goes to docs/results.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from seeds import Row, table, write_block

from agents.evaluation import compare
from agents.pathwise import PathwiseConfig, train_policy
from agents.verdict import judge
from worldmodel import data
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.files import write_json
from worldmodel.models.dvbf import DVBF
from worldmodel.systems import preset, preset_for
from worldmodel.training.trainer import Trainer
from worldmodel.world.members import Members, filtered_transitions

BUDGET = 10_000
MODELS = 5  # of the same data, whose dreams make the verdict's intervals


@dataclass(frozen=True)
class Case:
    """How one environment is babbled with, and the return that is asked for.

    Attributes:
        splits: Episodes and steps; what ends early leaves some of the budget unused.
        process: How actions are drawn.
        goal: Least mean real return.
        steps: Real steps per episode that the agent is judged on.
    """

    splits: dict[str, data.SplitConfig]
    process: data.ActionProcess
    goal: float
    steps: int


CASES = {
    "Pendulum-v1": Case(data.default_splits(160, 50, 50, 20), data.Held(), -200.0, 200),
    "CartPole-v1": Case(data.default_splits(330, 100, 100, 40), data.Uniform(), 475.0, 500),
    # Needs the extra [mujoco].
    "InvertedPendulum-v5": Case(data.default_splits(800, 100, 100, 100), data.Uniform(), 950, 1000),
}


def measured(env_id: str, seed: int, folder: Path, episodes: int) -> dict[str, Any]:
    """What ``measure`` gave, kept in the run's folder."""
    run = folder / f"{env_id}-{seed}"
    if not (run / "result.json").exists():
        write_json(run / "result.json", measure(env_id, seed, run, episodes))
    return json.loads((run / "result.json").read_text())


def measure(env_id: str, seed: int, run: Path, episodes: int) -> dict[str, Any]:
    """Babble, learn, dream and act once."""
    case = CASES[env_id]
    dataset = data.collect(env_id, None, case.process, case.splits, seed, num_envs=20)
    babbled = sum(int(dataset.split(name).lengths.sum()) for name in dataset.splits)
    assert babbled <= BUDGET, f"{babbled} steps were babbled, {BUDGET} are allowed"
    observations, actions = dataset.observation_spec, dataset.action_spec
    name = preset_for(observations, dataset.provenance.source)
    chosen = preset(name)
    model = DVBF(chosen.model("dvbf", observations), observations, actions, seed)
    training = replace(chosen.training(dataset), seed=seed, tensorboard=False)
    world = Trainer(model, dataset, training, run, name).fit()
    evaluation = evaluate(world, dataset, seed).metrics
    agent = chosen.acting(actions)
    assert isinstance(agent, PathwiseConfig), "environments from elsewhere have generic presets"
    policy, _ = train_policy(world, replace(agent, seed=seed))
    real = data.make_vec(env_id, episodes, {})
    members = Members(world.model, MODELS)
    members.fit(filtered_transitions(world.model, dataset.train.sample()), seed)
    others = world.alternatives(members)
    result = compare(policy, world, real, case.steps, seed + 1000, random=True, others=others)
    real.close()
    verdict = judge(world, result, case.goal)
    least, most = verdict["length_interval"]
    return {
        "env_id": env_id,
        "seed": seed,
        "babbled_steps": babbled,
        **result.metrics(),
        "least_steps": least,
        "most_steps": most,
        "verdict": verdict,
        "termination": evaluation.get("termination", {}),
    }


def rows(case: Case) -> tuple[Row, ...]:
    """What is reported of an environment."""
    return (
        Row("return in reality", "return_real", True, f"≥ {case.goal:g}"),
        Row("return in the dream", "return_dream", True),
        Row("steps in reality", "length_real", True),
        Row("steps in the dream", "length_dream", True),
        Row("the same until it leaves the data", "verdict.leaves_after", True),
        Row("steps at least, by all models", "least_steps", True),
        Row("at most", "most_steps", True),
        Row("right about the return", "verdict.right", True, "1 each"),
        Row("right about the steps", "verdict.length_right", True, "1 each"),
        Row("the dream alone right about both", "verdict.alone_right", True),
        Row("babbled steps", "babbled_steps", False, f"≤ {BUDGET:,}"),
    )


def main(
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    env_ids: tuple[str, ...] = tuple(CASES),
    out: Path = Path("runs/any_env"),
    episodes: int = 100,
    threads: int = 1,
) -> None:
    """Measure all environments under all seeds, and put the tables in the results.

    Args:
        seeds: Of data, model and agent.
        env_ids: Of ``CASES``.
        out: Folder for the runs.
        episodes: Real episodes that each agent is judged on.
        threads: Of torch.
    """
    torch.set_num_threads(threads)
    for env_id in env_ids:
        runs = []
        for seed in seeds:
            runs.append(measured(env_id, seed, out, episodes))
            Console().print(runs[-1])
        said = f"`{env_id}`, seeds {', '.join(map(str, seeds))}, {episodes} real episodes each"
        write_block(env_id, f"{said}:\n\n{table(rows(CASES[env_id]), runs)}")


if __name__ == "__main__":
    tyro.cli(main)

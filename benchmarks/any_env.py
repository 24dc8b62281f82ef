"""Agents trained in the dream alone, on vectors of environments from elsewhere, seed by seed.

Every step that an environment is ever babbled with counts: training, validation and test data.

    python benchmarks/any_env.py --seeds 0 1 2 3 4
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from agents.evaluation import compare
from agents.pathwise import suited_config, train_policy
from worldmodel import data
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.files import write_json
from worldmodel.models.dvbf import DVBF
from worldmodel.training.recipe import recipe
from worldmodel.training.trainer import Trainer

BUDGET = 10_000


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
}


def measure(env_id: str, seed: int, folder: Path, episodes: int) -> dict[str, Any]:
    """Babble, learn, dream and act once."""
    case = CASES[env_id]
    dataset = data.collect(env_id, None, case.process, case.splits, seed, num_envs=20)
    babbled = sum(int(split.mask.sum()) for split in dataset.splits.values())
    assert babbled <= BUDGET, f"{babbled} steps were babbled, {BUDGET} are allowed"
    sizes, training = recipe(dataset)
    fresh = DVBF(sizes, dataset.observation_spec, dataset.action_spec, seed)
    training = replace(training, seed=seed, tensorboard=False)
    model = Trainer(fresh, dataset, training, folder / f"{env_id}-{seed}").fit()
    evaluation = evaluate(model, dataset, seed).metrics
    policy, _ = train_policy(model, replace(suited_config(model), seed=seed))
    real = data.make_vec(env_id, episodes, {})
    result = compare(policy, model, real, case.steps, seed + 1000)
    real.close()
    return {
        "env_id": env_id,
        "seed": seed,
        "babbled_steps": babbled,
        "goal": case.goal,
        **result.metrics(),
        "termination": evaluation.get("termination", {}),
    }


def main(
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    env_ids: tuple[str, ...] = tuple(CASES),
    out: Path = Path("runs/any_env"),
    episodes: int = 100,
    threads: int = 1,
) -> None:
    """Measure all environments under all seeds and write OUT/results.json.

    Args:
        seeds: Of data, model and agent.
        env_ids: Of ``CASES``.
        out: Folder for runs and results; runs that are there are not trained again.
        episodes: Real episodes that each agent is judged on.
        threads: Of torch.
    """
    torch.set_num_threads(threads)
    results: list[dict[str, Any]] = []
    for env_id in env_ids:
        for seed in seeds:
            results.append(measure(env_id, seed, out, episodes))
            Console().print(results[-1])
            write_json(out / "results.json", {"results": results})


if __name__ == "__main__":
    tyro.cli(main)

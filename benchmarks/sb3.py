"""Stable-Baselines3 in the dream, judged in reality: the README's first example, run to its end.

    make benchmark-sb3
    python benchmarks/sb3.py --only pendulum-SAC --seeds 0 1

The pendulum and the ball are the bundled models. CartPole is observed as a vector, and learned anew
under every seed by the settings that suit it. Nothing is trained on reality but that model. Runs go
side by side in processes of their own, with one thread each; one that is done is not done again.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

import envs  # noqa: F401 (registers the environments that ship)
import worldmodel
from agents.evaluation import Comparison, compare
from agents.sb3 import train_sb3
from worldmodel import data
from worldmodel.files import write_json
from worldmodel.models.dvbf import DVBF
from worldmodel.systems import preset, preset_for, system_of
from worldmodel.training.trainer import Trainer

EPISODES = 100  # real ones that each agent is judged on
FULL = 500  # steps of an episode of CartPole-v1 that nobody ends


@dataclass(frozen=True)
class Case:
    """One algorithm in one dream.

    Attributes:
        world: A bundled name, or the environment that a model is learned of.
        algorithm: Of Stable-Baselines3.
        timesteps: Imagined steps over all dreams.
        num_envs: Dreams at once.
        settings: Further arguments of ``train_sb3``.
    """

    world: str
    algorithm: str
    timesteps: int
    num_envs: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What ``--only`` picks it by."""
        return f"{self.world}-{self.algorithm}"


_OFF_POLICY = {"gradient_steps": 4}
_PPO = {"n_steps": 64, "batch_size": 256, "gamma": 0.97, "learning_rate": 1e-3}
# RL Baselines3 Zoo's for CartPole-v1, whose 256 steps of one environment are 16 of 16.
_DQN = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1000,
    "target_update_interval": 16,
    "train_freq": 16,
    "gradient_steps": 128,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}
_DISCRETE = {"max_episode_steps": FULL, "gamma": 0.99}
CASES = (
    # As in the README.
    Case("pendulum", "SAC", 20_000, 16, _OFF_POLICY),
    Case("pendulum", "TD3", 20_000, 16, _OFF_POLICY),
    Case("pendulum", "PPO", 400_000, 64, _PPO),
    Case("ball", "SAC", 20_000, 16, _OFF_POLICY),
    Case("ball", "TD3", 20_000, 16, _OFF_POLICY),
    Case("ball", "PPO", 400_000, 64, _PPO),
    Case("CartPole-v1", "DQN", 50_000, 16, _DISCRETE | _DQN),
    Case("CartPole-v1", "PPO", 400_000, 64, _PPO | _DISCRETE),
)


def success(world: str, result: Comparison) -> float:
    """Fraction of real episodes that end as the task asks: upright, at the target, never fallen."""
    if world == "CartPole-v1":
        return float((result.real.lengths == FULL).mean())
    metrics = system_of(worldmodel.load(world).source.env_id).task_metrics(result.real)
    return metrics["upright_fraction" if world == "pendulum" else "at_target_fraction"]


def learn(env_id: str, seed: int, folder: Path) -> float:
    """Learn a model by the settings that suit it, unless it is there; CPU seconds it took."""
    torch.set_num_threads(1)
    begin = time.process_time()
    splits = data.default_splits(330, 100, 100, 40)
    dataset = data.collect(env_id, splits=splits, seed=seed, num_envs=20)
    chosen = preset(preset_for(dataset.observation_spec))
    sizes, training = chosen.model("dvbf", dataset.observation_spec), chosen.training(dataset)
    fresh = DVBF(sizes, dataset.observation_spec, dataset.action_spec, seed)
    training = replace(training, seed=seed, tensorboard=False)
    Trainer(fresh, dataset, training, folder).fit(progress=False)
    return time.process_time() - begin


def run(case: Case, seed: int, model_from: str, path: Path) -> dict[str, Any]:
    """Train one agent in the dream and act with it in reality; its metrics, also written."""
    torch.set_num_threads(1)
    world = worldmodel.load(model_from)
    begin = time.process_time()
    agent = train_sb3(
        world,
        case.algorithm,
        case.timesteps,
        case.num_envs,
        seed=seed,
        progress=False,
        **case.settings,
    )
    seconds = time.process_time() - begin
    assert world.source is not None, "a trained world knows its environment"
    real = world.source.make_vec(EPISODES)
    options = system_of(world.source.env_id).task_start(EPISODES, seed)
    steps = FULL if case.world == "CartPole-v1" else 100
    result = compare(agent, world, real, steps, seed, options)
    real.close()
    metrics = result.metrics() | {
        "case": case.name,
        "seed": seed,
        "success": success(case.world, result),
        "cpu_seconds": seconds,
    }
    write_json(path, metrics)
    return metrics


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a line per case, every seed in each cell."""
    head = ("dream", "algorithm", "success", "return in reality", "in the dream", "CPU s")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for case in CASES:
        ours = sorted((r for r in runs if r["case"] == case.name), key=lambda r: r["seed"])
        if not ours:
            continue
        columns = ("success", "return_real", "return_dream", "cpu_seconds")
        formats = ("{:.2f}", "{:.4g}", "{:.4g}", "{:.0f}")
        cells = [
            " ".join(form.format(r[column]) for r in ours)
            for column, form in zip(columns, formats, strict=True)
        ]
        said = f"{case.algorithm}, {case.timesteps:,} steps"
        lines.append(f"| {' | '.join([case.world, said, *cells])} |")
    return "\n".join(lines)


def main(
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    only: tuple[str, ...] = (),
    folder: Path = Path("runs/benchmark-sb3"),
    parallel: int = 2,
) -> None:
    """Run the benchmark; the table is printed and written to ``table.md`` in the folder.

    Args:
        seeds: Of the agents, of the real starts, and of the models that are learned here.
        only: Names of cases, such as pendulum-SAC; all by default.
        folder: Where the runs go.
        parallel: Processes at a time.
    """
    cases = [case for case in CASES if not only or case.name in only]
    if unknown := set(only) - {case.name for case in CASES}:
        raise SystemExit(f"unknown {sorted(unknown)}; there are {[case.name for case in CASES]}")
    # Not forked: a copy of a process with threads may hang.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(parallel, mp_context=spawn) as pool:
        models = _models(cases, seeds, folder, pool)
        runs, waiting = [], {}
        for seed in seeds:
            for case in cases:
                path = folder / case.name / f"seed_{seed}.json"
                if path.exists():
                    runs.append(json.loads(path.read_text()))
                    continue
                waiting[pool.submit(run, case, seed, models[case.world, seed], path)] = case
        for done in as_completed(waiting):
            runs.append(done.result())
            _tell(runs[-1])
    text = table(runs)
    (folder / "table.md").write_text(text + "\n")
    print(text)
    print(f"median CPU seconds {np.median([r['cpu_seconds'] for r in runs]):.0f}")


def _models(
    cases: list[Case], seeds: tuple[int, ...], folder: Path, pool: ProcessPoolExecutor
) -> dict[tuple[str, int], str]:
    """What to load by world and seed; what does not ship is learned first."""
    models, waiting = {}, {}
    for world in {case.world for case in cases}:
        for seed in seeds:
            if "-v" not in world:
                models[world, seed] = world
                continue
            run = folder / f"{world}-{seed}"
            models[world, seed] = str(run)
            waiting[pool.submit(learn, world, seed, run)] = (world, seed)
    for done in as_completed(waiting):
        world, seed = waiting[done]
        print(f"{world}, seed {seed}: model learned in {done.result():.0f} CPU s", flush=True)
    return models


def _tell(run: dict[str, Any]) -> None:
    print(
        f"{run['case']}, seed {run['seed']}: success {run['success']:.2f}, "
        f"return {run['return_real']:.4g} in reality, {run['return_dream']:.4g} in the dream, "
        f"{run['cpu_seconds']:.0f} CPU s",
        flush=True,
    )


if __name__ == "__main__":
    tyro.cli(main)

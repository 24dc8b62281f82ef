"""The main job, end to end: babble, learn, dream, act."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console

import envs  # noqa: F401 (registers the environments that ship)
from agents.evaluation import Comparison, compare
from agents.pathwise import PathwiseConfig, Policy, train_policy
from worldmodel import data
from worldmodel.cli.systems import PENDULUM
from worldmodel.cli.table import print_results
from worldmodel.evaluation.evaluate import Evaluation, evaluate
from worldmodel.evaluation.figures import write_all
from worldmodel.files import write_json
from worldmodel.models.base import StateSpaceModel
from worldmodel.models.dvbf import DVBF, DVBFConfig
from worldmodel.training.trainer import TrainConfig, Trainer
from worldmodel.viewer.film import dream_film, side_by_side, write_gif

ENV_ID = "worldmodel/Pendulum-v0"


@dataclass(frozen=True)
class DemoConfig:
    """The pendulum's demo.

    Attributes:
        out: Run folder. Killed and started again, training goes on where it was.
        seed: Of everything random.
        threads: Of torch.
        model: Sizes.
        train: How the model is trained; its seed is ``seed``.
        agent: How the agent is trained; its seed is ``seed``.
        episodes: Real episodes, each from a start of its own, that the agent is judged on.
        films: Whether to draw figures and films.
    """

    out: Path = Path("runs/pendulum")
    seed: int = 0
    threads: int = 2
    model: DVBFConfig = field(default_factory=DVBFConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    agent: PathwiseConfig = field(default_factory=PathwiseConfig)
    episodes: int = 100
    films: bool = True


class Stopwatch:
    """Announces stages and keeps the seconds each took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str, text: str) -> Iterator[None]:
        """Time one stage."""
        self.console.rule(f"[bold]{text}", align="left")
        begin = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - begin


def demo(config: Annotated[DemoConfig, tyro.conf.arg(name="")] = DemoConfig()) -> dict[str, Any]:
    """Learn to simulate a pendulum from its pixels, and swing it up without having touched it.

    Args:
        config: See its fields.

    Returns:
        What is also written to ``metrics.json``.
    """
    console = Console()
    torch.set_num_threads(config.threads)
    watch = Stopwatch(console)
    with watch("collect", "1  babble: record the real pendulum under random torques"):
        dataset = data.collect(ENV_ID, num_envs=500, seed=config.seed, progress=True)
        frames = dataset.frames("train")
        console.print(f"{frames:,} frames to learn from, {frames / 10 / 60:.0f} minutes")
    with watch("train", "2  learn: fit the Deep Variational Bayes Filter"):
        fresh = DVBF(config.model, dataset.observation_spec, dataset.action_spec, config.seed)
        settings = replace(config.train, seed=config.seed)
        trainer = Trainer(fresh, dataset, settings, config.out)
        # Only now: the trainer refuses a folder that holds a run on other data.
        data.save(dataset, config.out / "data.npz")
        model = trainer.fit()
    with watch("evaluate", "3  measure: identification, prediction, filter"):
        evaluation = evaluate(model, dataset, config.seed, progress=True, targets=PENDULUM.targets)
    with watch("agent", "4  dream: train the agent inside the model, then act in reality"):
        policy, _ = train_policy(model, replace(config.agent, seed=config.seed))
        policy.save(config.out / "policy.safetensors")
        result = act(policy, model, config)
    metrics = evaluation.metrics | {
        "agent": result.metrics() | PENDULUM.task_metrics(result.real),
        "real_frames_used": frames,
        "seconds": watch.seconds,
        "seed": config.seed,
        "updates": trainer.best["update"],
        "versions": data.installed_versions(),
    }
    if config.films:
        with watch("films", "5  look: figures and films"):
            draw(evaluation, model, dataset, trainer, config.out)
            film_agent(policy, model, config.out / "agent.gif")
    write_json(config.out / "metrics.json", metrics)
    model.save(config.out / "checkpoint", metrics)
    print_results(console, metrics, config.out)
    return metrics


def act(policy: Policy, model: StateSpaceModel, config: DemoConfig) -> Comparison:
    """Ten seconds from hanging, in the dream and in reality."""
    real = data.make_vec(ENV_ID, config.episodes, {})
    start = PENDULUM.task_start(config.episodes, config.seed)
    result = compare(policy, model, real, 100, config.seed, start)
    real.close()
    return result


def draw(
    evaluation: Evaluation,
    model: StateSpaceModel,
    dataset: data.Dataset,
    trainer: Trainer,
    folder: Path,
) -> None:
    """All figures, and the film real | filtered | imagined."""
    walk = PENDULUM.unactuated(dataset.provenance)
    write_all(evaluation, model, dataset.test, folder, walk, trainer.history)
    dream_film(model, dataset.test.window(0, 74), folder / "dream.gif")


def film_agent(policy: Policy, model: StateSpaceModel, path: Path, steps: int = 100) -> None:
    """The agent from hanging: the pendulum, its camera, and what the filter makes of it."""
    import gymnasium as gym

    from worldmodel.simulator.filter import FilterObservation

    real = gym.make(ENV_ID, render_mode="rgb_array")
    env = FilterObservation(real, model)
    observation, _ = env.reset(seed=0, options={"start": "hanging"})
    scene, latents = [np.asarray(real.render())], [observation]
    for _ in range(steps):
        action, _ = policy.predict(observation)
        observation, *_ = env.step(action)
        scene.append(np.asarray(real.render()))
        latents.append(observation)
    env.close()
    belief = model.decode(np.stack(latents)).repeat(16, 1).repeat(16, 2)
    panels = {"real pendulum": np.stack(scene), "what the filter believes": belief}
    write_gif(side_by_side(panels), path)

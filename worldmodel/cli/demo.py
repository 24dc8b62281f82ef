"""The main job, end to end: babble, learn, dream, act."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from rich.console import Console

import envs  # noqa: F401 (registers the environments that ship)
from agents.empowerment import Empowered, EmpoweredConfig, train_empowered
from agents.evaluation import Comparison, compare
from agents.pathwise import PathwiseConfig, Policy, train_policy
from worldmodel import data
from worldmodel.cli.empowerment import draw_map, map_states
from worldmodel.cli.systems import RECIPES, Recipe
from worldmodel.cli.table import print_results
from worldmodel.errors import ConfigError
from worldmodel.evaluation.evaluate import Evaluation, evaluate
from worldmodel.evaluation.figures import write_all
from worldmodel.evaluation.imagination import imagine
from worldmodel.files import write_json
from worldmodel.models.base import StateSpaceModel
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.simulator.filter import FilterObservation
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer
from worldmodel.viewer.dream import dream_film
from worldmodel.viewer.film import side_by_side, write_gif

EPISODES = 100  # real ones, each from a start of its own, that the agent is judged on
STEPS = 100  # of each, that is ten seconds
MAPPED = 400  # real states whose empowerment is measured
SHOWN_EPISODES = 10  # whose states are drawn on the map
# The first to look at.
SHOWN = ("dream.gif", "agent.gif", "empowerment.png", "latent_space.png", "metrics.json")


@dataclass(frozen=True)
class DemoConfig:
    """One demo; ``settings`` fills in what its system is best learned with.

    Attributes:
        system: "pendulum", "ball" or "two-balls"; or "empowerment" and "ball-empowerment", where
            the agent is given no reward.
        out: Run folder. Killed and started again, training goes on where it was.
        model: Sizes.
        train: How the model is trained; its seed is ``seed``.
        agent: How the agent is trained; its seed is ``seed``. None trains none.
        seed: Of everything random.
        threads: Of torch.
        films: Whether to draw figures and films.

    Raises:
        ConfigError: There is no such system; the message names those that there are.
    """

    system: tyro.conf.Suppress[str]
    out: Path
    model: DVBFConfig
    train: TrainConfig
    agent: tyro.conf.AvoidSubcommands[PathwiseConfig | EmpoweredConfig | None]
    seed: int = 0
    threads: int = 2
    films: bool = True

    def __post_init__(self) -> None:
        recipe_of(self.system)


def recipe_of(system: str) -> Recipe:
    """How a system is learned.

    Raises:
        ConfigError: There is no such system; the message names those that there are.
    """
    if system not in RECIPES:
        raise ConfigError(f"system must be one of {', '.join(RECIPES)}, got {system!r}")
    return RECIPES[system]


def settings(system: str, **changes: Any) -> DemoConfig:
    """The demo of a system as its recipe has it, but for the fields that are given.

    Raises:
        ConfigError: There is no such system; the message names those that there are.
    """
    recipe = recipe_of(system)
    run = Path("runs") / system
    return replace(DemoConfig(system, run, recipe.model, recipe.train, recipe.agent), **changes)


if TYPE_CHECKING:
    AnyDemo = DemoConfig
else:
    AnyDemo = tyro.extras.subcommand_type_from_defaults(
        {name: settings(name) for name in RECIPES},
        {name: f"{recipe.title}." for name, recipe in RECIPES.items()},
        prefix_names=False,
    )


class Stopwatch:
    """Announces stages by number and keeps the seconds each took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str, text: str) -> Iterator[None]:
        """Time one stage."""
        self.console.rule(f"[bold]{len(self.seconds) + 1}  {text}", align="left")
        begin = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - begin


def demo(
    config: Annotated[AnyDemo, tyro.conf.arg(name="")] = settings("pendulum"),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Learn to simulate a real system from its pixels, and control it without having touched it.

    Args:
        config: Which system, and how.

    Returns:
        What is also written to ``metrics.json``.
    """
    console, recipe = Console(), recipe_of(config.system)
    torch.set_num_threads(config.threads)
    watch = Stopwatch(console)
    with watch("collect", "babble: record the real system under random actions"):
        dataset = babble(config)
        frames = dataset.frames("train")
        console.print(f"{frames:,} frames to learn from, {frames / 10 / 60:.0f} minutes")
    with watch("train", "learn: fit the Deep Variational Bayes Filter"):
        trainer = learn(dataset, config)
        model = trainer.model
    with watch("evaluate", "measure: identification, prediction, filter"):
        evaluation = measure(model, dataset, config)
    metrics, acted = dict(evaluation.metrics), None
    if config.agent is not None:
        with watch("agent", "dream: train the agent inside the model, then act in reality"):
            acted = control(model, config, config.agent)
            metrics["agent"] = acted.metrics
    if acted is not None and acted.empowered is not None:
        with watch("map", "map: empowerment, of the real system and of the model"):
            metrics["empowerment"] = chart(model, config, acted, acted.empowered)
    metrics |= {
        "real_frames_used": frames,
        "seconds": watch.seconds,
        "seed": config.seed,
        "updates": trainer.best["update"],
        "versions": data.installed_versions(),
    }
    if config.films:
        with watch("films", "look: figures and films"):
            draw(evaluation, trainer, dataset, config)
            if acted is not None:
                film_agent(acted.policy, model, recipe, config.out / "agent.gif")
    write_json(config.out / "metrics.json", metrics)
    model.save(config.out / "checkpoint", metrics)
    print_results(console, recipe.title, metrics, recipe.paper)
    seen = [path.name for name in SHOWN if (path := config.out / name).exists()]
    console.print(f"Look at {', '.join(seen)} in {config.out}")
    return metrics


def babble(config: DemoConfig) -> data.Dataset:
    """Record what the recipe asks for."""
    recipe = recipe_of(config.system)
    return data.collect(
        recipe.env_id,
        recipe.env_kwargs,
        splits=recipe.splits,
        num_envs=500,
        seed=config.seed,
        progress=True,
    )


def learn(dataset: data.Dataset, config: DemoConfig) -> Trainer:
    """Train to the end, in the run folder, which keeps the data too."""
    fresh = DVBF(config.model, dataset.observation_spec, dataset.action_spec, config.seed)
    trainer = Trainer(fresh, dataset, replace(config.train, seed=config.seed), config.out)
    # Only now: the trainer refuses a folder that holds a run on other data.
    data.save(dataset, config.out / "data.npz")
    trainer.fit()
    return trainer


def measure(model: StateSpaceModel, dataset: data.Dataset, config: DemoConfig) -> Evaluation:
    """The evaluation with all that is known about the system."""
    system = recipe_of(config.system).system
    return evaluate(
        model,
        dataset,
        config.seed,
        progress=True,
        targets=system.targets,
        baselines=system.baselines(dataset.provenance),
    )


@dataclass(frozen=True)
class Acted:
    """An agent that was trained in the dream, and what it did.

    Attributes:
        policy: What acts.
        result: Ten seconds of the task, in the dream and in reality.
        metrics: Of the task.
        empowered: What it was trained on, if that was its empowerment.
    """

    policy: Policy
    result: Comparison
    metrics: dict[str, Any]
    empowered: Empowered | None


def control(
    model: StateSpaceModel, config: DemoConfig, agent: PathwiseConfig | EmpoweredConfig
) -> Acted:
    """Train an agent in the dream; then ten seconds of the task, in the dream and in reality."""
    recipe, empowered = recipe_of(config.system), None
    if isinstance(agent, EmpoweredConfig):
        empowered = train_empowered(model, replace(agent, seed=config.seed))
        policy = empowered.policy
    else:
        policy, _ = train_policy(model, replace(agent, seed=config.seed))
    policy.save(config.out / "policy.safetensors")
    real = data.make_vec(recipe.env_id, EPISODES, recipe.env_kwargs)
    start = recipe.task_start or recipe.system.task_start(EPISODES, config.seed)
    result = compare(policy, model, real, STEPS, config.seed, start)
    real.close()
    metrics = result.metrics() | recipe.system.task_metrics(result.real)
    return Acted(policy, result, metrics, empowered)


def chart(
    model: StateSpaceModel, config: DemoConfig, acted: Acted, empowered: Empowered
) -> dict[str, Any]:
    """Map empowerment, and draw it under the states that the agent came to in reality."""
    assert isinstance(config.agent, EmpoweredConfig) and acted.result.real.states is not None
    c = config.agent
    found = map_states(
        model, empowered.dynamics, MAPPED, c.steps, c.noise, c.estimator, config.seed
    )
    if config.films:
        visited = acted.result.real.states[:SHOWN_EPISODES].reshape(-1, found.truth.shape[1])
        system = recipe_of(config.system).system
        draw_map(found, system, config.out / "empowerment.png", visited)
    return found.metrics()


def draw(
    evaluation: Evaluation, trainer: Trainer, dataset: data.Dataset, config: DemoConfig
) -> None:
    """All figures, and the film real | filtered | imagined."""
    model, recipe = trainer.model, recipe_of(config.system)
    walk = recipe.system.unactuated(dataset.provenance)
    write_all(evaluation, model, dataset.test, config.out, walk, trainer.history)
    shown = dataset.test[: recipe.film_rows].window(0, 74)
    write_gif(dream_film(imagine(model, shown)), config.out / "dream.gif")


def film_agent(policy: Policy, model: StateSpaceModel, recipe: Recipe, path: Path) -> None:
    """The agent at its task: the scene, and what the filter makes of the camera's pictures."""
    real = gym.make(recipe.env_id, render_mode="rgb_array", **recipe.env_kwargs)
    env = FilterObservation(real, model)
    observation, _ = env.reset(seed=0, options=recipe.film_start)
    scene, latents = [np.asarray(real.render())], [observation]
    for _ in range(STEPS):
        action, _ = policy.predict(observation)
        observation, *_ = env.step(action)
        scene.append(np.asarray(real.render()))
        latents.append(observation)
    env.close()
    belief = model.decode(np.stack(latents))
    scale = scene[0].shape[0] // belief.shape[1]
    belief = belief.repeat(scale, 1).repeat(scale, 2)
    panels = {"real": np.stack(scene), "what the filter believes": belief}
    write_gif(side_by_side(panels), path)

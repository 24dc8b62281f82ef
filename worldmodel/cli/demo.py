"""The main job, end to end: babble, learn, dream, act."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import tyro
from rich.console import Console

import envs  # noqa: F401 (registers the environments that ship)
from agents.empowerment import Empowered, EmpoweredConfig, train_empowered
from agents.pathwise import PathwiseConfig, Policy, train_policy
from worldmodel import data
from worldmodel.cli.acting import act, film_agent
from worldmodel.cli.empowerment import babbled, draw_map, map_states, visited
from worldmodel.cli.runs import POLICY, source_of
from worldmodel.cli.systems import RECIPES, Recipe
from worldmodel.cli.table import print_results
from worldmodel.errors import ConfigError
from worldmodel.evaluation.evaluate import Evaluation, evaluate
from worldmodel.files import write_json
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.plots.dream import dream_film
from worldmodel.plots.figures import write_all
from worldmodel.plots.film import write_gif
from worldmodel.plots.imagination import imagine
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer
from worldmodel.world.world import World

MAPPED = 400  # real states whose empowerment is measured
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
        world, trainer = learn(dataset, config)
    with watch("evaluate", "measure: identification, prediction, filter"):
        evaluation = measure(world, dataset, config)
    metrics = dict(evaluation.metrics)
    source, system, policy = source_of(world), recipe.system, None
    if config.agent is not None:
        with watch("agent", "dream: train the agent inside the model, then act in reality"):
            policy, empowered = control(world, config, config.agent)
            acted = act(policy, world, source, system, recipe.task_start, seed=config.seed)
            metrics["agent"] = acted.metrics
        if empowered is not None and isinstance(config.agent, EmpoweredConfig):
            with watch("map", "map: empowerment, of the real system and of the model"):
                places = babbled(world, MAPPED, config.seed)
                found = map_states(places, empowered.dynamics, source, config.agent)
                metrics["empowerment"] = found.metrics()
                if config.films:
                    path = config.out / "empowerment.png"
                    draw_map(found, system, path, visited(acted))
    metrics |= {
        "real_frames_used": frames,
        "seconds": watch.seconds,
        "seed": config.seed,
        "updates": trainer.best["update"],
        "versions": data.installed_versions(),
    }
    if config.films:
        with watch("films", "look: figures and films"):
            draw(evaluation, world, trainer.history, dataset, config)
            if policy is not None:
                film_agent(policy, world, source, config.out / "agent.gif", recipe.film_start)
    write_json(config.out / "metrics.json", metrics)
    world.save(config.out / "checkpoint", metrics)
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


def learn(dataset: data.Dataset, config: DemoConfig) -> tuple[World, Trainer]:
    """Train to the end, in the run folder, which keeps the data too."""
    fresh = DVBF(config.model, dataset.observation_spec, dataset.action_spec, config.seed)
    trainer = Trainer(fresh, dataset, replace(config.train, seed=config.seed), config.out)
    # Only now: the trainer refuses a folder that holds a run on other data.
    data.save(dataset, config.out / "data.npz")
    return trainer.fit(), trainer


def measure(world: World, dataset: data.Dataset, config: DemoConfig) -> Evaluation:
    """The evaluation with all that is known about the system."""
    system = recipe_of(config.system).system
    return evaluate(
        world,
        dataset,
        config.seed,
        progress=True,
        targets=system.targets,
        baselines=system.baselines(dataset.provenance),
    )


def control(
    world: World, config: DemoConfig, agent: PathwiseConfig | EmpoweredConfig
) -> tuple[Policy, Empowered | None]:
    """Train an agent in the dream, for the task or, in the second place, for its empowerment."""
    empowered = None
    if isinstance(agent, EmpoweredConfig):
        empowered = train_empowered(world, replace(agent, seed=config.seed))
        policy = empowered.policy
    else:
        policy, _ = train_policy(world, replace(agent, seed=config.seed))
    policy.save(config.out / POLICY)
    return policy, empowered


def draw(
    evaluation: Evaluation,
    world: World,
    history: list[dict[str, float]],
    dataset: data.Dataset,
    config: DemoConfig,
) -> None:
    """All figures, and the film real | filtered | imagined."""
    recipe = recipe_of(config.system)
    walk = recipe.system.unactuated(dataset.provenance)
    write_all(evaluation, world, dataset.test, config.out, walk, history)
    shown = dataset.test[: recipe.film_rows].window(0, 74)
    write_gif(dream_film(imagine(world, shown)), config.out / "dream.gif")

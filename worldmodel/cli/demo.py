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
from rich.text import Text

from agents.empowerment import Empowered, EmpoweredConfig, train_empowered
from agents.empowerment.maps import babbled, map_states
from agents.pathwise import PathwiseConfig, train_policy
from agents.policy import Policy
from agents.rollout import Acting
from worldmodel import data
from worldmodel.cli.console import console, note, say
from worldmodel.cli.runs import POLICY
from worldmodel.device import pick_device
from worldmodel.errors import ConfigError
from worldmodel.evaluation.evaluate import Evaluation, evaluate
from worldmodel.evaluation.shortcomings import shortcomings
from worldmodel.files import write_json
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.plots.acting import film_acting
from worldmodel.plots.dream import dream_film
from worldmodel.plots.empowerment import empowerment_map
from worldmodel.plots.figures import write_all
from worldmodel.plots.film import write_gif
from worldmodel.plots.imagination import imagine
from worldmodel.plots.table import results_table
from worldmodel.systems import DEMOS, Preset, System
from worldmodel.systems.task import Acted, act
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer
from worldmodel.world.world import World

MAPPED = 400  # real states whose empowerment is measured
# The first to look at.
SHOWN = ("dream.gif", "agent.gif", "empowerment.png", "latent_space.png", "metrics.json")


@dataclass(frozen=True)
class DemoConfig:
    """One demo; ``settings`` fills in what its preset says.

    Attributes:
        preset: Name of one that a system brings.
        out: Run folder. Killed and started again, training goes on where it was.
        model: Sizes.
        train: How the model is trained; its seed is ``seed``.
        agent: How the agent is trained; its seed is ``seed``. None trains none.
        seed: Of everything random.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest that is there.
        threads: Of torch.
        films: Whether to draw figures and films.

    Raises:
        ConfigError: There is no such demo; the message names those that there are.
    """

    preset: tyro.conf.Suppress[str]
    out: Path
    model: DVBFConfig
    train: TrainConfig
    agent: tyro.conf.AvoidSubcommands[PathwiseConfig | EmpoweredConfig | None]
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    films: bool = True

    def __post_init__(self) -> None:
        demo_of(self.preset)


def demo_of(name: str) -> tuple[Preset, System]:
    """A preset and the system that it is for.

    Raises:
        ConfigError: No system brings such a preset; the message names those that there are.
    """
    if name not in DEMOS:
        raise ConfigError(f"demo must be one of {', '.join(DEMOS)}, got {name!r}")
    return DEMOS[name].presets[name], DEMOS[name]


def settings(name: str, **changes: Any) -> DemoConfig:
    """The demo of a preset, but for the fields that are given.

    Raises:
        ConfigError: There is no such demo; the message names those that there are.
    """
    chosen, system = demo_of(name)
    model, agent = chosen.models.get("dvbf"), chosen.agent
    if model is None or callable(model) or callable(agent):
        observations, actions = system.spaces(chosen.env_kwargs)
        model, agent = chosen.model("dvbf", observations), chosen.acting(actions)
    return replace(DemoConfig(name, Path("runs") / name, model, chosen.train, agent), **changes)


if TYPE_CHECKING:
    AnyDemo = DemoConfig
else:
    AnyDemo = tyro.extras.subcommand_type_from_defaults(
        {name: settings(name) for name in DEMOS},
        {name: f"{system.presets[name].about}." for name, system in DEMOS.items()},
        prefix_names=False,
    )


class Stopwatch:
    """Announces stages by number and keeps the seconds each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str, text: str) -> Iterator[None]:
        """Time one stage."""
        console().rule(Text(f"{len(self.seconds) + 1}  {text}", "bold"), align="left")
        begin = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - begin


def demo(
    config: Annotated[AnyDemo, tyro.conf.arg(name="")] = settings("pendulum"),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Learn to simulate a real system from its pixels, and control it without having touched it.

    Flags follow the name of the demo: see ``worldmodel demo pendulum --help``.

    Args:
        config: Which system, and how.

    Returns:
        What is also written to ``metrics.json``.
    """
    chosen, system = demo_of(config.preset)
    torch.set_num_threads(config.threads)
    watch, policy = Stopwatch(), None
    with watch("collect", "babble: record the real system under random actions"):
        dataset = babble(config)
        frames = dataset.frames("train")
        say(f"{frames:,} frames to learn from, {frames / 10 / 60:.0f} minutes")
    with watch("train", "learn: fit the Deep Variational Bayes Filter"):
        world, trainer = learn(dataset, config)
    with watch("evaluate", "measure: identification, prediction, filter"):
        baselines = system.baselines(dataset.provenance)
        evaluation = evaluate(
            world, dataset, config.seed, progress=True, targets=system.targets, baselines=baselines
        )
    metrics = dict(evaluation.metrics)
    if config.agent is not None:
        with watch("agent", "dream: train the agent inside the model, then act in reality"):
            policy, empowered = control(world, config, config.agent)
            start = chosen.task_start
            acted = act(policy, world, world.require_source(), system, start, seed=config.seed)
            metrics["agent"] = acted.metrics
        if empowered is not None:
            with watch("map", "map: empowerment, of the real system and of the model"):
                metrics["empowerment"] = chart(world, empowered, acted, config)
    metrics |= {
        "real_frames_used": frames,
        "seconds": watch.seconds,
        "seed": config.seed,
        "updates": trainer.best["update"],
        "versions": data.installed_versions(),
    }
    if config.films:
        with watch("films", "look: figures and films"):
            draw(evaluation, world, trainer.history, dataset, policy, config)
    write_json(config.out / "metrics.json", metrics)
    world.save(config.out / "checkpoint", metrics)
    console().print(results_table(chosen.about, metrics, chosen.paper))
    for shortcoming in shortcomings(metrics):
        note(shortcoming)
    seen = [path.name for name in SHOWN if (path := config.out / name).exists()]
    say(f"Look at {', '.join(seen)} in {config.out}")
    return metrics


def babble(config: DemoConfig) -> data.Dataset:
    """Record what the preset asks for."""
    chosen, system = demo_of(config.preset)
    return data.collect(
        system.env_id,
        chosen.env_kwargs,
        splits=chosen.splits,
        num_envs=500,
        seed=config.seed,
        progress=True,
    )


def learn(dataset: data.Dataset, config: DemoConfig) -> tuple[World, Trainer]:
    """Train to the end, in the run folder, which keeps the data too."""
    fresh = DVBF(config.model, dataset.observation_spec, dataset.action_spec, config.seed)
    fresh.to(pick_device(config.device))
    path, train = config.out / "data", replace(config.train, seed=config.seed)
    trainer = Trainer(fresh, dataset, train, config.out, config.preset, path)
    # Only now: the trainer refuses a folder that holds a run on other data.
    data.save(dataset, path)
    return trainer.fit(), trainer


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


def chart(world: World, empowered: Empowered, acted: Acted, config: DemoConfig) -> dict[str, Any]:
    """Map empowerment, and draw where the agent that lives by it came to."""
    assert isinstance(config.agent, EmpoweredConfig), "else nobody would be empowered"
    places, source = babbled(world, MAPPED, config.seed), world.require_source()
    found = map_states(places, empowered.dynamics, source, config.agent)
    if config.films:
        maps, plane = (found.truth, found.measured, found.learned), DEMOS[config.preset].plane
        empowerment_map(*maps, plane, config.out / "empowerment.png", acted.visited)
    return found.metrics()


def draw(
    evaluation: Evaluation,
    world: World,
    history: list[dict[str, float]],
    dataset: data.Dataset,
    policy: Policy | None,
    config: DemoConfig,
) -> None:
    """All figures, the film real | filtered | imagined, and that of the agent."""
    chosen, system = demo_of(config.preset)
    walk = system.unactuated(dataset.provenance)
    write_all(evaluation, world, dataset.test.sample(), config.out, walk, history)
    shown = dataset.test[: chosen.film_rows].window(0, 74)
    write_gif(dream_film(imagine(world, shown)), config.out / "dream.gif")
    if policy is not None:
        source, path = world.require_source(), config.out / "agent.gif"
        film_acting(Acting(policy), world, source, path, chosen.film_start)

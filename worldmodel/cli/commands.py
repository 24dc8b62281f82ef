"""One function per subcommand; its arguments are the flags."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import torch
import tyro
from gymnasium.vector import VectorEnv
from rich.console import Console

import envs  # noqa: F401 (registers the environments that ship)
from agents.evaluation import compare
from agents.pathwise import PathwiseConfig, train_policy
from worldmodel import data, load
from worldmodel.cli.speed import measure_speed
from worldmodel.cli.systems import system_of
from worldmodel.cli.table import print_results
from worldmodel.errors import SpecError, require_at_least
from worldmodel.evaluation.evaluate import evaluate as measure
from worldmodel.files import write_json
from worldmodel.models.registry import MODELS
from worldmodel.plots.figures import write_all
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer
from worldmodel.world.filter import VectorFilterObservation
from worldmodel.world.world import World

console = Console()

if TYPE_CHECKING:
    ModelName = str
    AnyModelConfig = Any
else:
    ModelName = Literal[tuple(MODELS)]
    # Which of them it is follows from the model's name, by the default that ``suited`` sets.
    AnyModelConfig = tyro.conf.AvoidSubcommands[
        Union[tuple(kind.config_type for kind in MODELS.values())]  # noqa: UP007 (not known before)
    ]


def parse_kwargs(text: str) -> dict[str, Any]:
    """Read environment arguments given as a JSON object.

    Raises:
        SpecError: It is not one.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(f"expected a JSON object, got {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise SpecError(f"expected a JSON object, got {text!r}")
    return value


def collect(
    out: Path,
    env_id: str = "worldmodel/Pendulum-v0",
    env_kwargs: str = "{}",
    process: Literal["uniform", "held", "ornstein-uhlenbeck"] = "uniform",
    episodes: int = 500,
    held_out: int | None = None,
    steps: int = 14,
    test_steps: int = 114,
    num_envs: int = 100,
    seed: int = 0,
    wrapping: tyro.conf.OmitArgPrefixes[data.Wrapping] = data.Wrapping(),  # noqa: B008 (frozen)
) -> None:
    """Record a real environment under random actions.

    Args:
        out: Dataset file to write (.npz).
        env_id: Gymnasium id; "module:id" imports a module first.
        env_kwargs: Its arguments, as JSON.
        process: How actions are drawn.
        episodes: Training episodes.
        held_out: Episodes of validation and of test each; by default as many as for training.
        steps: Steps per training and validation episode, unless it ends before.
        test_steps: Steps per test episode, unless it ends before; more than ``steps``, to measure
            prediction.
        num_envs: Environments that run at once.
        seed: Of everything random.
        wrapping: What to put around the environment.
    """
    dataset = data.collect(
        env_id,
        parse_kwargs(env_kwargs),
        data.PROCESSES[process](),
        data.default_splits(episodes, steps, test_steps, held_out),
        seed=seed,
        num_envs=num_envs,
        progress=True,
        wrapping=wrapping,
    )
    data.save(dataset, out)
    console.print(f"{out}: {dataset.frames('train'):,} training frames of {env_id}")
    longest = int(dataset.test.mask.any(0).sum())
    if longest < test_steps:
        console.print(
            f"no test episode lasted {test_steps} steps, the longest {longest}: "
            "predictions will be judged no further"
        )


def train(
    dataset: Path,
    run: Path,
    name: Annotated[ModelName, tyro.conf.arg(name="model")] = "dvbf",
    model: AnyModelConfig = MODELS["dvbf"].config_type(),  # noqa: B008 (frozen)
    config: tyro.conf.OmitArgPrefixes[TrainConfig] = TrainConfig(),  # noqa: B008 (frozen)
    threads: int = 1,
) -> None:
    """Train a model; killed and started again, it goes on.

    Args:
        dataset: File from ``worldmodel collect``. It decides on the defaults of all that follows:
            give it before ``--help`` to see them.
        run: Run folder; the model goes to RUN/checkpoint.
        name: Which model (docs/models.md). Give it before ``--help`` to
            see its settings.
        model: The model's settings.
        config: How to train.
        threads: Of torch. The models are so small that more than one rarely helps, and another
            number may change the last bits of the result.
    """
    torch.set_num_threads(threads)
    recorded = data.load(dataset)
    kind: Any = MODELS[name]
    fresh = kind(model, recorded.observation_spec, recorded.action_spec, config.seed)
    trainer = Trainer(fresh, recorded, config, run)
    if trainer.update:
        console.print(f"going on at update {trainer.update} of {config.updates}")
    trainer.fit()
    console.print(f"{run}/checkpoint: best at update {trainer.best['update']}")


def evaluate(run: Path, dataset: Path, seed: int = 0) -> None:
    """Measure a trained model on the test split and draw the figures.

    Args:
        run: Run folder or checkpoint; metrics.json and figures are written into it.
        dataset: File from ``worldmodel collect``.
        seed: Of the sampled latents.
    """
    world, recorded = load(run), data.load(dataset)
    system = system_of(recorded.provenance.env_id)
    evaluation = measure(
        world,
        recorded,
        seed,
        progress=True,
        targets=system.targets,
        baselines=system.baselines(recorded.provenance),
    )
    write_json(run / "metrics.json", evaluation.metrics)
    write_all(evaluation, world, recorded.test, run, system.unactuated(recorded.provenance))
    print_results(console, recorded.provenance.env_id, evaluation.metrics, {})
    console.print(f"{run}/metrics.json and figures are written")


def agent(
    run: str,
    env_id: str | None = None,
    env_kwargs: str | None = None,
    method: Literal["pathwise", "PPO", "A2C", "SAC", "TD3", "DDPG", "DQN"] = "pathwise",
    out: Path = Path("runs/agent"),
    pathwise: PathwiseConfig = PathwiseConfig(),  # noqa: B008 (frozen)
    timesteps: int = 200_000,
    episodes: int = 100,
    steps: int | None = None,
    seed: int = 0,
) -> None:
    """Train an agent in the dream and let it act in reality.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one. It decides on the defaults of
            ``pathwise``: give it before ``--help`` to see them.
        env_id: The real environment to act in; by default the one that the model was trained on.
            It is wrapped as that one was.
        env_kwargs: Its arguments, as JSON; by default those of the one trained on.
        method: "pathwise" follows gradients through the model; the others are Stable-Baselines3's.
        out: Folder for the policy and metrics.json.
        pathwise: Of the method "pathwise".
        timesteps: Imagined steps, of the other methods.
        episodes: Real and imagined episodes to evaluate on.
        steps: Steps per episode at most; by default the environment's own limit.
        seed: Of evaluation, and of training with Stable-Baselines3.
    """
    require_at_least(1, episodes=episodes, steps=1 if steps is None else steps)
    torch.set_num_threads(1)
    world = load(run)
    source = reality(world, env_id, env_kwargs)
    real = source.make_vec(episodes)
    steps = steps or limit_of(real)
    VectorFilterObservation(real, world)  # refuses what does not fit, before the long part
    out.mkdir(parents=True, exist_ok=True)
    if method == "pathwise":
        actor, _ = train_policy(world, pathwise)
        actor.save(out / "policy.safetensors")
    else:
        from agents.sb3 import train_sb3

        actor = train_sb3(world, method, timesteps, max_episode_steps=steps, seed=seed)
        actor.save(out / f"{method.lower()}.zip")
    system = system_of(source.env_id)
    result = compare(actor, world, real, steps, seed, system.task_start(episodes, seed))
    real.close()
    metrics = result.metrics() | system.task_metrics(result.real)
    write_json(out / "metrics.json", metrics)
    console.print_json(data=metrics)


def reality(world: World, env_id: str | None, env_kwargs: str | None) -> data.Source:
    """The environment that a model was trained on, but for what is given.

    Raises:
        SpecError: The model does not know where its data came from, and no id is given; or the
            arguments are no JSON object.
    """
    known = world.source
    if env_id is None and known is None:
        raise SpecError("the model does not say which environment it was trained on; give --env-id")
    source = known or data.Source(env_id or "")
    if env_id is not None and env_id != source.env_id:
        source = data.Source(env_id, {}, source.wrapping)
    return source if env_kwargs is None else replace(source, env_kwargs=parse_kwargs(env_kwargs))


def limit_of(env: VectorEnv) -> int:
    """Steps after which the environment truncates an episode; 1000 if it never does."""
    return (env.spec and env.spec.max_episode_steps) or 1000


def bench(
    checkpoint: str = "pendulum",
    env_id: str = "worldmodel/Pendulum-v0",
    num_envs: int = 1024,
    rounds: int = 15,
    threads: int = 1,
) -> None:
    """Measure steps per second: the dream, the real environment, the bare tensor loop.

    Args:
        checkpoint: Run folder, checkpoint, or the name of a bundled one.
        env_id: The real environment.
        num_envs: Environments that step at once.
        rounds: How often each is timed; medians are reported.
        threads: Of torch.
    """
    require_at_least(1, num_envs=num_envs, rounds=rounds)
    torch.set_num_threads(threads)
    console.print_json(data=measure_speed(load(checkpoint), env_id, num_envs, rounds))

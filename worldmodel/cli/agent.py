"""``worldmodel agent``: train an agent in the dream, or let it plan there, and act in reality."""

from __future__ import annotations

from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch

from agents.actor_critic import ActorCriticConfig, train_actor_critic
from agents.evaluation import dream, measures
from agents.goals import reach, target
from agents.pathwise import PathwiseConfig, train_policy
from agents.planning import METHODS, Planner, PlanningConfig
from agents.starts import recorded_beliefs
from agents.verdict import judge
from worldmodel import data
from worldmodel.cli.arguments import PresetName, Run
from worldmodel.cli.console import console, note, numbers_alone, say
from worldmodel.cli.defaults import Found, Hidden
from worldmodel.cli.goals import read_observation
from worldmodel.cli.runs import POLICY, VERDICT, dataset_of, reality
from worldmodel.device import pick_device
from worldmodel.errors import ConfigError, require_at_least
from worldmodel.files import write_json, write_whole
from worldmodel.plots.verdict import verdict_table
from worldmodel.systems import system_of
from worldmodel.systems.task import act
from worldmodel.types import Batch, Belief
from worldmodel.world.filter import VectorFilterObservation
from worldmodel.world.members import Members, filtered_transitions
from worldmodel.world.world import World

_STEPS = 1000  # of an episode, where nothing limits them
_TOLD = ("episodes", "return", "length", "terminated")  # by the table
# Methods that are not Stable-Baselines3's.
_OURS = ("pathwise", "actor-critic", *METHODS)


def agent(
    run: Run,
    preset: PresetName = "pictures",
    env_id: str | None = None,
    env_kwargs: str | None = None,
    method: Literal[
        "pathwise",
        "actor-critic",
        "cem",
        "icem",
        "mppi",
        "PPO",
        "A2C",
        "SAC",
        "TD3",
        "DDPG",
        "DQN",
    ] = "pathwise",
    goal: Path | None = None,
    out: Path = Path("runs/agent"),
    pathwise: PathwiseConfig = PathwiseConfig(),  # noqa: B008 (frozen)
    actor_critic: ActorCriticConfig = ActorCriticConfig(),  # noqa: B008 (frozen)
    planning: PlanningConfig = PlanningConfig(),  # noqa: B008 (frozen)
    timesteps: int = 200_000,
    episodes: int = 100,
    models: int = 5,
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    json: bool = False,
    found: Hidden[Found] = Found(),  # noqa: B008 (frozen)
) -> None:
    """Train an agent in the dream, or let it plan there, and act in reality.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one. It decides on the defaults of
            ``pathwise`` and ``actor_critic``: give it before ``--help`` to see them.
        preset: Settings to begin with; by default those that the run began with.
        env_id: The real environment to act in; by default the one that the model was trained on.
            It is wrapped as that one was. Where a recording was trained on and none is given, the
            agent acts in the dream alone.
        env_kwargs: Its arguments, as JSON; by default those of the one trained on.
        method: "pathwise" follows gradients through the model, "actor-critic" too, with a critic
            for what comes after its horizon; "cem", "icem" and "mppi" plan at every step; the
            others are Stable-Baselines3's.
        goal: A picture, or an observation as .npy, to come near to in place of being rewarded; not
            for the methods of Stable-Baselines3.
        out: Folder for metrics.json, verdict.json, and for the policy or planner.
        pathwise: Of the method "pathwise".
        actor_critic: Of the method "actor-critic".
        planning: Of the methods that plan.
        timesteps: Imagined steps, of the other methods.
        episodes: Real and imagined episodes to evaluate on.
        models: Of the same data, whose dreams foretell what is real: the run's own members, or
            some that are fitted to its recording, where that is still there. 1 asks no other.
        steps: Steps per episode at most; by default the environment's own limit, or 1000.
        seed: Of evaluation, and of training with Stable-Baselines3.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest that is there. The dream's
            step is compiled for the CPU alone.
        json: Whether to print the numbers to stdout, and all else to stderr.
        found: What the defaults were chosen by.
    """
    require_at_least(1, episodes=episodes, models=models, steps=1 if steps is None else steps)
    if goal is not None and method not in _OURS:
        raise ConfigError(f"--goal is for {', '.join(_OURS)}; not {method}")
    torch.set_num_threads(1)
    world = found.checked(run).to(pick_device(device))
    if goal is None:
        world.require_reward()
    known = world.source is not None or env_id is not None
    source = reality(world, env_id, env_kwargs) if known else None
    limit = _limit(world, source)
    steps = steps or limit
    wanted = None if goal is None else read_observation(goal, world.model.observation_spec)
    asked = None if wanted is None else reach(world, wanted)
    out.mkdir(parents=True, exist_ok=True)
    with numbers_alone(json) as numbers:
        if method == "pathwise":
            actor, _ = train_policy(world, pathwise, goal=asked)
            actor.save(out / POLICY)
        elif method == "actor-critic":
            starts = _starts(world, run)
            learner, _ = train_actor_critic(world, actor_critic, starts, goal=asked)
            actor = learner.policy
            actor.save(out / POLICY)
        elif method in METHODS:
            actor = Planner(world, method, goal=asked, **asdict(planning))
            actor.save(out / POLICY)
        else:
            from agents.sb3 import train_sb3

            actor = train_sb3(world, method, timesteps, max_episode_steps=steps, seed=seed)
            memory = BytesIO()
            actor.save(memory)
            write_whole(out / f"{method.lower()}.zip", memory.getvalue())
        if source is None:
            where, acted, verdict = "dream", dream(actor, world, episodes, steps, seed, True), None
            metrics: dict[str, Any] = {"episodes": episodes, **measures(where, acted)}
        else:
            system = system_of(source.env_id)
            others = _others(world, run, models, seed)
            done = act(
                actor,
                world,
                source,
                system,
                episodes=episodes,
                steps=steps,
                seed=seed,
                random=True,
                others=others,
            )
            where, acted, metrics = "real", done.result.real, done.metrics
            verdict = judge(world, done.result, None if goal else done.reference)
            write_json(out / VERDICT, verdict)
        if wanted is not None:
            last = torch.as_tensor(acted.last, device=world.model.device)
            distance = target(world, wanted).distance(last).sqrt()
            metrics = {**metrics, f"goal_distance_{where}": float(distance.mean())}
        write_json(out / "metrics.json", metrics)
        _show(verdict, metrics, source)
        numbers.update(metrics, **({"verdict": verdict} if verdict else {}))


def _show(
    verdict: dict[str, Any] | None, metrics: dict[str, Any], source: data.Source | None
) -> None:
    if verdict is None or source is None:
        console().print_json(data=metrics)
        note(
            "the model was trained on a recording: the agent was judged in the dream alone; "
            "--env-id names a real environment to act in"
        )
        return
    console().print(verdict_table(f"the agent in {source.env_id}", verdict))
    for name, value in metrics.items():
        if not name.startswith(_TOLD):
            say(f"{name.replace('_', ' ')}: {value:.3g}")
    for sentence in verdict["said"]:
        say(sentence)


def _limit(world: World, source: data.Source | None) -> int:
    """Steps of an episode; an environment that does not fit is refused before the long part.

    Raises:
        SpecError: It does not fit the model.
    """
    if source is None:
        return _STEPS
    real = source.make_vec(1)
    try:
        VectorFilterObservation(real, world)
        return source.episode_steps(real) or _STEPS
    finally:
        real.close()


def _starts(world: World, run: str) -> Belief | None:
    """What the filter believes along the run's own recording, where that is still there."""
    recorded = _recorded(run)
    return None if recorded is None else recorded_beliefs(world, recorded)


def _others(world: World, run: str, models: int, seed: int) -> list[World]:
    """Models that fit the same data: the run's own members, or some that are fitted now."""
    if models == 1:
        return []
    if (members := world.members) is None:
        if (recorded := _recorded(run)) is None:
            return []
        members = Members(world.model, models)
        members.fit(filtered_transitions(world.model, recorded), seed, progress=True)
    return world.alternatives(members)


def _recorded(run: str) -> Batch | None:
    recorded = dataset_of(run)
    if recorded is None or not recorded.exists():
        return None
    return data.load(recorded).train.sample()

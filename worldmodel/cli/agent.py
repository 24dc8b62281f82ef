"""``worldmodel agent``: train an agent in the dream and let it act in reality."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Literal

import torch

from agents.pathwise import PathwiseConfig, train_policy
from worldmodel.cli.arguments import PresetName, Run
from worldmodel.cli.console import console
from worldmodel.cli.defaults import Found, Hidden
from worldmodel.cli.runs import POLICY, reality
from worldmodel.errors import require_at_least
from worldmodel.files import write_json, write_whole
from worldmodel.systems import system_of
from worldmodel.systems.task import act
from worldmodel.world.filter import VectorFilterObservation


def agent(
    run: Run,
    preset: PresetName = "pictures",
    env_id: str | None = None,
    env_kwargs: str | None = None,
    method: Literal["pathwise", "PPO", "A2C", "SAC", "TD3", "DDPG", "DQN"] = "pathwise",
    out: Path = Path("runs/agent"),
    pathwise: PathwiseConfig = PathwiseConfig(),  # noqa: B008 (frozen)
    timesteps: int = 200_000,
    episodes: int = 100,
    steps: int | None = None,
    seed: int = 0,
    found: Hidden[Found] = Found(),  # noqa: B008 (frozen)
) -> None:
    """Train an agent in the dream and let it act in reality.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one. It decides on the defaults of
            ``pathwise``: give it before ``--help`` to see them.
        preset: Settings to begin with; by default those that the run began with.
        env_id: The real environment to act in; by default the one that the model was trained on.
            It is wrapped as that one was.
        env_kwargs: Its arguments, as JSON; by default those of the one trained on.
        method: "pathwise" follows gradients through the model; the others are Stable-Baselines3's.
        out: Folder for the policy and metrics.json.
        pathwise: Of the method "pathwise".
        timesteps: Imagined steps, of the other methods.
        episodes: Real and imagined episodes to evaluate on.
        steps: Steps per episode at most; by default the environment's own limit, or 1000.
        seed: Of evaluation, and of training with Stable-Baselines3.
        found: What the defaults were chosen by.
    """
    require_at_least(1, episodes=episodes, steps=1 if steps is None else steps)
    torch.set_num_threads(1)
    world = found.checked(run)
    source = reality(world, env_id, env_kwargs)
    real = source.make_vec(1)
    VectorFilterObservation(real, world)  # refuses what does not fit, before the long part
    steps = steps or (real.spec and real.spec.max_episode_steps) or 1000
    real.close()
    out.mkdir(parents=True, exist_ok=True)
    if method == "pathwise":
        actor, _ = train_policy(world, pathwise)
        actor.save(out / POLICY)
    else:
        from agents.sb3 import train_sb3

        actor = train_sb3(world, method, timesteps, max_episode_steps=steps, seed=seed)
        memory = BytesIO()
        actor.save(memory)
        write_whole(out / f"{method.lower()}.zip", memory.getvalue())
    system = system_of(source.env_id)
    acted = act(actor, world, source, system, episodes=episodes, steps=steps, seed=seed)
    write_json(out / "metrics.json", acted.metrics)
    console().print_json(data=acted.metrics)

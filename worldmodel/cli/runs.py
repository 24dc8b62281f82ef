"""What belongs to a run beside its model: where its data came from, and who acts in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import gymnasium as gym
from gymnasium.vector import VectorEnv

from agents.pathwise import Policy
from agents.rollout import Agent
from worldmodel.data import Source, Wrapping
from worldmodel.errors import FileFormatError, SpecError, require_extra
from worldmodel.files import read_json
from worldmodel.world.checkpoint import BUNDLED, resolve
from worldmodel.world.world import World

POLICY = "policy.safetensors"


def source_of(world: World) -> Source:
    """The environment that a model's data came from.

    Raises:
        SpecError: The model does not say.
    """
    if world.source is None:
        raise SpecError("the model does not say which environment it was trained on")
    return world.source


def metrics_of(run: str | Path) -> dict[str, Any]:
    """What was measured of a run; of one that nobody evaluated, what its checkpoint says.

    Raises:
        FileNotFoundError: There is no such run.
        FileFormatError: The file is truncated or corrupt.
    """
    file = Path(run) / "metrics.json"
    return read_json(file if file.is_file() else resolve(run) / "metrics.json")


def frames_per_second(env: gym.Env | VectorEnv, wrapping: Wrapping) -> float:
    """Of an environment as it is wrapped, so that what is shown of it runs in real time."""
    return (env.metadata.get("render_fps") or 10.0) / wrapping.frame_skip


def policy_of(run: str | Path, world: World, path: Path | None = None) -> Agent:
    """The agent that was trained in a run's dream.

    Args:
        run: As the user named it.
        world: The run's.
        path: The agent's file if it is not in the run folder or bundled, ``policy.safetensors``
            or one of Stable-Baselines3's, such as ``sac.zip``; or the folder of the first.

    Raises:
        SpecError: There is none, or it does not fit the model.
        FileFormatError: The file is truncated, corrupt or foreign.
        MissingExtraError: It needs Stable-Baselines3.
    """
    file = path or Path(run)
    file = file if file.suffix in (".safetensors", ".zip") else file / POLICY
    if path is None and not file.is_file() and (BUNDLED / run / POLICY).is_file():
        file = BUNDLED / run / POLICY
    if not file.is_file():
        raise SpecError(
            f"there is no trained policy at {file}; 'worldmodel agent --run {run} --out FOLDER' "
            "trains one, and --policy FOLDER names it"
        )
    agent, latent, act = _read_zip(file) if file.suffix == ".zip" else _read(file)
    expected = world.model.latent_size, world.model.action_spec.size
    if (latent, act) != expected:
        raise SpecError(
            f"{file} acts with {act} numbers on {latent} latent dimensions; the model has "
            f"{expected[1]} and {expected[0]}"
        )
    return agent


def _read(file: Path) -> tuple[Agent, int, int]:
    policy = Policy.load(file)
    return policy, len(policy.shift), len(policy.low)


def _read_zip(file: Path) -> tuple[Agent, int, int]:
    require_extra("stable_baselines3", "agents")
    import stable_baselines3

    kind = getattr(stable_baselines3, file.stem.upper(), None)
    if kind is None:
        raise SpecError(f"{file} is not named after an algorithm of Stable-Baselines3")
    try:
        agent = kind.load(file, device="cpu")
    except (ValueError, KeyError, BadZipFile) as error:
        raise FileFormatError(f"{file} is truncated, corrupt or foreign: {error}") from error
    space = agent.action_space
    size = int(space.n) if hasattr(space, "n") else space.shape[0]
    return agent, agent.observation_space.shape[0], size

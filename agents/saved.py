"""Agents from files: a policy or planner of ours, or an algorithm of Stable-Baselines3."""

from __future__ import annotations

from pathlib import Path

from agents import tensors_file
from agents.planner_file import FORMAT
from agents.planning import Planner
from agents.policy import Policy
from agents.rollout import Agent
from worldmodel.errors import SpecError, require_extra
from worldmodel.world.world import World


def load_agent(file: str | Path, world: World) -> Agent:
    """An agent that was trained in a world's dream.

    Args:
        file: ``*.safetensors`` of a ``Policy`` or a ``Planner``, or an algorithm's ``*.zip``, named
            after it, such as ``sac.zip``.
        world: Whose latent states it acts on.

    Raises:
        SpecError: It does not fit the world, or no algorithm has the file's name.
        FileFormatError: The file is truncated, corrupt or foreign.
        MissingExtraError: It needs Stable-Baselines3.
    """
    file, actions = Path(file), world.model.action_spec
    if file.suffix == ".zip":
        return _algorithm(file, world)
    if tensors_file.kind_of(file) == FORMAT:
        return Planner.load(file, world)
    agent = Policy.load(file)
    latent, act = len(agent.mean), agent.actions.size
    if (latent, act) != (world.model.latent_size, actions.size):
        raise SpecError(
            f"{file} acts with {act} numbers on {latent} latent dimensions; the model has "
            f"{actions.size} and {world.model.latent_size}"
        )
    return agent


def _algorithm(file: Path, world: World) -> Agent:
    require_extra("stable_baselines3", "agents")
    from agents.sb3 import ALGORITHMS, acting, unpickled

    name = file.stem.upper()
    if name not in ALGORITHMS:
        raise SpecError(f"{file} is not named after an algorithm of Stable-Baselines3")
    return acting(unpickled(name, file, world), world.model.action_spec)

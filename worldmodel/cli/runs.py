"""What belongs to a run beside its model: data, environment, settings, metrics, agent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.rollout import Agent
from agents.saved import load_agent
from worldmodel import data
from worldmodel.cli.arguments import parse_kwargs
from worldmodel.errors import SpecError
from worldmodel.files import read_json
from worldmodel.systems import PRESETS, preset_for
from worldmodel.training.settings import read_settings
from worldmodel.world.checkpoint import BUNDLED, resolve
from worldmodel.world.world import World

POLICY, SAC, VERDICT = "policy.safetensors", "sac.zip", "verdict.json"


def folder_of(run: str, purpose: str) -> Path:
    """Where what is made of a run goes: its own folder, or one below ``runs`` if it is bundled."""
    folder = Path(run)
    return folder if folder.is_dir() else Path("runs") / purpose / run


def preset_of(run: str, world: World) -> str:
    """Name of the preset that a run began as; of one that does not say, what suits its data."""
    name = read_settings(run).get("preset")
    return name if name in PRESETS else preset_for(world.model.observation_spec, world.source)


def own_data(run: str | Path) -> Path | None:
    """The data in a run folder, if there are any; of old runs a file."""
    folder, file = Path(run) / "data", Path(run) / "data.npz"
    return folder if folder.is_dir() else file if file.is_file() else None


def dataset_of(run: str) -> Path | None:
    """The data that a run was trained on: its own, or what its settings remember."""
    if own := own_data(run):
        return own
    path = read_settings(run).get("dataset", {}).get("path")
    return Path(path) if path else None


def recorded_of(run: str, world: World) -> Path | None:
    """What is real to show of a run: its own data; of a model of a recording, that recording.

    Raises:
        SpecError: The model knows no environment, and its recording is not where it was.
    """
    own = own_data(run)
    if own is not None or world.source is not None:
        return own
    path = dataset_of(run)
    if path is None or not path.exists():
        raise SpecError(
            f"the model was trained on a recording{f', {path},' if path else ''} that is not there "
            "any more; name one like it by --dataset"
        )
    return path


def require_same_system(world: World, dataset: data.Dataset) -> None:
    """Refuse data of another system: of the same shapes, they would be measured and mean nothing.

    Raises:
        SpecError: The environment is another one than the model was trained on, or has other
            arguments or another wrapping; the message names both. Nothing is refused where
            either is not known.
    """
    known, other = world.source, dataset.provenance.source
    if known is None or other is None:
        return
    for (told, ours), (_, theirs) in zip(_told(known), _told(other), strict=True):
        if ours != theirs:
            raise SpecError(
                f"the dataset is of {told}{theirs}, the model was trained on {told}{ours}; "
                "--force takes it all the same"
            )


def _told(source: data.Source) -> Iterator[tuple[str, Any]]:
    """What makes a system the one it is, most telling first."""
    bare = source.env_id.rpartition(":")[2]
    yield "", bare
    yield f"{bare} with the arguments ", source.env_kwargs
    yield f"{bare} seen through ", replace(source.wrapping, resize=source.wrapping.side)


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


def metrics_of(run: str | Path) -> dict[str, Any]:
    """What was measured of a run; of one that nobody evaluated, what its checkpoint says.

    Raises:
        FileNotFoundError: There is no such run.
        FileFormatError: The file is truncated or corrupt.
    """
    file = Path(run) / "metrics.json"
    return read_json(file if file.is_file() else resolve(run) / "metrics.json")


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
    return load_agent(agent_file(run, path), world)


def agent_file(run: str | Path, path: Path | None = None) -> Path:
    """The file of the agent that was trained in a run's dream; arguments as for ``policy_of``.

    Raises:
        SpecError: There is none.
    """
    file = path or Path(run)
    if file.suffix not in (".safetensors", ".zip"):
        # Who learned online by SAC has nothing else.
        file = file / SAC if (file / SAC).is_file() else file / POLICY
    if path is None and not file.is_file() and (BUNDLED / run / POLICY).is_file():
        file = BUNDLED / run / POLICY
    if not file.is_file():
        raise SpecError(
            f"there is no trained policy at {file}; 'worldmodel agent {run} --out FOLDER' "
            "trains one, and --policy FOLDER names it"
        )
    return file

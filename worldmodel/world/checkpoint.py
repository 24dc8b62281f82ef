"""A checkpoint is one folder: config.json, model.safetensors, metrics.json and README.md.

It is written beside its place and then moved there, so that it is there whole or not at all.
``config.json`` carries the format version and the weights' SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialize
from safetensors.torch import save as serialize
from torch import nn

from worldmodel.data.environments import Source, Wrapping
from worldmodel.errors import (
    ConfigError,
    FileFormatError,
    SpecError,
    meant,
    require_at_least,
)
from worldmodel.files import from_plain, naming, previous_folder, read_json, whole_folder
from worldmodel.models.registry import MODELS
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.world.denoiser import Denoiser, DenoiserConfig
from worldmodel.world.ends import Ends
from worldmodel.world.members import Members
from worldmodel.world.support import Support
from worldmodel.world.trust import Trust, TrustConfig

FORMAT = "worldmodel-checkpoint"
VERSION = 2
# Seconds to wait before what cannot be read is read again: exchanging folders takes far less.
_PAUSES = (0.01, 0.05)
# What a part may raise of settings that are none of its own.
_UNLIKE = (LookupError, AttributeError, TypeError, ValueError, RuntimeError, ArithmeticError)
BUNDLED = Path(__file__).parents[1] / "checkpoints"


class Checkpoint(NamedTuple):
    """What a folder holds; ``World`` says what the parts are for."""

    model: StateSpaceModel
    support: Support
    denoiser: Denoiser | None
    dream_noise: float
    source: Source | None
    metrics: dict[str, Any]
    ends: Ends
    trust: Trust | None = None
    members: Members | None = None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What has weights, by the prefix of their names in the file."""
        modules: dict[str, nn.Module] = {"model": self.model, "support": self.support}
        if self.denoiser is not None:
            modules["denoiser"] = self.denoiser
        if self.trust is not None:
            modules["trust"] = self.trust
        if self.members is not None:
            modules["members"] = self.members
        return modules


def write(kept: Checkpoint, folder: Path) -> Path:
    """Write a checkpoint, replacing the one that is there.

    Args:
        kept: With any registered model.
        folder: Where to; parents are made.

    Returns:
        ``folder``.

    Raises:
        FileFormatError: ``folder`` holds something that is not a checkpoint.
        SpecError: The model's class is not registered in ``MODELS``.
    """
    model = kept.model
    names = [name for name, kind in MODELS.items() if kind is type(model)]
    if not names:
        raise SpecError(f"{type(model).__name__} is not among the models {sorted(MODELS)}")
    if folder.exists() and not _is_checkpoint(folder):
        raise FileFormatError(f"{folder} exists and is not a checkpoint; it is left as it is")
    with whole_folder(folder) as fresh:
        weights = {
            f"{part}.{name}": value.contiguous()
            for part, module in kept.modules.items()
            for name, value in module.state_dict().items()
        }
        _write(fresh / "model.safetensors", serialize(weights))
        config = {
            "format": FORMAT,
            "version": VERSION,
            "model": names[0],
            "config": asdict(model.config),
            "observation_spec": model.observation_spec.to_json(),
            "action_spec": model.action_spec.to_json(),
            "denoiser": asdict(kept.denoiser.config) if kept.denoiser else None,
            "dream_noise": kept.dream_noise,
            "ends": asdict(kept.ends),
            "trust": _described(kept.trust),
            "members": 1 if kept.members is None else kept.members.count,
            "source": asdict(kept.source) if kept.source else None,
            "sha256": _digest(fresh / "model.safetensors"),
            "versions": {name: version(name) for name in ("worldmodel", "torch", "gymnasium")},
        }
        _write(fresh / "config.json", (json.dumps(config, indent=2) + "\n").encode())
        _write(fresh / "metrics.json", (json.dumps(kept.metrics, indent=2) + "\n").encode())
        _write(fresh / "README.md", _card(config, model, kept.metrics).encode())
    return folder


def read(folder: str | Path | None) -> Checkpoint:
    """Read what ``write`` wrote; argument and errors as for ``worldmodel.load``."""
    for pause in _PAUSES:
        try:
            return _read(resolve(folder))
        except (FileFormatError, FileNotFoundError):
            # Unless another process is exchanging it right now, it will be no better then.
            time.sleep(pause)
    return _read(resolve(folder))


def _read(path: Path) -> Checkpoint:
    config = _read_config(path)
    weights = path / "model.safetensors"
    if not weights.is_file():
        raise FileFormatError(f"{path} is incomplete: model.safetensors is missing")
    data = weights.read_bytes()
    if hashlib.sha256(data).hexdigest() != config["sha256"]:
        raise FileFormatError(
            f"{weights} is truncated or corrupt: its SHA-256 is not config.json's"
        )
    try:
        kept = _build(config, read_json(path / "metrics.json"))
        values = deserialize(data)
        for part, module in kept.modules.items():
            mine = {k: v for k, v in values.items() if k.startswith(f"{part}.")}
            module.load_state_dict({k.removeprefix(f"{part}."): v for k, v in mine.items()})
    except (*_UNLIKE, SafetensorError, OSError) as error:
        raise FileFormatError(
            f"{path}/config.json does not describe its weights: {error}"
        ) from error
    if _read_config(path) != config:
        raise FileFormatError(f"{path} was written anew while it was read")
    kept.model.eval()
    return kept


def _build(config: dict[str, Any], metrics: dict[str, Any]) -> Checkpoint:
    """All parts as ``config.json`` describes them, their weights still to be read."""
    kind: Any = MODELS[config["model"]]
    model = kind(
        from_plain(kind.config_type, config["config"]),
        ObservationSpace.from_json(config["observation_spec"]),
        ActionSpace.from_json(config["action_spec"]),
    )
    denoiser, noise = config["denoiser"], float(config["dream_noise"])
    # Checkpoints may be older than this part is; so below.
    count = config.get("members", 1)
    members = Members(model, count) if count != 1 else None
    if not 0 <= noise <= torch.finfo(torch.float32).max:
        raise ConfigError(f"dream_noise must be finite in torch.float32 and >= 0, got {noise}")
    return Checkpoint(
        model,
        Support(model.latent_size),
        None
        if denoiser is None
        else Denoiser(model.latent_size, from_plain(DenoiserConfig, denoiser)),
        noise,
        _read_source(config["source"]),
        metrics,
        from_plain(Ends, config.get("ends", {})),
        _untaught(model, config.get("trust"), members),
        members,
    )


def _described(trust: Trust | None) -> dict[str, Any] | None:
    return trust and {**asdict(trust.config), "horizon": trust.horizon}


def _untaught(
    model: StateSpaceModel, described: dict[str, Any] | None, members: Members | None
) -> Trust | None:
    if described is None:
        return None
    if not isinstance(described, dict):
        raise TypeError(f"expected the settings of bounds, got {described!r}")
    settings = {k: v for k, v in described.items() if k != "horizon"}
    sizes = model.latent_size, model.action_spec.size, model.noise_size
    names, horizon = model.observation_spec.names, described["horizon"]
    require_at_least(1, horizon=horizon)
    return Trust(*sizes, names, horizon, from_plain(TrustConfig, settings), members)


def resolve(folder: str | Path | None) -> Path:
    """The folder of a checkpoint; argument and errors as for ``load``."""
    names = sorted(p.name for p in BUNDLED.iterdir()) if BUNDLED.is_dir() else []
    if not isinstance(folder, str | os.PathLike):
        raise SpecError(
            f"checkpoint must be a world, its folder, or one of {names}, got {folder!r}"
        )
    path = Path(folder)
    for candidate in (path, path / "checkpoint"):
        # Between two renames of who writes, or where he was killed between them.
        for place in (candidate, previous_folder(candidate)):
            if (place / "config.json").is_file():
                return place
    if (BUNDLED / str(folder) / "config.json").is_file():
        return BUNDLED / str(folder)
    if path.exists():
        raise FileFormatError(f"{path} is not a checkpoint: config.json is missing")
    raise FileNotFoundError(
        f"no checkpoint at {str(folder)!r}: expected a checkpoint folder or one of {names}"
        + meant(str(folder), names)
    )


def _is_checkpoint(folder: Path) -> bool:
    """Whether a folder, of whatever version and however damaged, is one of ours to replace."""
    try:
        return json.loads((folder / "config.json").read_text())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text())
        name, number, model, _ = (config[k] for k in ("format", "version", "model", "sha256"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path}/config.json is corrupt or foreign: {error!r}") from error
    if name != FORMAT:
        raise FileFormatError(f"{path}/config.json has format {name!r}, expected {FORMAT!r}")
    if number != VERSION:
        raise FileFormatError(
            f"{path} has format version {number}, this is version {VERSION}: train it again from "
            "its dataset ('worldmodel train'), or use the release that wrote it"
        )
    if not isinstance(model, str) or model not in MODELS:
        raise FileFormatError(f"{path} holds a model {model!r}, expected one of {sorted(MODELS)}")
    return config


def _read_source(source: dict[str, Any] | None) -> Source | None:
    if source is None:
        return None
    return Source(source["env_id"], source["env_kwargs"], Wrapping(**source["wrapping"]))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with naming(path), path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _card(config: dict[str, Any], model: StateSpaceModel, metrics: dict[str, Any]) -> str:
    """Model card: what it is, how it was made, how good it is."""
    size = sum(p.numel() for p in model.parameters())
    told = {name: value for name, value in metrics.items() if name != "trust"}
    scalars = {k: v for k, v in _flatten(told).items() if isinstance(v, int | float | str)}
    rows = "\n".join(
        f"| {k} | {v:.4g} |" if isinstance(v, float) else f"| {k} | {v} |"
        for k, v in scalars.items()
    )
    return (
        f"# {config['model'].upper()} checkpoint\n\n"
        f"A learned simulator with {model.latent_size} latent dimensions and {size:,} parameters. "
        f"It observes {model.observation_spec.describe()}; actions are "
        f"{model.action_spec.describe()}.\n\n"
        '```python\nimport worldmodel\n\nworld = worldmodel.load("<this folder>")\n```\n\n'
        "It knows what its training data showed; outside of `world.support` it guesses.\n"
        f"{_believed(config['trust'], metrics)}\n"
        f"| measured | |\n|---|---|\n{rows}\n"
    )


def _believed(trust: dict[str, Any] | None, metrics: dict[str, Any]) -> str:
    """How far its dreams can be believed, in words and, where that was judged, as a table."""
    if trust is None:
        return "How far its dreams can be believed was not calibrated: their bounds are infinite.\n"
    said = (
        f"Every step of a dream of up to {trust['horizon']} carries `error_bound`, which its error "
        f"is to keep in {trust['coverage']:.0%} of dreams.\n"
    )
    if "trust" not in metrics:
        return said
    found, limit = metrics["trust"]["all"], metrics["trust"]["limit"]
    rows = [
        ("steps dreamt", found["horizons"], "d"),
        ("error, fraction of the variance", found["error"], ".1%"),
        ("error inside the support", found["inside"], ".1%"),
        ("error outside", found["outside"], ".1%"),
        ("dreams that keep their bound", found["covered"], ".1%"),
        (f"AUROC of an error above {limit:.0%}", found["auroc"], ".2f"),
    ]
    lines = [
        f"| {title} | {' | '.join('-' if v is None else format(v, how) for v in values)} |"
        for title, values, how in rows
    ]
    lines.insert(1, "|---" * (1 + len(found["horizons"])) + "|")
    probes = ", ".join(metrics["trust"]["probes"])
    said += (
        f"Under {probes} actions the median bound stays within {limit:.0%} for "
        f"{found['believable']} steps.\n\n"
    )
    return said + "\n".join(lines) + "\n"


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat

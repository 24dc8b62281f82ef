"""``settings.json`` of a run folder: all that its model was trained with, however chosen."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worldmodel.data import Dataset
from worldmodel.files import read_json, write_whole
from worldmodel.models.registry import MODELS
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.training.config import TrainConfig

FILE = "settings.json"


def write_settings(
    folder: str | Path,
    model: StateSpaceModel,
    config: TrainConfig,
    dataset: Dataset,
    preset: str | None = None,
    path: str | Path | None = None,
) -> Path:
    """Write the resolved settings of a run, whole or not at all.

    Args:
        folder: Of the run.
        model: What is trained.
        config: How.
        dataset: On what.
        preset: Name of the one that the settings began as, if there was one.
        path: Folder of the dataset, if it came from one.
    """
    names = [name for name, kind in MODELS.items() if kind is type(model)]
    settings = {
        "preset": preset,
        "model": {"name": names[0] if names else type(model).__name__, **asdict(model.config)},
        "train": asdict(config),
        "dataset": {
            "path": None if path is None else str(Path(path).resolve()),
            "env_id": dataset.provenance.env_id,
            "fingerprint": dataset.provenance.fingerprint,
        },
    }
    return write_whole(Path(folder) / FILE, (json.dumps(settings, indent=2) + "\n").encode())


def read_settings(folder: str | Path) -> dict[str, Any]:
    """What ``write_settings`` wrote; empty if nobody did.

    Raises:
        FileFormatError: The file is truncated or corrupt.
    """
    file = Path(folder) / FILE
    return read_json(file) if file.is_file() else {}

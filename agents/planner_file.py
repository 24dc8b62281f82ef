"""What a planner's file holds: how it searches, for what, and for which sizes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agents import tensors_file
from agents.goals import Target

FORMAT = "worldmodel-planner-1"


@dataclass(frozen=True)
class Saved:
    """Of a planner, all but the world.

    Attributes:
        method: Which search.
        settings: Of ``PlanningConfig``.
        sizes: Latent dimensions, and numbers that it acts with.
        target: What to come near to; None for the recorded reward.
    """

    method: str
    settings: dict[str, Any]
    sizes: tuple[int, int]
    target: Target | None

    def write(self, path: str | Path) -> None:
        """To one safetensors file, whole or not at all."""
        metadata = {
            "method": self.method,
            "settings": json.dumps(self.settings),
            "sizes": json.dumps(self.sizes),
        }
        tensors = {"none": torch.zeros(0)}
        if self.target is not None:
            state, scale = self.target.state, self.target.scale
            tensors = {"state": state.cpu().clone(), "scale": scale.cpu().clone()}
        tensors_file.write(path, FORMAT, metadata, tensors)

    @classmethod
    def read(cls, path: str | Path) -> Saved:
        """What ``write`` wrote.

        Raises:
            FileFormatError: The file is truncated, corrupt, foreign or of another version.
        """
        with tensors_file.opened(path, FORMAT) as (metadata, tensors):
            latent, act = json.loads(metadata["sizes"])
            target = Target(tensors["state"], tensors["scale"]) if "state" in tensors else None
            settings = dict(json.loads(metadata["settings"]))
            return cls(metadata["method"], settings, (int(latent), int(act)), target)

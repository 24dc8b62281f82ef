"""How a run that was killed goes on: what its parts hold is written, and given back to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from worldmodel.errors import SpecError
from worldmodel.training.state import (
    STATE_FILE,
    read_state,
    require_same,
    restore_generator,
    write_state,
)


@runtime_checkable
class Part(Protocol):
    """Of a run: what changes while it trains."""

    def state_dict(self) -> Any:
        """All that it needs to go on."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Go on from there."""


class Resuming:
    """``training/state.pt`` of one run.

    Args:
        folder: Run folder.
        identity: What the run cannot change when it goes on; expressible as JSON.
        parts: Of the run, by their names in the file.
        generator: Source of all its random numbers.

    Attributes:
        path: Of the file.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        parts: Mapping[str, Part],
        generator: torch.Generator,
    ) -> None:
        self.path = folder / STATE_FILE
        self._folder, self._identity = folder, dict(identity)
        self._parts, self._generator = dict(parts), generator

    def write(self, course: Mapping[str, Any]) -> None:
        """Write it, whole or not at all.

        Args:
            course: What is to be known beside the parts.
        """
        states = {name: part.state_dict() for name, part in self._parts.items()}
        identity, drawn = json.dumps(self._identity), self._generator.get_state()
        write_state(self.path, {"identity": identity, **states, "generator": drawn, **course})

    def go_on(self, device: torch.device, seed: int, most: float | int) -> dict[str, Any] | None:
        """Give the parts what they held, if the run was begun before.

        Args:
            device: Where tensors go.
            seed: What the generator begins with if it cannot go on as on another kind of device.
            most: Updates that the run may have.

        Returns:
            What was written beside the parts; None if there is no file.

        Raises:
            SpecError: The run was begun otherwise, or has more updates.
            FileFormatError: The file is truncated or corrupt.
        """
        if not self.path.exists():
            return None
        state = read_state(self.path, device)
        require_same(self._folder, json.loads(state["identity"]), self._identity)
        if state["update"] > most:
            raise SpecError(
                f"{self._folder} holds a run of {state['update']} updates already, which is more "
                f"than the {most} that are asked for"
            )
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        restore_generator(self._generator, state["generator"], seed + state["update"])
        return state

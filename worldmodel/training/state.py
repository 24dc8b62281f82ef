"""``training/state.pt`` of a run folder: all that exact resume needs, in one file."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from worldmodel.errors import FileFormatError, SpecError
from worldmodel.files import write_whole
from worldmodel.training.config import TrainConfig

STATE_FILE = Path("training") / "state.pt"
# Settings that a refusal names one by one.
_TOLD = 4
# What a training state must hold.
_PARTS = "identity model optimizer objective generator update usual_norm best history".split()
# Of runs that are older than these parts are.
_ABSENT = {"usual_norm": 0.0, "skipped": 0, "numerics": {}}
# No result depends on them, and another machine may not have what they ask for.
_PASSING = ("updates", "patience", "tensorboard", "compile")


def lasting(config: TrainConfig) -> dict[str, Any]:
    """What a run cannot change when it goes on."""
    return {name: value for name, value in asdict(config).items() if name not in _PASSING}


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write it, whole or not at all."""
    memory = io.BytesIO()  # torch would make an error of its own of a full disk
    torch.save(dict(state), memory)
    write_whole(path, memory.getbuffer())


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """What ``write_state`` wrote, by whichever device.

    Raises:
        FileFormatError: It is truncated or corrupt.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        json.loads(state["identity"])
        state = _ABSENT | state
        return {part: state[part] for part in (*_PARTS, *_ABSENT)}
    except Exception as error:
        raise FileFormatError(f"{path} is truncated or corrupt: {error!r}") from error


def read_history(folder: str | Path) -> list[dict[str, float]]:
    """Validations of a run so far, as in ``Trainer.history``; none if it was not trained there.

    Raises:
        FileFormatError: The folder's training state is truncated or corrupt.
    """
    path = Path(folder) / STATE_FILE
    return read_state(path, torch.device("cpu"))["history"] if path.is_file() else []


def require_same(folder: Path, before: Any, now: Any) -> None:
    """Refuse to go on with a run that was begun otherwise.

    Args:
        folder: Of the run.
        before: What the run could not change, as JSON gives it back.
        now: The same as it is asked for.

    Raises:
        SpecError: They differ; the message names the settings.
    """
    if told := list(_differences(before, json.loads(json.dumps(now)))):
        more = [f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else []
        raise SpecError(
            f"{folder} holds a run with other settings: "
            f"{', '.join(told[:_TOLD] + more)}; choose another folder or delete it"
        )


def restore_generator(generator: torch.Generator, state: torch.Tensor, seed: int) -> None:
    """Let a generator go on from a state, or from a seed if the state is of another kind of device.

    Args:
        generator: Of whichever device.
        state: Of a generator, perhaps of another device.
        seed: What to begin with then: draws cannot go on there as they would have here.
    """
    if state.shape == generator.get_state().shape:
        generator.set_state(state.cpu())
    else:
        generator.manual_seed(seed)


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Settings that a run had otherwise; older ones may have been written with more of them."""
    if isinstance(now, dict) and isinstance(before, dict):
        for name, value in now.items():
            yield from _differences(before.get(name), value, f"{path}.{name}" if path else name)
    elif before != now:
        yield f"{path} was {before!r}, not {now!r}"

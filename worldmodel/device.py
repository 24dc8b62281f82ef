"""Where numbers are computed, and in what precision."""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from worldmodel.errors import ConfigError, DeviceError

Precision = Literal["fp32", "bf16", "fp16"]
_KINDS: dict[str, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_NAME = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def devices() -> tuple[str, ...]:
    """Names of all that are there, the fastest first."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return (*cuda, *mps, "cpu")


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name.

    Args:
        name: "auto" for the fastest that is there, "cpu", "cuda", "cuda:1" or "mps". Where torchrun
            started several processes, "auto" and "cuda" give each a GPU of its own.

    Raises:
        ConfigError: It is no such name.
        DeviceError: It is not there; the message says what is.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    there = devices()
    own = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    if name == "cuda" or (name == "auto" and there[0].startswith("cuda")):
        name = own
    elif name == "auto":
        name = there[0]
    if name not in there:
        raise DeviceError(f"there is no device {name}; there is {', '.join(there)}")
    return torch.device(name)


class Numerics:
    """Runs a loss and its gradient in a precision; weights, and their updates, stay ``float32``.

    Args:
        precision: "bf16" and "fp16" compute products of matrices and convolutions in 16 bits. The
            gradient of "fp16" is scaled up before, for it would underflow, and down after.
        device: Where.

    Raises:
        DeviceError: The device has no such precision.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        if not has_precision(device, precision):
            raise DeviceError(f"the device {device} has no precision {precision}; use fp32 or bf16")
        self._device, self._dtype = device, _KINDS[precision]
        self._scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None

    def autocast(self) -> Any:
        """The context that a loss is computed in."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._dtype)

    def backward(self, loss: Tensor, optimizer: Any) -> None:
        """Add the gradient to that of the optimiser's weights, in its true size."""
        if self._scaler is None:
            loss.backward()
            return
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: Any) -> None:
        """One step of the optimiser; none where a scaled gradient overflowed."""
        if self._scaler is None:
            optimizer.step()
            return
        self._scaler.step(optimizer)
        self._scaler.update()

    @property
    def forgives(self) -> bool:
        """Whether a gradient that is not finite is to be expected: its scale was too great."""
        return self._scaler is not None and self._scaler.get_scale() >= 1

    def state_dict(self) -> dict[str, Any]:
        """What exact resume needs."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of ``state_dict``."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)


def has_precision(device: torch.device, precision: str) -> bool:
    """Whether a device computes in it by itself."""
    if precision == "fp16":
        return device.type in ("cuda", "mps")
    if precision == "bf16" and device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return True


def wait(device: torch.device) -> None:
    """Until all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

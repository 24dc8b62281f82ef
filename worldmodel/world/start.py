"""Where a dream starts when the caller says so: ``reset(options=...)``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.errors import ShapeError, SpecError
from worldmodel.models.ssm import StateSpaceModel

_KEYS = ("state", "observations", "actions")


def states_from_options(
    model: StateSpaceModel, options: dict[str, Any] | None, n: int
) -> Tensor | None:
    """The first states that ``options`` ask for, or None if they ask for none.

    Args:
        model: The dreaming model.
        options: ``{"state": z}`` with z (latent,) or (n, latent); or ``{"observations": frames,
            "actions": actions}`` with K recorded frames (K, *obs) or (n, K, *obs) and the K - 1
            actions between them: the dream starts at the *last* frame, by filtering. ``actions``
            may be left out if K is 1. Empty or None asks for nothing.
        n: Number of environments; one start is shared by all.

    Returns:
        (n, latent), a fresh tensor.

    Raises:
        SpecError: An option is unknown, or the options contradict each other.
        ShapeError: An array does not fit the model, or is not finite.
    """
    options = options or {}
    if unknown := [key for key in options if key not in _KEYS]:
        raise SpecError(f"unknown reset options {unknown}; known are {list(_KEYS)}")
    if not options:
        return None
    if "state" in options:
        if len(options) > 1:
            raise SpecError(f"give either 'state' or 'observations', got {sorted(options)}")
        return _given(model, options["state"], n)
    if "observations" not in options:
        raise SpecError("reset option 'actions' needs 'observations'")
    return _filtered(model, options["observations"], options.get("actions"), n)


def _given(model: StateSpaceModel, state: Any, n: int) -> Tensor:
    array = np.asarray(state, dtype=np.float64)
    if array.shape not in ((model.latent_size,), (n, model.latent_size)):
        raise ShapeError(
            f"state must be ({model.latent_size},) or ({n}, {model.latent_size}), got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ShapeError(f"state must be finite, got {array}")
    array = np.broadcast_to(array, (n, model.latent_size)).copy()
    return torch.from_numpy(array).to(model.device, model.dtype)


def _filtered(model: StateSpaceModel, observations: Any, actions: Any, n: int) -> Tensor:
    spec, action_spec = model.observation_spec, model.action_spec
    frames = np.asarray(observations)
    if frames.ndim == len(spec.shape) + 1:
        frames = frames[np.newaxis]
    if frames.ndim != len(spec.shape) + 2 or len(frames) not in (1, n) or frames.shape[1] < 1:
        raise ShapeError(
            f"observations must be (K, *obs) or ({n}, K, *obs) with K >= 1 and obs {spec.shape}, "
            f"got {np.shape(observations)}"
        )
    lead = (len(frames), frames.shape[1] - 1)
    if actions is None:
        actions = np.zeros((0,) if action_spec.kind == "discrete" else (0, action_spec.size), int)
    controls = np.asarray(actions)
    if controls.ndim == 1 + (action_spec.kind == "box"):
        controls = controls[np.newaxis]
    if controls.shape != (lead if action_spec.kind == "discrete" else (*lead, action_spec.size)):
        raise ShapeError(
            f"observations {frames.shape} need actions {(*lead, action_spec.size)}, "
            f"got {controls.shape}"
        )
    beliefs = model.filter_beliefs(
        _tensor(model, frames), _tensor(model, action_spec.encode(controls)), frames.shape[1]
    )
    return beliefs.mean[:, -1].expand(n, -1).clone()


def _tensor(model: StateSpaceModel, array: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.array(array)).to(model.device)
    return tensor if tensor.dtype == torch.uint8 else tensor.to(model.dtype)

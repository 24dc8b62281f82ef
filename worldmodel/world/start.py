"""Where a dream starts when the caller says so: ``reset(options=...)``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.error import InvalidAction
from torch import Tensor

from worldmodel.errors import ShapeError, SpecError
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import ActionSpace
from worldmodel.types import to_tensors

_KEYS = ("state", "observations", "actions")


def states_from_options(
    model: StateSpaceModel, options: dict[str, Any] | None, n: int
) -> Tensor | None:
    """The first states that ``options`` ask for, or None if they ask for none.

    Args:
        model: The dreaming model.
        options: ``{"state": z}`` with z (latent,) or (n, latent); or ``{"observations": frames,
            "actions": actions}`` with K observations of the environment, stacked as Gymnasium does
            it, (K, *obs) or (n, K, *obs), and the K - 1 actions between them: the dream starts at
            the *last* frame, by filtering. ``actions`` may be left out if K is 1. Empty or None
            asks for nothing.
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
    space, action_space = model.observation_spec, model.action_spec
    lead = space.lead(observations)
    if len(lead) not in (1, 2) or lead[-1] < 1 or (len(lead) == 2 and lead[0] not in (1, n)):
        raise ShapeError(
            f"observations must have (K,) or ({n}, K) leading axes with K >= 1, got {lead}"
        )
    frames = space.read(observations, lead)
    if actions is None and lead[-1] > 1:
        raise ShapeError(f"{lead[-1]} observations need {lead[-1] - 1} actions, got none")
    steps = (*lead[:-1], lead[-1] - 1)
    controls = np.zeros((*steps, action_space.size), np.float32)
    if actions is not None and lead[-1] > 1:
        controls = _controls(action_space, actions, steps)
    if len(lead) == 1:
        frames, controls = {k: v[np.newaxis] for k, v in frames.items()}, controls[np.newaxis]
    beliefs = model.filter_beliefs(
        to_tensors(frames, 2, model.device),
        torch.from_numpy(controls).to(model.device, model.dtype),
        lead[-1],
    )
    return beliefs.mean[:, -1].expand(n, -1).clone()


def _controls(space: ActionSpace, actions: Any, lead: tuple[int, ...]) -> np.ndarray:
    try:
        return space.encode(actions, lead)
    except InvalidAction as error:
        raise ShapeError(
            f"reset option 'actions' for {lead[-1] + 1} observations: {error}"
        ) from None

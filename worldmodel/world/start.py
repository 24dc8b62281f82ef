"""Where a dream starts when the caller says so: ``reset(options=...)``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.error import InvalidAction
from torch import Tensor

from worldmodel.errors import DivergenceError, ShapeError, SpecError
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import ActionSpace
from worldmodel.types import to_finite, to_tensors

_KEYS = ("state", "observations", "actions")


def states_from_options(model: StateSpaceModel, options: Any, n: int) -> Tensor | None:
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
        SpecError: The options are no dictionary, one is unknown, or they contradict each other.
        ShapeError: An array does not fit the model, or is not finite.
        DivergenceError: The filter's belief after the observations is not finite.
    """
    options = checked_options(options)
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


def checked_options(options: Any) -> dict[str, Any]:
    """A copy of reset options; empty for None.

    Raises:
        SpecError: They are no dictionary.
    """
    if options is not None and not isinstance(options, dict):
        raise SpecError(f"reset options must be a dict or None, got {options!r:.200}")
    return dict(options or {})


def chosen_by(mask: Any, n: int) -> np.ndarray:
    """Which of n environments a "reset_mask" picks, (n,) bool; all for None.

    Raises:
        ShapeError: It is no such mask, or picks none.
    """
    if mask is None:
        return np.ones(n, np.bool_)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise ShapeError(f"reset_mask must be a numpy array of bool, got {mask!r}")
    if mask.shape != (n,) or not mask.any():
        raise ShapeError(f"reset_mask must be ({n},) and pick some, got {mask}")
    return mask.copy()


def _given(model: StateSpaceModel, state: Any, n: int) -> Tensor:
    states, latent = to_finite("state", state, model.dtype, model.device), model.latent_size
    if states.shape not in ((latent,), (n, latent)):
        raise ShapeError(f"state must be ({latent},) or ({n}, {latent}), got {tuple(states.shape)}")
    return states.expand(n, latent).clone()


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
    # An empty list says no more than None, and has not the shape of empty actions.
    if actions is not None and (lead[-1] > 1 or not (isinstance(actions, list) and not actions)):
        controls = _controls(action_space, actions, steps)
    if len(lead) == 1:
        frames, controls = {k: v[np.newaxis] for k, v in frames.items()}, controls[np.newaxis]
    beliefs = model.filter_beliefs(
        to_tensors(frames, 2, model.device),
        torch.from_numpy(controls).to(model.device, model.dtype),
        lead[-1],
    )
    states = beliefs.mean[:, -1]
    if not states.isfinite().all():
        raise DivergenceError("the filter's belief is not finite after reset option 'observations'")
    return states.expand(n, -1).clone()


def _controls(space: ActionSpace, actions: Any, lead: tuple[int, ...]) -> np.ndarray:
    try:
        return space.encode(actions, lead)
    except InvalidAction as error:
        raise ShapeError(
            f"reset option 'actions' for {lead[-1] + 1} observations: {error}"
        ) from None

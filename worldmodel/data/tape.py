"""Arrays that a recording is written on, and how ground truth is read from vector infos."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from worldmodel.errors import SpecError
from worldmodel.types import Batch, ObservationSpec


class Tape:
    """Episodes in the making, under the index convention of ``worldmodel.types``.

    Args:
        spec: What one observation looks like.
        actions: (B, T, act), ``float32``, encoded; padding is zeroed when the tape is closed.
    """

    def __init__(self, spec: ObservationSpec, actions: np.ndarray) -> None:
        size, steps = actions.shape[:2]
        dtype = np.uint8 if spec.pixels else np.float32
        self._observations = np.zeros((size, steps + 1, *spec.shape), dtype)
        self._actions = actions
        self._rewards = np.zeros((size, steps), np.float32)
        self._terminated = np.zeros((size, steps), np.bool_)
        self._mask = np.zeros((size, steps), np.bool_)
        self._states: np.ndarray | None = None
        self._first = True

    def arrive(
        self, episodes: np.ndarray, t: int, observation: np.ndarray, state: np.ndarray | None
    ) -> None:
        """Write the observations that some episodes have at time ``t``.

        Args:
            episodes: (k,) indices of the episodes.
            t: 0 for the reset, then 1 to T.
            observation: (k, *obs).
            state: (k, n) ground truth, or None. Whether the source has any is decided by the
                first call.

        Raises:
            SpecError: The source has ground truth at one time and not at another, or of another
                size.
        """
        if self._first and state is not None:
            size, frames = self._observations.shape[:2]
            self._states = np.zeros((size, frames, state.shape[1]), np.float32)
        self._first = False
        self._observations[episodes, t] = observation
        if self._states is None:
            return
        expected = (len(episodes), self._states.shape[2])
        if state is None or state.shape != expected:
            raise SpecError(
                f"info['state'] of {expected[1]} numbers was given at first; at step {t} of "
                f"episodes {episodes.tolist()} got {None if state is None else state.shape}"
            )
        self._states[episodes, t] = state

    def pay(self, episodes: np.ndarray, t: int, reward: np.ndarray, terminated: np.ndarray) -> None:
        """Write the rewards and terminations, each (k,), that step ``t`` gave some episodes."""
        self._rewards[episodes, t] = reward
        self._terminated[episodes, t] = terminated
        self._mask[episodes, t] = True

    def batch(self) -> Batch:
        """Close the tape: pad what ended early, and hand the episodes out.

        Raises:
            SpecError: A recorded value is not finite; the message says which, and when.
        """
        length = self._mask.sum(1)
        arrays = {
            "observations": _repeat_last(self._observations, length),
            "actions": np.where(self._mask[..., None], self._actions, np.float32(0)),
            "rewards": self._rewards,
            "terminated": self._terminated,
            "mask": self._mask,
        }
        if self._states is not None:
            arrays["states"] = _repeat_last(self._states, length)
        for name, array in arrays.items():
            _require_finite(name, array)
        return Batch(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def truth(infos: dict[str, Any], rows: np.ndarray) -> np.ndarray | None:
    """Ground truth of some environments from a vector environment's infos.

    Args:
        infos: With ``infos["state"]``, one row per environment, and perhaps the mask
            ``infos["_state"]`` of the rows that hold; a native vector environment may omit it.
        rows: (k,) indices of the environments that are asked for.

    Returns:
        (k, n) ``float32``, each state flattened; None unless all the rows have one.

    Raises:
        SpecError: ``infos["state"]`` is not made of numbers.
    """
    value = infos.get("state")
    if value is None or not np.all(
        np.asarray(infos["_state"])[rows] if "_state" in infos else True
    ):
        return None
    try:
        if isinstance(value, np.ndarray) and value.dtype != object:
            return value[rows].astype(np.float32).reshape(len(rows), int(np.prod(value.shape[1:])))
        flat = [np.asarray(value[i], np.float32).ravel() for i in rows]
        return np.stack(flat) if flat else None
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(
            f"info['state'] must be an array of numbers of fixed size, got {value!r}"
        ) from error


def _repeat_last(frames: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Frames (B, T + 1, ...) with frame ``length[b]`` repeated to the end of episode b."""
    last = frames.shape[1] - 1
    if (length == last).all():
        return frames
    index = np.minimum(np.arange(last + 1), length[:, None])
    return frames[np.arange(len(frames))[:, None], index]


def _require_finite(name: str, array: np.ndarray) -> None:
    if array.dtype != np.float32 or np.isfinite(array).all():
        return
    episode, time = np.argwhere(~np.isfinite(array))[0][:2]
    raise SpecError(
        f"{name} must be finite, got {array[episode, time]} in episode {episode} at time {time}"
    )

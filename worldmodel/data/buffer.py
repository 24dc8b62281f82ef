"""Episodes in the making."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int, Shaped

from worldmodel.errors import ShapeError, SpecError
from worldmodel.spaces import ObservationSpace
from worldmodel.types import Batch, to_tensors


@dataclass(frozen=True)
class Played:
    """One episode of T steps as it was played, in the precision it was played in.

    Attributes:
        observations: (T + 1, *shape) by stream.
        controls: (T, act).
        rewards: (T,).
        terminated: (T,).
        truncated: (T,).
        states: (T + 1, n) ground truth, or None.
        note: Why there is none.
    """

    observations: dict[str, np.ndarray]
    controls: Float32[np.ndarray, "steps act"]
    rewards: Float64[np.ndarray, " steps"]
    terminated: Bool[np.ndarray, " steps"]
    truncated: Bool[np.ndarray, " steps"]
    states: Float64[np.ndarray, "frames n"] | None
    note: str | None

    @property
    def frames(self) -> int:
        """How many."""
        return len(self.rewards) + 1


class EpisodeBuffer:
    """Arrays that episodes are written to, under the index convention of ``worldmodel.types``.

    Attributes:
        note: Why ground truth was left out of what was handed out; None if it was not.
        complete: (B,), which episodes have come to their end.

    Args:
        space: What one observation looks like.
        controls: (B, T, act), encoded actions; padding is zeroed when the episodes are handed out.
    """

    def __init__(
        self, space: ObservationSpace, controls: Float32[np.ndarray, "episodes steps act"]
    ) -> None:
        size, steps = controls.shape[:2]
        self._space = space
        self._observations = {
            stream.name: np.zeros((size, steps + 1, *stream.shape), stream.dtype)
            for stream in space.streams
        }
        self._controls = controls
        self._rewards = np.zeros((size, steps))
        self._terminated = np.zeros((size, steps), np.bool_)
        self._truncated = np.zeros((size, steps), np.bool_)
        self._mask = np.zeros((size, steps), np.bool_)
        self._states: np.ndarray | None = None
        self._first = True
        self.note: str | None = None
        self.complete = np.zeros(size, np.bool_)

    def observe(
        self,
        episodes: Int[np.ndarray, " k"],
        t: int,
        observations: Any,
        states: Shaped[np.ndarray, "k n"] | None,
    ) -> None:
        """Write the observations that some episodes have at time ``t``.

        Args:
            episodes: Indices of the episodes.
            t: 0 for the reset, then 1 to T.
            observations: Of the space, k of them, in Gymnasium's layout of a batch.
            states: Ground truth, or None. Whether the source has any is decided by the first call.

        Raises:
            ShapeError: An observation breaks its space; the message names the stream.
            SpecError: The source has ground truth at one time and not at another, or of another
                size.
        """
        try:
            read = self._space.read(observations, (len(episodes),))
        except ShapeError as error:
            raise ShapeError(
                f"what the environment observes at step {t} breaks its declared space: {error}"
            ) from error
        for name, values in read.items():
            self._observations[name][episodes, t] = values
        self._tell(episodes, t, states)

    def _tell(self, episodes: np.ndarray, t: int, states: np.ndarray | None) -> None:
        """Write ground truth."""
        if self._first and states is not None:
            size, steps = self._mask.shape
            self._states = np.zeros((size, steps + 1, states.shape[1]))
        self._first = False
        if self._states is None:
            return
        expected = (len(episodes), self._states.shape[2])
        if states is None or states.shape != expected:
            raise SpecError(
                f"info['state'] of {expected[1]} numbers was given at first; at step {t} of "
                f"episodes {episodes.tolist()} got {None if states is None else states.shape}"
            )
        self._states[episodes, t] = states

    def reward(
        self,
        episodes: Int[np.ndarray, " k"],
        t: int,
        rewards: Shaped[np.ndarray, " k"],
        terminated: Bool[np.ndarray, " k"],
        truncated: Bool[np.ndarray, " k"],
    ) -> None:
        """Write what step ``t`` gave some episodes; from then on the step counts as recorded."""
        self._rewards[episodes, t] = rewards
        self._terminated[episodes, t] = terminated
        self._truncated[episodes, t] = truncated
        self._mask[episodes, t] = True

    def act(
        self, episodes: Int[np.ndarray, " k"], t: int | slice, controls: Float32[np.ndarray, "k *_"]
    ) -> None:
        """Write what is done in step ``t``, or in several steps."""
        self._controls[episodes, t] = controls

    def played(self, episode: int, note: str | None) -> Played:
        """One episode as it is by now; views."""
        steps = int(self._mask[episode].sum())
        states = None if self._states is None else self._states[episode, : steps + 1]
        seen = {name: frames[episode, : steps + 1] for name, frames in self._observations.items()}
        taken, paid = self._controls[episode, :steps], self._rewards[episode, :steps]
        ends = self._terminated[episode, :steps], self._truncated[episode, :steps]
        return Played(seen, taken, paid, *ends, states, note)

    def put(self, episode: int, played: Played) -> None:
        """Write an episode that was played elsewhere.

        Raises:
            SpecError: As for ``observe``.
        """
        steps, one = len(played.rewards), np.array([episode])
        for name, frames in played.observations.items():
            self._observations[name][episode, : steps + 1] = frames
        self._controls[episode, :steps] = played.controls
        self._rewards[episode, :steps] = played.rewards
        self._terminated[episode, :steps] = played.terminated
        self._truncated[episode, :steps] = played.truncated
        self._mask[episode, :steps] = True
        for t in range(steps + 1):
            self._tell(one, t, None if played.states is None else played.states[t : t + 1])
        self.complete[episode] = True

    def batch(self) -> Batch:
        """Hand the episodes out, with what ended early padded.

        Raises:
            SpecError: A recorded value is not finite; the message says which, and when. Or rewards
                vary by less than ``float32`` can tell apart.
        """
        length = self._mask.sum(1)
        if lost := _lost(self._rewards[self._mask]):
            raise SpecError(
                f"float32 does not hold how rewards vary: {lost}; subtract a constant with "
                "gymnasium.wrappers.TransformReward"
            )
        arrays = {
            "actions": np.where(self._mask[..., None], self._controls, np.float32(0)),
            "rewards": _single(self._rewards),
            "terminated": self._terminated,
            "truncated": self._truncated,
            "mask": self._mask,
        }
        if self._states is not None:
            states = _repeat_last(self._states, length)
            told = (_lost(states[..., i]) for i in range(states.shape[-1]))
            named = [f"component {i} varies {lost}" for i, lost in enumerate(told) if lost]
            if named:
                self.note = (
                    'info["state"] is ignored as ground truth: float32 does not hold how '
                    f"{named[0]}; let the environment subtract a constant"
                )
            else:
                arrays["states"] = _single(states)
        for name, array in arrays.items():
            require_finite_values(name, array)
        observations = {
            name: _repeat_last(frames, length) for name, frames in self._observations.items()
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Batch(to_tensors(observations, 2), **tensors)


def _repeat_last(frames: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Frames (B, T + 1, ...) with frame ``length[b]`` repeated to the end of episode b."""
    last = frames.shape[1] - 1
    if (length == last).all():
        return frames
    index = np.minimum(np.arange(last + 1), length[:, None])
    return frames[np.arange(len(frames))[:, None], index]


def _lost(values: Float64[np.ndarray, "*n"]) -> str | None:
    """How numbers vary, if ``float32`` would change that by more than a hundredth."""
    if not values.size or not np.isfinite(values).all():
        return None
    centre, largest = values.flat[0], np.abs(values).max()
    # Relative to the largest: squares of the greatest numbers have no float64.
    unit = largest or 1.0
    deviation = ((values - centre) / unit).std()
    rounding = ((_single(values).astype(np.float64) - values) / unit).std()
    if deviation <= 8 * np.finfo(np.float64).eps or not rounding > 0.01 * deviation:
        return None
    return f"by {deviation * unit:.3g} about {centre:.10g}"


def _single(values: np.ndarray) -> np.ndarray:
    """``float32``; a number that it does not hold becomes infinite, which is refused elsewhere."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def require_finite_values(name: str, array: np.ndarray) -> None:
    """Raise unless all numbers of an array (B, T, ...) are finite; see ``require_finite_rows``."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        for episode, rows in enumerate(array):
            require_finite_rows(name, rows, episode)


def require_finite_rows(name: str, rows: np.ndarray, episode: int) -> None:
    """Raise unless all numbers of one episode's array (T, ...) are finite.

    Raises:
        SpecError: One is not; the message begins with ``name``, and says which and when.
    """
    if rows.dtype.kind != "f" or np.isfinite(rows).all():
        return
    time = np.argwhere(~np.isfinite(rows))[0][0]
    raise SpecError(f"{name} must be finite, got {rows[time]} in episode {episode} at time {time}")

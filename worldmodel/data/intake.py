"""What somebody has of an episode, as it is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.error import InvalidAction

from worldmodel.data.buffer import require_finite_rows
from worldmodel.errors import ShapeError, SpecError
from worldmodel.spaces import ActionSpace, ObservationSpace, Stream
from worldmodel.spaces.tree import Branch, Node

_ALIASES = {"terminations": "terminated", "truncations": "truncated"}
KEYS = ("observations", "actions", "rewards", "terminated", "truncated")
KEYS += ("states", "timestamps", "seen")


@dataclass(frozen=True)
class Intake:
    """Reads episodes of one dataset; all that is wrong with one names its number.

    Attributes:
        observation_spec: Of the dataset.
        action_spec: Likewise.
        final_observation: Whether an episode of T actions has T + 1 observations. If not, it has T:
            what its last action led to is not known, and that step is left out.
    """

    observation_spec: ObservationSpace
    action_spec: ActionSpace
    final_observation: bool = True

    def read(self, episode: Mapping[str, Any], number: int) -> dict[str, np.ndarray]:
        """Arrays by the names of ``worldmodel.data.parts.Part``.

        Args:
            episode: As for ``from_episodes``.
            number: How many there were before, for errors.

        Raises:
            ShapeError: Lengths do not fit, or values break the spaces.
            SpecError: A key is missing or unknown, or a number is not finite.
        """
        given = named(episode, number)
        actions = _fitted(self.action_spec.root, given["actions"])
        taken = _length("actions", actions, number)
        seen = _fitted(self.observation_spec.root, given["observations"])
        frames = taken + self.final_observation
        steps = frames - 1
        if steps < 1:
            raise ShapeError(f"episode {number} has no step: {taken} actions, {frames} frames")
        self._require_frames(seen, frames, taken, number)
        beside = _beside(given, frames, number)
        if "seen" in beside and not beside["seen"].all():
            seen = _held(seen, beside["seen"])
        try:
            streams = self.observation_spec.read(seen, (frames,))
            controls = self.action_spec.encode(actions, (taken,))[:steps]
        except (ShapeError, InvalidAction) as error:
            _name_time(seen, "observations", number)
            raise ShapeError(f"episode {number}: {error}") from error
        arrays = {f"observations.{name}": values for name, values in streams.items()}
        arrays["actions"] = np.ascontiguousarray(controls)
        arrays |= self._outcomes(given, taken, steps, number)
        arrays |= beside
        for name, array in arrays.items():
            require_finite_rows(name, array, number)
        return arrays

    def loses_end(self, episode: Mapping[str, Any], number: int) -> bool:
        """Whether an episode, which was read, ends by the action that is left out."""
        given = named(episode, number)
        if self.final_observation or given.get("terminated") is None:
            return False
        taken = _length("actions", _fitted(self.action_spec.root, given["actions"]), number)
        return bool(_ends("terminated", given["terminated"], taken, number)[-1])

    def _require_frames(self, seen: Any, frames: int, taken: int, number: int) -> None:
        for name, array in _leaves(seen, "observations"):
            if array.ndim and len(array) != frames:
                hint = ""
                if len(array) == frames - 1 and self.final_observation:
                    hint = (
                        "; if the last action's outcome was not recorded, final_observation=False "
                        "leaves that action out"
                    )
                raise ShapeError(
                    f"episode {number} has {taken} actions and {len(array)} {name}; expected "
                    f"{frames}{hint}"
                )

    def _outcomes(
        self, given: Mapping[str, Any], taken: int, steps: int, number: int
    ) -> dict[str, np.ndarray]:
        """What is given by step."""
        arrays = {"terminated": _ends("terminated", given.get("terminated"), taken, number)[:steps]}
        if given.get("truncated") is not None:
            arrays["truncated"] = _ends("truncated", given["truncated"], taken, number)[:steps]
        if given.get("rewards") is not None:
            rewards = _numbers("rewards", given["rewards"], np.float32, number)
            if rewards.shape != (taken,):
                raise ShapeError(
                    f"episode {number} has {taken} actions and rewards {rewards.shape}; expected "
                    f"({taken},)"
                )
            arrays["rewards"] = rewards[:steps]
        return arrays


def told_lost(ends: int) -> str:
    """What is to be known of ends that were left out with the last actions."""
    return (
        f"{ends:,} episodes end by their last action, which is left out: nothing learns of these "
        "ends; if they stand beside the observation that they came with, leave no action out "
        "(worldmodel import --arriving terminated)"
    )


def named(episode: Mapping[str, Any], number: int) -> dict[str, Any]:
    """An episode by the names of ``KEYS``.

    Raises:
        SpecError: One is unknown, or observations or actions are missing.
    """
    if not isinstance(episode, Mapping):
        raise SpecError(f"episode {number} must be a dictionary, got {type(episode).__name__}")
    given = {_ALIASES.get(key, key): value for key, value in episode.items()}
    if unknown := sorted(set(given) - set(KEYS)):
        raise SpecError(f"episode {number} has the key {unknown[0]!r}; expected {', '.join(KEYS)}")
    for key in ("observations", "actions"):
        if given.get(key) is None:
            raise SpecError(f"episode {number} has no {key}")
    return given


def _fitted(node: Node, values: Any) -> Any:
    """Arrays in nested dictionaries and tuples; (T,) of what is one number becomes (T, 1)."""
    if isinstance(node, Branch):
        try:
            parts = zip(node.members, node.split(values), strict=True)
        except ShapeError:
            return values  # told where it is read
        return node.join([_fitted(member, part) for member, part in parts])
    assert isinstance(node, Stream)
    try:
        array = np.asarray(values)
    except ValueError:
        return values
    if node.leaf.shape == (1,) and array.ndim == 1:
        return array[:, None]
    if node.leaf.shape == () and array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    return array


def _leaves(values: Any, name: str) -> list[tuple[str, np.ndarray]]:
    if isinstance(values, Mapping):
        return [leaf for key in values for leaf in _leaves(values[key], f"{name}.{key}")]
    if isinstance(values, tuple):
        return [leaf for i, part in enumerate(values) for leaf in _leaves(part, f"{name}.{i}")]
    return [(name, np.asarray(values))]


def _length(what: str, values: Any, number: int) -> int:
    lengths = {len(array) if array.ndim else 0 for _, array in _leaves(values, what)}
    if len(lengths) != 1:
        raise ShapeError(f"episode {number}: the parts of {what} are {sorted(lengths)} long")
    return lengths.pop()


def _name_time(values: Any, what: str, number: int) -> None:
    for name, array in _leaves(values, what):
        require_finite_rows(name, array, number)


def _numbers(what: str, values: Any, dtype: Any, number: int) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ShapeError(f"episode {number}: {what} must be numbers, got {array.dtype}")
    require_finite_rows(what, array, number)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array.astype(dtype))


def _ends(what: str, values: Any, taken: int, number: int) -> np.ndarray:
    """(T,) bool; a single value is about the last step, and None says that there was no end."""
    ends = np.zeros(taken, np.bool_)
    if values is None:
        return ends
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ShapeError(f"episode {number}: {what} must be booleans, got {array!r:.200}")
    if array.shape not in ((), (taken,)):
        raise ShapeError(
            f"episode {number} has {taken} actions and {what} {array.shape}; expected ({taken},), "
            "or one for the last step"
        )
    if array.ndim:
        return array.astype(np.bool_)
    ends[-1] = bool(array)
    return ends


def _beside(given: Mapping[str, Any], frames: int, number: int) -> dict[str, np.ndarray]:
    """What is given by frame, and no observation."""
    arrays = {}
    if given.get("states") is not None:
        states = _numbers("states", given["states"], np.float32, number)
        if states.ndim < 1 or len(states) != frames:
            raise ShapeError(f"episode {number} has states {states.shape}; expected ({frames}, n)")
        arrays["states"] = states.reshape(frames, -1)
    if given.get("timestamps") is not None:
        times = _numbers("timestamps", given["timestamps"], np.float64, number)
        if times.shape != (frames,):
            raise ShapeError(f"episode {number} has timestamps {times.shape}; expected ({frames},)")
        if (late := np.flatnonzero(np.diff(times) <= 0)).size:
            i = int(late[0])
            raise ShapeError(
                f"episode {number}: timestamps must increase, got {times[i]} and then "
                f"{times[i + 1]} at time {i + 1}"
            )
        arrays["timestamps"] = times
    if given.get("seen") is not None:
        arrays["seen"] = _looks(given["seen"], frames, number)
    return arrays


def _looks(values: Any, frames: int, number: int) -> np.ndarray:
    """(T + 1,) bool: which frames were seen; the first always is."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ShapeError(f"episode {number}: seen must be booleans, got {array!r:.200}")
    if array.shape != (frames,):
        raise ShapeError(f"episode {number} has seen {array.shape}; expected ({frames},)")
    if not array[0]:
        raise ShapeError(
            f"episode {number}: seen is False at time 0; expected an episode to begin with a "
            "frame that was seen"
        )
    return array.astype(np.bool_)


def _held(values: Any, seen: np.ndarray) -> Any:
    """What is observed, with the last that was seen in place of what was not."""
    if isinstance(values, Mapping):
        return {key: _held(part, seen) for key, part in values.items()}
    if isinstance(values, tuple):
        return tuple(_held(part, seen) for part in values)
    return np.asarray(values)[np.maximum.accumulate(np.where(seen, np.arange(len(seen)), 0))]

"""Spaces of episodes of which there are arrays alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from worldmodel.errors import ShapeError, SpecError


def observation_space(samples: Sequence[Any]) -> tuple[gym.Space, list[str]]:
    """The space of observations, (T, ...) arrays or nested dictionaries of them.

    Pictures are uint8 of rank 3 or 4, time included; floats are Boxes without bounds, booleans
    switches, and whole numbers, one at a time, the index of a value among those that there are.

    Args:
        samples: One an episode.

    Returns:
        The space, and what was assumed, a sentence each.

    Raises:
        SpecError: What they are cannot be told; the message names the stream.
        ShapeError: Episodes do not agree.
    """
    notes: list[str] = []
    return _space("observations", samples, notes), notes


def action_space(samples: Sequence[Any]) -> tuple[gym.Space, list[str]]:
    """The space of actions; as of ``observation_space``, without pictures."""
    notes: list[str] = []
    return _space("actions", samples, notes), notes


def _space(name: str, samples: Sequence[Any], notes: list[str]) -> gym.Space:
    first = samples[0]
    if isinstance(first, Mapping):
        for i, sample in enumerate(samples):
            if not isinstance(sample, Mapping) or sample.keys() != first.keys():
                got = list(sample) if isinstance(sample, Mapping) else type(sample).__name__
                raise ShapeError(
                    f"{name} must be dictionaries of {list(first)} in every episode, got {got} in "
                    f"episode {i}"
                )
        members = {k: _space(f"{name}.{k}", [s[k] for s in samples], notes) for k in first}
        return gym.spaces.Dict(members)
    arrays = [np.asarray(sample) for sample in samples]
    dtype, shape = _kind(name, arrays)
    if arrays[0].ndim == 0:
        raise ShapeError(f"{name} must be arrays over time, got {arrays[0]!r}")
    pictured = dtype == np.uint8 and len(shape) in (2, 3) and not name.startswith("actions")
    if pictured:
        return gym.spaces.Box(0, 255, shape, np.uint8)
    if dtype.kind == "f":
        kept: Any = np.float32 if dtype.itemsize < 4 else dtype.type
        return gym.spaces.Box(-np.inf, np.inf, shape or (1,), kept)
    if dtype.kind == "b":
        return gym.spaces.MultiBinary(shape or (1,))
    if dtype.kind in "iu":
        return _indices(name, arrays, shape, notes)
    raise SpecError(f"{name} must be numbers, got {dtype}")


def _kind(name: str, arrays: Sequence[np.ndarray]) -> tuple[np.dtype, tuple[int, ...]]:
    """Dtype and shape of one entry, which all have."""
    dtype, shape = arrays[0].dtype, arrays[0].shape[1:]
    for i, array in enumerate(arrays):
        if (array.dtype, array.shape[1:]) != (dtype, shape):
            raise ShapeError(
                f"episode {i}: {name} differ from those before: {array.dtype} {array.shape[1:]}, "
                f"expected {dtype} {shape}"
            )
    return dtype, shape


def _indices(
    name: str, arrays: Sequence[np.ndarray], shape: tuple[int, ...], notes: list[str]
) -> gym.Space:
    low, high = min(int(a.min()) for a in arrays), max(int(a.max()) for a in arrays)
    argument = f"{'action' if name.startswith('actions') else 'observation'}_space"
    if low < 0 or len(shape) > 1:
        raise SpecError(
            f"{name} are whole numbers {shape} from {low} to {high}: whether they are amounts or "
            f"names of values cannot be told; say so by {argument}"
        )
    if shape in ((), (1,)):
        notes.append(
            f"{name} are whole numbers, which were taken for indices of {high + 1} values; if "
            f"there are more, or they are amounts, say so by {argument}"
        )
        return gym.spaces.Discrete(high + 1)
    most = np.max([array.max(0) for array in arrays], 0) + 1
    notes.append(
        f"{name} are whole numbers, which were taken for indices of {most.tolist()} values; if "
        f"there are more, or they are amounts, say so by {argument}"
    )
    return gym.spaces.MultiDiscrete(most)

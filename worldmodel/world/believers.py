"""What holds beliefs and steps them: compiled where that can be, for one filter or for many.

``beliefs.py`` begins them, judges them, and says what there is to say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from worldmodel.errors import DivergenceError
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import ObservationSpace
from worldmodel.types import Belief, Observations, to_tensors
from worldmodel.world.actions import ActionReader
from worldmodel.world.compiled_filter import (
    CompiledFilter,
    CompiledFilters,
    FilterProgram,
    compile_filter,
)
from worldmodel.world.consistency import innovations
from worldmodel.world.status import DIVERGED, REFUSED
from worldmodel.world.world import World


def believer_of(
    world: World, read: ActionReader, lead: tuple[int, ...], box: gym.spaces.Box
) -> tuple[Believer, bool | str]:
    """The fastest there is; and True if it is compiled, else the reason why not.

    Args:
        world: Whose model filters.
        read: Of actions with these leading axes.
        lead: (), for one environment, or (n,).
        box: The latent Box that means are clipped into.
    """
    program = compile_filter(world, box)
    if isinstance(program, str):
        return _Stepped(world, read, lead, box), program
    kind = _Many if lead else _One
    return kind(world.model, read, lead, box, program), True


class Believer(ABC):
    """What holds n beliefs and steps them."""

    @abstractmethod
    def put(self, belief: Belief, mask: np.ndarray | None) -> None:
        """Believe this, of all or of those in a mask (n,), of which there is a row each."""

    @abstractmethod
    def advance(self, actions: Any, frames: Any) -> Float32[np.ndarray, " n"]:
        """As of ``Filter``; gives innovations as of ``Consistency``, fresh; zeros if none are."""

    @abstractmethod
    def rows(self, mask: np.ndarray) -> Float[Tensor, "rows latent"]:
        """Means of those in a mask (n,), finite or not."""

    @abstractmethod
    def means(self, clip: bool) -> Float32[np.ndarray, "n latent"]:
        """As of ``Filter``."""

    @abstractmethod
    def scales(self) -> Float32[np.ndarray, "n latent"]:
        """As of ``Filter``."""


class _Stepped(Believer):
    """By tensors, where the model lives."""

    def __init__(
        self, world: World, read: ActionReader, lead: tuple[int, ...], box: gym.spaces.Box
    ) -> None:
        self._world, self._read, self._lead, self._box = world, read, lead, box
        none = torch.zeros(lead[0] if lead else 1, world.model.latent_size)
        self._belief = Belief(none, none)

    def put(self, belief: Belief, mask: np.ndarray | None) -> None:
        self._belief = belief if mask is None else self._belief.with_rows(mask, belief)

    @torch.inference_mode()
    def advance(self, actions: Any, frames: Any) -> np.ndarray:
        model, before = self._world.model, self._belief.mean
        rows = tensors_of(model, frames, self._lead)
        controls = self._read(actions).reshape(rows.shape[0], -1)
        self._belief = model.update(self._belief, controls, rows)
        if self._world.trust is None:
            return np.zeros(len(before), np.float32)
        return innovations(self._world, before, controls, rows)

    def rows(self, mask: np.ndarray) -> Tensor:
        return self._belief.mean[torch.from_numpy(mask).to(self._belief.mean.device)]

    def means(self, clip: bool) -> np.ndarray:
        return _finite(self._belief.mean.cpu().numpy(), self._box if clip else None)

    def scales(self) -> np.ndarray:
        return self._belief.scale.cpu().numpy().astype(np.float32)


class _One(Believer):
    """One, compiled."""

    def __init__(
        self,
        model: StateSpaceModel,
        read: ActionReader,
        lead: tuple[int, ...],
        box: gym.spaces.Box,
        program: FilterProgram,
    ) -> None:
        self._step, self._read, self._box = CompiledFilter(program), read, box
        self._frame = _Frames(model.observation_spec, program.offset)

    def put(self, belief: Belief, mask: np.ndarray | None) -> None:
        step, mean = self._step, belief.mean[0].cpu().numpy()
        step.mean[:], step.scale[:] = mean, belief.scale[0].cpu().numpy()
        step.observation[:] = np.clip(mean, self._box.low, self._box.high)

    def advance(self, actions: Any, frames: Any) -> np.ndarray:
        step = self._step
        step.action[:] = self._read.raw(actions)
        self._frame.write(frames, (), step.frame)
        status = step()
        if status == REFUSED:
            self._read(actions)
        if status == DIVERGED:
            raise DivergenceError(f"the filter's belief is no longer finite after {step.mean}")
        return step.innovations.max(keepdims=True)

    def rows(self, mask: np.ndarray) -> Tensor:
        return torch.from_numpy(self._step.mean[np.newaxis].copy())

    def means(self, clip: bool) -> np.ndarray:
        kept = self._step.observation if clip else self._step.mean
        return kept[np.newaxis].copy()

    def scales(self) -> np.ndarray:
        return self._step.scale[np.newaxis].copy()


class _Many(Believer):
    """Many, compiled; arguments as of ``_One``."""

    def __init__(
        self,
        model: StateSpaceModel,
        read: ActionReader,
        lead: tuple[int, ...],
        box: gym.spaces.Box,
        program: FilterProgram,
    ) -> None:
        self._steps, self._read = CompiledFilters(program, *lead), read
        self._lead, self._box = lead, box
        self._frames = _Frames(model.observation_spec, program.offset)

    def put(self, belief: Belief, mask: np.ndarray | None) -> None:
        some = slice(None) if mask is None else mask
        self._steps.means[:, some] = belief.mean.T.cpu().numpy()
        self._steps.scales[:, some] = belief.scale.T.cpu().numpy()

    def advance(self, actions: Any, frames: Any) -> np.ndarray:
        steps = self._steps
        controls = self._read.array(actions)
        self._frames.write(frames, self._lead, steps.frames.T)
        steps.actions[:] = controls.T
        return steps().max(0)

    def rows(self, mask: np.ndarray) -> Tensor:
        return torch.from_numpy(self._steps.means[:, mask].T.copy())

    def means(self, clip: bool) -> np.ndarray:
        return _finite(self._steps.means.T, self._box if clip else None)

    def scales(self) -> np.ndarray:
        return self._steps.scales.T.copy()


class _Frames:
    """Writes checked observations, encoded, flat and less an offset, as programs take them."""

    def __init__(self, space: ObservationSpace, offset: np.ndarray) -> None:
        self._space = space
        self._offset = offset if offset.any() else None

    def write(self, frames: Any, lead: tuple[int, ...], flat: np.ndarray) -> None:
        """Write to (*lead, size)."""
        values, at = self._space.read(frames, lead), 0
        for stream in self._space.streams:
            encoded, here = stream.encode(values[stream.name]), slice(at, at + stream.size)
            encoded = encoded.reshape(*lead, stream.size)
            flat[..., here] = encoded if self._offset is None else encoded - self._offset[here]
            at += stream.size


def _finite(means: np.ndarray, box: gym.spaces.Box | None) -> np.ndarray:
    """Fresh means, in single precision, clipped if there is a Box."""
    if not np.isfinite(means).all():
        raise DivergenceError(f"the filter's belief has a mean that is not finite: {means}")
    if box is None:
        return np.array(means, np.float32)
    clipped = np.minimum(np.maximum(means, box.low), box.high)
    return clipped.astype(np.float32, copy=False)


def tensors_of(model: StateSpaceModel, frames: Any, lead: tuple[int, ...]) -> Observations:
    """Checked observations (n, *obs): a copy, since environments may reuse their arrays."""
    space = model.observation_spec
    if lead:
        streams = space.read(frames, space.lead(frames))
    else:
        streams = {name: value[np.newaxis] for name, value in space.read(frames).items()}
    return to_tensors(streams, 1, model.device)

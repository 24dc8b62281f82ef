"""Beliefs over the states of environments that are watched, frame by frame.

Whether the filter's step is compiled or tensors are stepped is hidden here: see ``Believer``.
"""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from worldmodel.errors import DivergenceError, ResetNeeded, SpecError
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import ActionSpace, ObservationSpace, map_arrays
from worldmodel.types import Belief, Observations, to_tensors
from worldmodel.world.actions import ActionReader
from worldmodel.world.compiled_filter import (
    CompiledFilter,
    CompiledFilters,
    FilterProgram,
    compile_filter,
)
from worldmodel.world.consistency import Consistency, innovations, shown_better
from worldmodel.world.dynamics import latent_box
from worldmodel.world.status import DIVERGED, REFUSED
from worldmodel.world.world import World


class Filter:
    """Beliefs over the states of ``lead`` environments, one filter step for all of them.

    Args:
        world: Its model is switched to evaluation mode.
        observations: Space of one environment's observations.
        actions: Space of one environment's actions.
        lead: (), for one environment, or (n,).

    Attributes:
        box: The latent Box that means are clipped into.
        compiled: True if steps are compiled, else the reason why not.

    Raises:
        SpecError: The spaces are not the model's, or its support is not fitted.
    """

    def __init__(
        self,
        world: World,
        observations: gym.Space,
        actions: gym.Space,
        lead: tuple[int, ...],
    ) -> None:
        self._world, self._model = world, world.model.eval()
        model = self._model
        _check_spaces(model, observations, actions)
        self.box, self._lead, self._known = latent_box(world), lead, False
        self._consistency = Consistency(world, lead[0] if lead else 1)
        self._start = np.inf if world.trust is None else float(world.trust.start[0])
        read = ActionReader(model.action_spec, lead, model.device, model.dtype)
        program = compile_filter(world, self.box)
        self.compiled = program if isinstance(program, str) else True
        if isinstance(program, str):
            self._believer: Believer = _Stepped(world, read, lead, self.box)
        else:
            kind = _Many if lead else _One
            self._believer = kind(model, read, lead, self.box, program)

    def begin(self, frames: Any, mask: np.ndarray | None = None) -> None:
        """New beliefs from one frame (*lead, *obs) each, for all or those in ``mask``."""
        some = None if mask is None or mask.all() else mask
        fresh = self._initial(self._rows(frames, some))
        self._consistency.begin(some)
        if some is not None:
            self._current()
        self._believer.put(fresh, some)
        self._known = True

    def resume(self, belief: Belief) -> None:
        """Go on from a belief (n, latent) that was come to elsewhere."""
        self._believer.put(belief, None)
        self._known = True

    def advance(self, actions: Any, frames: Any) -> None:
        """Predict with the actions, correct with the frames (*lead, *obs) they led to.

        Raises:
            ResetNeeded: There is no belief yet.
            InvalidAction: The actions cannot be taken.
            DivergenceError: The filter of one environment is compiled, and its mean not finite.
        """
        found = self._current().advance(actions, frames)
        if self._consistency.known:
            lost = self._consistency.judge(found)
            if self._consistency.doubtful and lost.any():
                self._begin_again(frames, lost)

    @torch.inference_mode()
    def _begin_again(self, frames: Any, lost: np.ndarray) -> None:
        """Of those in a mask, those that a frame by itself shows better than what was believed."""
        rows = self._rows(frames, lost if self._lead else None)
        fresh = self._initial(rows)
        better = shown_better(self._world, fresh.mean, self._believer.rows(lost), rows)
        restarted = lost.copy()
        restarted[lost] = better
        self._consistency.restarted = restarted
        if better.any():
            chosen = torch.from_numpy(better).to(fresh.mean.device)
            self._believer.put(fresh[chosen], restarted)

    def _rows(self, frames: Any, mask: np.ndarray | None) -> Observations:
        """Checked frames of all, or of those in ``mask``."""
        chosen = frames if mask is None else map_arrays(lambda array: array[mask], frames)
        return _tensors(self._model, chosen, self._lead)

    @torch.inference_mode()
    def _initial(self, rows: Observations) -> Belief:
        """Beliefs from one frame each."""
        none = torch.zeros(rows.shape[0], 0, self._model.action_spec.size, device=rows.device)
        return self._model.initial(rows.unsqueeze(1), none.to(self._model.dtype))

    def infos(self) -> dict[str, Any]:
        """What there is to say of the one belief: one by one, for arrays of one cost much more."""
        found = self._consistency
        consistent = bool(found.consistent[0])
        infos: dict[str, Any] = {"belief_scale": self.scales()[0]}
        infos["error_bound"] = self._start if consistent else np.inf
        if found.known:
            infos["innovation"] = float(found.innovation[0])
            infos |= {"consistent": consistent, "restarted": bool(found.restarted[0])}
        return infos

    def many_infos(self) -> dict[str, np.ndarray]:
        """The same of n beliefs, (n, ...); fresh arrays."""
        found = self._consistency
        bound = np.where(found.consistent, np.float32(self._start), np.float32(np.inf))
        infos = {"belief_scale": self.scales(), "error_bound": bound}
        if found.known:
            infos["innovation"] = found.innovation.copy()
            infos["consistent"] = found.consistent.copy()
            infos["restarted"] = found.restarted.copy()
        return infos

    def check(self, frame: Any) -> None:
        """Raise a ShapeError unless an observation of one environment keeps to its space."""
        self._model.observation_spec.read(frame)

    def means(self, clip: bool = True) -> np.ndarray:
        """Means (n, latent), clipped into the Box; a fresh array.

        Args:
            clip: False where states that no data showed are to be told, too.

        Raises:
            DivergenceError: A mean is not finite.
        """
        return self._current().means(clip)

    def scales(self) -> np.ndarray:
        """Standard deviations (n, latent); a fresh array."""
        return self._current().scales()

    def _current(self) -> Believer:
        if not self._known:
            raise ResetNeeded("call reset() first")
        return self._believer


class Believer(Protocol):
    """What holds n beliefs and steps them."""

    def put(self, belief: Belief, mask: np.ndarray | None) -> None:
        """Believe this, of all or of those in a mask (n,), of which there is a row each."""

    def advance(self, actions: Any, frames: Any) -> Float32[np.ndarray, " n"]:
        """As of ``Filter``; gives innovations as of ``Consistency``, fresh; zeros if none are."""
        ...

    def rows(self, mask: np.ndarray) -> Float[Tensor, "rows latent"]:
        """Means of those in a mask (n,), finite or not."""
        ...

    def means(self, clip: bool) -> Float32[np.ndarray, "n latent"]:
        """As of ``Filter``."""
        ...

    def scales(self) -> Float32[np.ndarray, "n latent"]:
        """As of ``Filter``."""
        ...


class _Stepped:
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
        rows = _tensors(model, frames, self._lead)
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


class _One:
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


class _Many:
    """Many, compiled; arguments as of ``_One``."""

    def __init__(
        self,
        model: StateSpaceModel,
        read: ActionReader,
        lead: tuple[int, ...],
        box: gym.spaces.Box,
        program: FilterProgram,
    ) -> None:
        self._steps, self._read, self._lead, self._box = (
            CompiledFilters(program, *lead), read, lead, box
        )  # fmt: skip
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


def _tensors(model: StateSpaceModel, frames: Any, lead: tuple[int, ...]) -> Observations:
    """Checked observations (n, *obs): a copy, since environments may reuse their arrays."""
    space = model.observation_spec
    if lead:
        streams = space.read(frames, space.lead(frames))
    else:
        streams = {name: value[np.newaxis] for name, value in space.read(frames).items()}
    return to_tensors(streams, 1, model.device)


def _check_spaces(model: StateSpaceModel, observations: gym.Space, actions: gym.Space) -> None:
    given = ObservationSpace.from_space(observations)
    if not model.observation_spec.agrees(given):
        raise SpecError(
            f"the environment gives {given.describe()}, "
            f"the model expects {model.observation_spec.describe()}"
        )
    taken = ActionSpace.from_space(actions)
    if taken != model.action_spec:
        raise SpecError(
            f"the environment takes {actions}, the model expects {model.action_spec.space()}"
        )

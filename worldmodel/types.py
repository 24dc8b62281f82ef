"""The index convention, stated once and used everywhere.

Batch first. ``actions[:, t]`` carries ``observations[:, t]`` to ``observations[:, t + 1]``;
``rewards[:, t]`` and ``terminated[:, t]`` are given on that arrival. An episode of T steps has
T + 1 observations: the paper's "15 images" is T = 14.

Real pixels are ``uint8`` in [0, 255], height x width x channel. Ground truth travels in
``states``; models never see it, evaluation does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from worldmodel import html
from worldmodel.errors import ShapeError, SpecError


@dataclass(frozen=True, repr=False)
class Batch:
    """Episodes of T steps, or windows of them.

    Attributes:
        observations: (B, T + 1, *obs), ``uint8`` pixels or ``float32`` vectors.
        actions: (B, T, act), ``float32`` in the environment's units; one-hot if discrete.
        rewards: (B, T), ``float32``.
        terminated: (B, T), ``bool``.
        mask: (B, T), ``bool``: True where step t was recorded, False on padding.
        states: (B, T + 1, n), ``float32`` ground truth, or None if the source had none.

    Raises:
        ShapeError: Two fields disagree on B or T; the message names both shapes.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    mask: Tensor
    states: Tensor | None = None

    def __post_init__(self) -> None:
        if self.actions.ndim != 3:
            raise ShapeError(f"actions must be (B, T, act), got {tuple(self.actions.shape)}")
        size, length = self.actions.shape[:2]
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            expected = (size, length + (field.name in ("observations", "states")))
            if tuple(value.shape[:2]) != expected:
                raise ShapeError(
                    f"{field.name} must begin with {expected} to fit actions "
                    f"{tuple(self.actions.shape)}, got {tuple(value.shape)}"
                )

    def __len__(self) -> int:
        return self.actions.shape[0]

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return self.actions.shape[1]

    @property
    def frame_mask(self) -> Tensor:
        """(B, T + 1) bool: True on recorded observations. The first always is."""
        return torch.cat([torch.ones_like(self.mask[:, :1]), self.mask], 1)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Pairs of field name and tensor, without absent fields."""
        for field in fields(self):
            if (value := getattr(self, field.name)) is not None:
                yield field.name, value

    def __getitem__(self, index: Tensor | slice) -> Batch:
        """Select episodes by an index tensor, a boolean tensor or a slice."""
        return Batch(**{name: value[index] for name, value in self.items()})

    def window(self, start: int, steps: int) -> Batch:
        """Steps ``start`` to ``start + steps`` of every episode.

        Raises:
            ShapeError: The window reaches beyond the episodes.
        """
        if start < 0 or start + steps > self.steps:
            raise ShapeError(
                f"window [{start}, {start + steps}] lies outside episodes of {self.steps} steps"
            )
        return Batch(
            **{
                name: value[:, start : start + steps + (name in ("observations", "states"))]
                for name, value in self.items()
            }
        )

    def __repr__(self) -> str:
        return f"Batch({len(self)} episodes of {self.steps} steps)"

    def _repr_html_(self) -> str:
        rows = [
            (name, " × ".join(map(str, value.shape)), str(value.dtype).removeprefix("torch."))  # noqa: RUF001 (a sign of multiplication)
            for name, value in self.items()
        ]
        return html.table(("Batch", "shape", "type"), rows) + self.strip()

    def strip(self, episodes: int = 3) -> str:
        """HTML picture of the first episodes' frames; empty if they are no grey or RGB pixels."""
        frames = self.observations[:episodes]
        if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[-1] not in (1, 3):
            return ""
        return html.strip(frames.cpu().numpy(), "episodes in rows")

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(self, **{name: value.to(device) for name, value in self.items()})


@dataclass(frozen=True)
class Belief:
    """Gaussian over the latent state.

    Attributes:
        mean: (B, latent).
        scale: Standard deviation of each dimension, (B, latent).
        factor: L (B, latent, latent), lower triangular, with L L' the covariance; None where that
            is diagonal.
    """

    mean: Tensor
    scale: Tensor
    factor: Tensor | None = None

    def with_rows(self, mask: np.ndarray, rows: Belief) -> Belief:
        """The same with those rows replaced for which ``mask`` (B,) is True."""

        def mixed(ours: Tensor, theirs: Tensor) -> Tensor:
            ours = ours.clone()
            ours[mask] = theirs
            return ours

        factor = None
        if self.factor is not None and rows.factor is not None:
            factor = mixed(self.factor, rows.factor)
        return Belief(mixed(self.mean, rows.mean), mixed(self.scale, rows.scale), factor)


@dataclass(frozen=True)
class ObservationSpec:
    """What a model observes: one array of fixed shape.

    Attributes:
        shape: Shape of one observation, (height, width, channel) for pixels, (n,) for vectors.
        pixels: True for ``uint8`` pixels in [0, 255], False for ``float32`` vectors.
    """

    shape: tuple[int, ...]
    pixels: bool

    @property
    def size(self) -> int:
        """Number of scalars in one observation."""
        return int(np.prod(self.shape))

    def describe(self) -> str:
        """In words."""
        shape = " × ".join(map(str, self.shape))  # noqa: RUF001 (a sign of multiplication)
        return f"{shape} {'pixels' if self.pixels else 'numbers'}"

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of recorded observations."""
        return torch.uint8 if self.pixels else torch.float32

    @classmethod
    def from_space(cls, space: gym.Space) -> ObservationSpec:
        """Read the specification off a Gymnasium space.

        Raises:
            SpecError: The space is neither uint8 pixels (height, width, channel) nor a float Box.
        """
        if isinstance(space, gym.spaces.Box):
            if space.dtype == np.uint8 and len(space.shape) == 3:
                return cls(space.shape, True)
            if np.issubdtype(space.dtype, np.floating) and len(space.shape) == 1:
                return cls(space.shape, False)
        raise SpecError(
            f"cannot model observations from {space}; expected Box uint8 (height, width, channel) "
            "or Box float (n,). Rendered pictures (pixels) can be observed in place of any other, "
            "and gymnasium.wrappers.FlattenObservation makes a vector of many"
        )


@dataclass(frozen=True)
class ActionSpec:
    """What a model is controlled by: a finite Box, or Discrete as one-hot vectors.

    Attributes:
        kind: "box" or "discrete".
        low: Least value of each component, in the environment's units; zeros if discrete.
        high: Greatest value of each component; ones if discrete.
    """

    kind: Literal["box", "discrete"]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        """Number of components of the action vector."""
        return len(self.low)

    @classmethod
    def from_space(cls, space: gym.Space) -> ActionSpec:
        """Read the specification off a Gymnasium space.

        Raises:
            SpecError: The space is neither a finite one-dimensional Box nor Discrete from 0.
        """
        if isinstance(space, gym.spaces.Discrete) and space.start == 0:
            return cls("discrete", (0.0,) * int(space.n), (1.0,) * int(space.n))
        if isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.is_bounded():
            return cls("box", tuple(map(float, space.low)), tuple(map(float, space.high)))
        raise SpecError(
            f"cannot model actions from {space}; expected a bounded Box (n,) or Discrete(n)"
        )

    def describe(self) -> str:
        """In words."""
        if self.kind == "discrete":
            return f"one of {self.size}"
        low, high = (", ".join(f"{b:g}" for b in bound) for bound in (self.low, self.high))
        return f"from {low} to {high}" if self.size == 1 else f"from ({low}) to ({high})"

    def space(self) -> gym.spaces.Box | gym.spaces.Discrete:
        """The Gymnasium space that agents act in."""
        if self.kind == "discrete":
            return gym.spaces.Discrete(self.size)
        low, high = (np.array(bound, np.float32) for bound in (self.low, self.high))
        return gym.spaces.Box(low, high, dtype=np.float32)

    def encode(self, actions: np.ndarray) -> np.ndarray:
        """Environment actions (..., [act]) to model actions (..., act), ``float32``."""
        if self.kind == "discrete":
            return np.eye(self.size, dtype=np.float32)[np.asarray(actions, dtype=np.int64)]
        return np.asarray(actions, dtype=np.float32)

    def decode(self, actions: np.ndarray) -> np.ndarray:
        """Model actions (..., act) to environment actions: clipped Box, or index of the largest."""
        if self.kind == "discrete":
            return np.asarray(actions).argmax(-1)
        low, high = (np.array(bound, np.float32) for bound in (self.low, self.high))
        return np.clip(actions, low, high).astype(np.float32)

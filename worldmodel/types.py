"""The index convention, stated once and used everywhere.

Batch first. ``actions[:, t]`` carries ``observations[:, t]`` to ``observations[:, t + 1]``;
``rewards[:, t]`` and ``terminated[:, t]`` are given on that arrival. An episode of T steps has
T + 1 observations: the paper's "15 images" is T = 14.

Observations are one tensor where there is one stream, and a ``TensorDict`` of such tensors by
stream where there are several; indices, slices and masks over episodes and times mean the same for
both. Ground truth travels in ``states``; models never see it, evaluation does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel import html
from worldmodel.errors import NO_ARRAY, ShapeError
from worldmodel.spaces import Stream, recorded_streams

Observations = Any  # a Tensor, or a TensorDict of several streams


def from_streams(streams: Mapping[str, Tensor], lead: int) -> Observations:
    """The tensor of one stream, or a ``TensorDict`` of several.

    Args:
        streams: By name.
        lead: How many leading axes they share: episodes and times.
    """
    if len(streams) == 1:
        return next(iter(streams.values()))
    # Takes a second to import, which those of one stream need not wait for.
    from tensordict import TensorDict

    first = next(iter(streams.values()))
    return TensorDict(dict(streams), batch_size=first.shape[:lead], device=first.device)


def to_numpy(observations: Observations) -> Any:
    """An array, or a dictionary of arrays by stream."""
    if isinstance(observations, Tensor):
        return observations.cpu().numpy()
    return {name: value.cpu().numpy() for name, value in observations.items()}


def to_tensors(observations: Any, lead: int, device: torch.device | str = "cpu") -> Observations:
    """The inverse of ``to_numpy``; arrays are not copied if they need not be.

    Raises:
        ShapeError: They are no arrays of real numbers, or share no ``lead`` leading axes.
    """
    if not isinstance(observations, Mapping):
        return to_tensor("observations", observations, device)
    streams = {str(k): to_tensor(str(k), v, device) for k, v in observations.items()}
    shapes = {name: tuple(value.shape) for name, value in streams.items()}
    if len({shape[:lead] for shape in shapes.values()}) != 1:
        raise ShapeError(f"streams must begin with the same {lead} axes, got {shapes}")
    return from_streams(streams, lead)


def to_tensor(name: str, values: Any, device: torch.device | str = "cpu") -> Tensor:
    """Real numbers as a tensor of their own dtype.

    Raises:
        ShapeError: They are none; begins with ``name``.
    """
    try:
        array = np.asarray(values)
        # PyTorch takes no other order of bytes or of axes, and warns of what must not be written.
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        tensor = torch.as_tensor(np.require(native, requirements=["C", "W"]), device=device)
    except NO_ARRAY as error:
        raise ShapeError(
            f"{name} must be an array of real numbers, got {values!r:.200}: {error}"
        ) from error
    if tensor.is_complex():
        raise ShapeError(f"{name} must be an array of real numbers, got {tensor.dtype}")
    return tensor


def to_finite(name: str, values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Finite numbers as a tensor of a given dtype.

    Raises:
        ShapeError: They are none, or are not in that dtype; begins with ``name``.
    """
    tensor = to_tensor(name, values, device)
    kept = tensor.to(dtype)
    if not (finite := kept.isfinite()).all():
        raise ShapeError(f"{name} must be finite in {dtype}, got {tensor[~finite][0].item()}")
    return kept


def _named(name: str, values: Observations) -> list[tuple[str, Tensor]]:
    """Pairs of a name and a tensor: the streams, if there are several."""
    return [(name, values)] if isinstance(values, Tensor) else list(values.items())


# Fields of T + 1 entries.
_FRAMED = ("observations", "states", "seen")


@dataclass(frozen=True, repr=False)
class Batch:
    """Episodes of T steps, or windows of them.

    Attributes:
        observations: (B, T + 1, *obs) by stream, as ``worldmodel.spaces.Stream`` records them.
        actions: (B, T, act), ``float32`` controls, as ``ActionSpace.encode`` gives them.
        rewards: (B, T), ``float32``, or None if none were recorded.
        terminated: (B, T), ``bool``.
        mask: (B, T), ``bool``: True where step t was recorded, False on padding.
        states: (B, T + 1, n), ``float32`` ground truth, or None if the source had none.
        truncated: (B, T), ``bool``, or None if it was not recorded.
        seen: (B, T + 1), ``bool``: False where the episode went on unobserved. What stands there
            for an observation says nothing. None if all was seen.

    Raises:
        ShapeError: Two fields disagree on B or T; the message names both shapes.
    """

    observations: Observations
    actions: Tensor
    rewards: Tensor | None
    terminated: Tensor
    mask: Tensor
    states: Tensor | None = None
    truncated: Tensor | None = None
    seen: Tensor | None = None

    def __post_init__(self) -> None:
        if self.actions.ndim != 3:
            raise ShapeError(f"actions must be (B, T, act), got {tuple(self.actions.shape)}")
        size, length = self.actions.shape[:2]
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            expected = (size, length + (field.name in _FRAMED))
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
        """(B, T + 1) bool: True on recorded observations, False on padding and where unseen."""
        return self.span if self.seen is None else self.span & self.seen

    @property
    def span(self) -> Tensor:
        """(B, T + 1) bool: True up to the last frame of each episode, seen or not."""
        return torch.cat([torch.ones_like(self.mask[:, :1]), self.mask], 1)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Pairs of field name and tensor, without absent fields."""
        for field in fields(self):
            if (value := getattr(self, field.name)) is not None:
                yield field.name, value

    def __getitem__(self, index: Tensor | slice) -> Batch:
        """Select episodes by an index tensor, a boolean tensor or a slice."""
        return replace(self, **{name: value[index] for name, value in self.items()})

    def window(self, start: int, steps: int) -> Batch:
        """Steps ``start`` to ``start + steps`` of every episode.

        Raises:
            ShapeError: The window reaches beyond the episodes.
        """
        if start < 0 or start + steps > self.steps:
            raise ShapeError(
                f"window [{start}, {start + steps}] lies outside episodes of {self.steps} steps"
            )
        return replace(
            self,
            **{
                name: value[:, start : start + steps + (name in _FRAMED)]
                for name, value in self.items()
            },
        )

    def parts(self, episodes: int) -> Iterator[Batch]:
        """The same, a few episodes at a time."""
        for first in range(0, len(self), episodes):
            yield self[first : first + episodes]

    def __repr__(self) -> str:
        return f"Batch({len(self)} episodes of {self.steps} steps)"

    def _repr_html_(self) -> str:
        streams = dict(_named("observations", self.observations))
        shown = recorded_streams({name: value.cpu().numpy() for name, value in streams.items()})
        what = {stream.name: stream.describe() for stream in shown}
        rows = [
            (
                name,
                " × ".join(map(str, value.shape)),  # noqa: RUF001 (a sign of multiplication)
                str(value.dtype).removeprefix("torch."),
                what.get(name, ""),
            )
            for field, values in self.items()
            for name, value in _named(field, values)
        ]
        return html.table(("Batch", "shape", "type", "each"), rows) + self.strip(shown)

    def strip(self, streams: Sequence[Stream], episodes: int = 3) -> str:
        """HTML pictures of the first episodes' frames; empty if there are none.

        Args:
            streams: What is observed.
            episodes: How many.
        """
        arrays = to_numpy(self.observations[:episodes])
        if len(streams) == 1:
            arrays = {streams[0].name: arrays}
        return "".join(
            html.strip(stream.picture(arrays[stream.name]), f"{stream.name}, episodes in rows")
            for stream in streams
            if stream.drawn == "film"
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; from pinned memory the host does not wait for it."""
        # The host must wait for what it is to read.
        ahead = torch.device(device).type != "cpu"
        moved = {name: value.to(device, non_blocking=ahead) for name, value in self.items()}
        return replace(self, **moved)

    def pinned(self) -> Batch:
        """The same batch in memory of the host that a GPU reads by itself."""
        return replace(self, **{name: value.pin_memory() for name, value in self.items()})


class ScaledBatch(Batch):
    """Episodes whose observations (B, T + 1, size) are flat and in a model's standard units."""


def observed_bytes(observations: Observations) -> int:
    """Memory that observations take."""
    return sum(value.nbytes for _, value in _named("observations", observations))


@dataclass(frozen=True)
class Belief:
    """Gaussian over the latent state.

    Attributes:
        mean: (B, latent).
        scale: Standard deviation of each dimension, (B, latent); 0 where it is known exactly.
        factor: L (B, latent, latent), lower triangular, with L L' the covariance; None where that
            is diagonal.
    """

    mean: Tensor
    scale: Tensor
    factor: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> Belief:
        """Those of some rows."""
        factor = None if self.factor is None else self.factor[rows]
        return Belief(self.mean[rows], self.scale[rows], factor)

    def where(self, chosen: Tensor, other: Belief) -> Belief:
        """The same where ``chosen`` is True, and ``other`` elsewhere.

        Args:
            chosen: (B,), ``bool``.
            other: Of as many rows.
        """
        factor = None
        if self.factor is not None and other.factor is not None:
            factor = torch.where(chosen[:, None, None], self.factor, other.factor)
        rows = chosen.unsqueeze(1)
        return Belief(
            torch.where(rows, self.mean, other.mean),
            torch.where(rows, self.scale, other.scale),
            factor,
        )

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

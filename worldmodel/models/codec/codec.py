"""Observations of any streams as one flat vector of standard units, and back.

A model sees this vector, features of it, and an emission over it: it is written once for all
streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.models.codec.config import CodecConfig
from worldmodel.models.codec.emission import Emission, StreamEmission
from worldmodel.models.codec.stream import StreamCodec
from worldmodel.models.networks import compiled
from worldmodel.models.program import Builder, Rows
from worldmodel.spaces import ObservationSpace
from worldmodel.spaces.kinds import KINDS
from worldmodel.types import Observations, from_streams

# Each kind of stream has its codec in the file of its name, which says ``CODEC``.
CODECS: dict[str, type[StreamCodec]] = {
    kind: import_module(f"{__package__}.{kind}").CODEC for kind in KINDS
}


class Codec(nn.Module):
    """One codec a stream, beside each other.

    Args:
        space: What is observed.
        config: Of the networks.
    """

    def __init__(self, space: ObservationSpace, config: CodecConfig) -> None:
        super().__init__()
        self.space = space
        self.parts = nn.ModuleList(CODECS[stream.kind](stream, config) for stream in space.streams)

    @torch.no_grad()
    def calibrate(
        self, observations: Observations, spare: int = 0, lengths: Sequence[int] = ()
    ) -> int:
        """Take all scalings from recorded observations (n, ...).

        Args:
            observations: What was recorded, one episode after the other.
            spare: Components of pictures that are left free for what comes later.
            lengths: How many are of each episode; none if that is not known.

        Returns:
            How many components of pictures were kept, of the stream that needs most, with those
            that are free; 0 if none is said by components.
        """
        for part, values in self._pairs(observations):
            part.calibrate(values, lengths)
        needed = max(part.needed for part in self._codecs)
        if needed:
            self.keep(needed, spare)
        return needed and needed + spare

    def keep(self, count: int, spare: int = 0) -> None:
        """See ``StreamCodec``."""
        for part in self._codecs:
            part.keep(count, spare)

    def widen(self, observations: Observations) -> None:
        """Let further recorded observations (n, ...) be said, too; see ``StreamCodec``."""
        for part, values in self._pairs(observations):
            part.widen(values)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers that each stream is scaled to."""
        return tuple(part.size for part in self._codecs)

    @property
    def weight(self) -> float:
        """Distortion of the mean observation, in standard units."""
        return sum(part.weight for part in self._codecs)

    @property
    def log_volume(self) -> float:
        """What ln densities of scaled observations exceed those of natural units by."""
        return sum(part.log_volume for part in self._codecs)

    def scale(self, observations: Observations) -> Float[Tensor, "*batch size"]:
        """Recorded observations in standard units, flat."""
        scaled = [part.scale(values) for part, values in self._pairs(observations)]
        return scaled[0] if len(scaled) == 1 else torch.cat(scaled, -1)

    def compiled(self, builder: Builder, frame: Rows) -> Rows:
        """Instructions of ``scale``, of encoded, flat observations less the ``offset``.

        Raises:
            NotCompiled: A stream's codec offers none.
        """
        encoded = frame.split(*(stream.size for stream in self.space.streams))
        pairs = zip(self._codecs, encoded, strict=True)
        return builder.join(*(part.compiled(builder, rows) for part, rows in pairs))

    def compiled_errors(self, builder: Builder, frame: Rows, shown: Rows) -> Rows:
        """Instructions of how far observations are from others, scaled, that are shown instead.

        Args:
            builder: What they are appended to.
            frame: Encoded, flat observations; see ``offset``.
            shown: Scaled.

        Returns:
            Squared distance of each stream, in standard units; what scaling misses counts.

        Raises:
            NotCompiled: As of ``compiled``.
        """
        scaled = self.compiled(builder, frame)
        apart = builder.add(scaled, builder.affine(shown, -1.0)).split(*self.sizes)
        encoded = frame.split(*(stream.size for stream in self.space.streams))
        errors = []
        for part, own, said, other in zip(
            self._codecs, encoded, scaled.split(*self.sizes), apart, strict=True
        ):
            error, missed = builder.contract(other, other), part.compiled_missed(builder, own, said)
            errors.append(error if missed is None else builder.add(error, missed))
        return builder.join(*errors)

    @property
    def offset(self) -> np.ndarray:
        """What ``compiled`` wants to be taken away from encoded, flat observations: (size,)."""
        return np.concatenate([part.offset for part in self._codecs])

    def missed(self, observations: Observations) -> Float[Tensor, "*batch"]:
        """Squared distance from all that scaled observations can say, in standard units."""
        return self.missed_by_stream(observations).sum(-1)

    def missed_by_stream(self, observations: Observations) -> Float[Tensor, "*batch streams"]:
        """The same of each stream."""
        return torch.stack([part.missed(values) for part, values in self._pairs(observations)], -1)

    def emphasis(self, exponent: float) -> Float[Tensor, " size"] | None:
        """What squared errors of scaled observations weigh, coarse to fine; None: all one."""
        weights = [part.emphasis(exponent) for part in self._codecs]
        known = [each for each in weights if each is not None]
        if not known:
            return None
        pairs = zip(weights, self.sizes, strict=True)
        return torch.cat([known[0].new_ones(n) if each is None else each for each, n in pairs])

    @property
    def size(self) -> int:
        """Numbers that one observation is scaled to."""
        return sum(self.sizes)

    def unscale(self, flat: Float[Tensor, "*batch size"]) -> Observations:
        """Observations as they are recorded."""
        values = {part.stream.name: part.unscale(values) for part, values in self._split(flat)}
        return from_streams(values, flat.ndim - 1)

    def plausible(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """The nearest scaled observations that something recorded could have."""
        return torch.cat([part.plausible(values) for part, values in self._split(flat)], -1)

    def natural(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch scalars"]:
        """Scaled observations in units with a meaning; see ``StreamCodec``."""
        return torch.cat([part.natural(values) for part, values in self._split(flat)], -1)

    def encoder(self) -> tuple[nn.Module, int]:
        """A network from flat, scaled observations to features, and the number of these."""
        parts = [part.encoder() for part in self._codecs]
        if len(parts) == 1:
            return parts[0]
        networks, features = zip(*parts, strict=True)
        return StreamEncoder(networks, self.sizes), sum(features)

    def emission(self, latent_size: int) -> Emission:
        """A distribution over flat, scaled observations given a latent state."""
        parts = [part.emission(latent_size) for part in self._codecs]
        return parts[0] if len(parts) == 1 else StreamEmission(parts, self.sizes)

    @property
    def _codecs(self) -> list[StreamCodec]:
        return cast(list[StreamCodec], list(self.parts))

    def _pairs(self, observations: Observations) -> list[tuple[StreamCodec, Tensor]]:
        if isinstance(observations, Tensor):
            return [(self._codecs[0], observations)]
        return [(part, observations[part.stream.name]) for part in self._codecs]

    def _split(self, flat: Tensor) -> list[tuple[StreamCodec, Tensor]]:
        return list(zip(self._codecs, flat.split(self.sizes, -1), strict=True))


class StreamEncoder(nn.Module):
    """Features of every stream, beside each other.

    Args:
        parts: Encoder of each.
        sizes: Scalars of each in the flat observation.
    """

    def __init__(self, parts: tuple[nn.Module, ...], sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.parts, self.sizes = nn.ModuleList(parts), sizes

    def forward(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch features"]:
        """Features of flat, scaled observations."""
        values = flat.split(self.sizes, -1)
        return torch.cat([part(v) for part, v in zip(self.parts, values, strict=True)], -1)

    def compiled(self, builder: Builder, flat: Rows) -> Rows:
        """Instructions of ``forward``."""
        pairs = zip(self.parts, flat.split(*self.sizes), strict=True)
        return builder.join(*(compiled(part, builder, values) for part, values in pairs))

"""What a codec of one kind of stream owes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from worldmodel.models.codec.config import CodecConfig
from worldmodel.models.codec.emission import Emission
from worldmodel.models.program import Builder, Rows
from worldmodel.spaces import Stream


class StreamCodec(nn.Module, ABC):
    """Scaling of one stream, and the networks that read and draw it.

    Scaled values are in *standard units*: their squared distances sum to comparable amounts, so
    that the same multipliers suit a dark picture and a bright one, millimetres and kilometres.

    Args:
        stream: Which.
        config: Of the networks.
    """

    def __init__(self, stream: Stream, config: CodecConfig) -> None:
        super().__init__()
        self.stream, self.config = stream, config
        # Numbers that one observation is scaled to.
        self.size = stream.size
        # Of them, how many say enough, where they are components; found by ``calibrate``.
        self.needed = 0

    @abstractmethod
    def calibrate(self, values: Shaped[Tensor, "n ..."], lengths: Sequence[int] = ()) -> None:
        """Take the scaling from recorded values (n, *shape).

        Args:
            values: Of one episode after the other.
            lengths: How many are of each episode; none if that is not known.
        """

    def keep(self, count: int, spare: int = 0) -> None:
        """Keep no more than so many components, if there are such; networks come after it.

        Args:
            count: How many.
            spare: How many more are left free for what ``widen`` is given.
        """

    def widen(self, values: Shaped[Tensor, "n ..."]) -> None:
        """Let further recorded values be said, too, as far as that leaves what others mean."""

    @property
    @abstractmethod
    def weight(self) -> float:
        """Distortion of the mean value in standard units: what a stream weighs beside others.

        0 if it never changed.
        """

    @property
    @abstractmethod
    def log_volume(self) -> float:
        """ln of the natural volume of a standard unit cube, by which densities are stated."""

    @abstractmethod
    def scale(self, values: Shaped[Tensor, "..."]) -> Float[Tensor, "*batch size"]:
        """Recorded values (*batch, *shape) in standard units, flat."""

    @abstractmethod
    def compiled(self, builder: Builder, encoded: Rows) -> Rows:
        """Instructions of ``scale``, of encoded values (stream.size,) less the ``offset``."""

    @property
    def offset(self) -> np.ndarray:
        """(stream.size,): what is to be gone before recorded values become single precision."""
        return np.zeros(self.stream.size)

    def missed(self, values: Shaped[Tensor, "..."]) -> Float[Tensor, "*batch"]:
        """Squared distance of recorded values from all that scaled ones can say, standard units."""
        return values.new_zeros(values.shape[: values.ndim - len(self.stream.shape)]).float()

    def compiled_missed(self, builder: Builder, encoded: Rows, scaled: Rows) -> Rows | None:
        """Instructions of ``missed``, of encoded values and the same scaled; None: nothing is."""

    def emphasis(self, exponent: float) -> Float[Tensor, " size"] | None:
        """What squared errors of scaled values weigh, coarse to fine; None if all weigh one.

        See ``Components``.
        """

    @abstractmethod
    def unscale(self, flat: Float[Tensor, "*batch size"]) -> Shaped[Tensor, "..."]:
        """The inverse of ``scale``, in the recorded dtype: a value that could be recorded."""

    @abstractmethod
    def plausible(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """The nearest scaled values that something recorded could have."""

    @abstractmethod
    def natural(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch scalars"]:
        """Scaled values in units with a meaning: brightness in [0, 1], chances; else unchanged."""

    @abstractmethod
    def encoder(self) -> tuple[nn.Module, int]:
        """A network from flat, scaled values to features, and the number of these."""

    @abstractmethod
    def emission(self, latent_size: int) -> Emission:
        """A distribution over flat, scaled values given a latent state."""

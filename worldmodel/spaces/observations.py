"""What an environment shows: its observation space as named streams."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import gymnasium as gym
import numpy as np

from worldmodel.errors import NO_ARRAY, ShapeError
from worldmodel.spaces import tree
from worldmodel.spaces.stream import Preset, Stream

ROOT = "observation"


@dataclass(frozen=True)
class ObservationSpace:
    """A Gymnasium observation space as a flat dictionary of named streams, and back.

    Attributes:
        root: Dict and Tuple, nested, with streams for leaves.
    """

    root: tree.Node

    @classmethod
    def from_space(cls, space: gym.Space) -> ObservationSpace:
        """Read the streams off a space of one environment.

        Raises:
            SpecError: A part cannot be learned from; the message names it by its path, and for
                pixels whose axes cannot be told the wrapper that mends it.
        """
        return cls(tree.grow(space, ROOT, pictures=True))

    def space(self) -> gym.Space:
        """A new space, equal to the one that was read."""
        return tree.space_of(self.root)

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        """In the order of the space, without those that have no scalar."""
        return tuple(stream for stream in tree.leaves(self.root) if stream.size)

    @property
    def filmed(self) -> tuple[Stream, ...]:
        """Those that figures show as pictures."""
        return tuple(stream for stream in self.streams if stream.filmed)

    @property
    def plotted(self) -> tuple[Stream, ...]:
        """Those that figures show as lines over time."""
        return tuple(stream for stream in self.streams if not stream.filmed)

    @property
    def linear(self) -> bool:
        """Whether all that is observed are amounts, which a linear map of a state can give."""
        return all(stream.linear for stream in self.streams)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the streams."""
        return tuple(stream.name for stream in self.streams)

    @property
    def size(self) -> int:
        """Number of scalars of the encoded form of all streams."""
        return sum(stream.size for stream in self.streams)

    @property
    def preset(self) -> str:
        """Name of the generic preset that suits all streams."""
        return min((stream.preset for stream in self.streams), key=get_args(Preset).index)

    def __getitem__(self, name: str) -> Stream:
        return {stream.name: stream for stream in self.streams}[name]

    def describe(self) -> str:
        """In words."""
        if isinstance(self.root, Stream):
            return self.root.describe()
        return ", ".join(f"{stream.name}: {stream.describe()}" for stream in self.streams)

    def read(
        self, sample: Any, lead: tuple[int, ...] = (), missing: bool = False
    ) -> dict[str, np.ndarray]:
        """What is recorded of an observation, or of a batch in Gymnasium's layout.

        Args:
            sample: Of the space; with ``lead``, the same nested dictionaries and tuples, whose
                arrays have these axes in front, as a vector environment gives them.
            lead: Leading axes.
            missing: Whether NaN may stand for a number that was not measured.

        Returns:
            (*lead, *shape) by name of the stream; fresh arrays.

        Raises:
            ShapeError: The observation breaks its space; the message names stream, value and
                what was expected.
        """
        root = self.root
        if isinstance(root, Stream):
            return {root.name: root.read(sample, lead, missing)}
        values: dict[str, np.ndarray] = {}
        _read(root, sample, lead, missing, values)
        return values

    def write(self, values: dict[str, np.ndarray]) -> Any:
        """The observation that was recorded: the inverse of ``read``, batches included.

        Args:
            values: (*lead, *shape) by name of the stream, finite.

        Returns:
            A sample in the space, or a batch in Gymnasium's layout.

        Raises:
            ShapeError: A stream is missing, unknown, or of another shape.
        """
        if values.keys() != set(self.names):
            raise ShapeError(f"expected the streams {list(self.names)}, got {list(values)}")
        first = self.streams[0]
        lead = np.shape(values[first.name])
        return tree.write(self.root, values, lead[: len(lead) - len(first.shape)])

    def lead(self, sample: Any) -> tuple[int, ...]:
        """Leading axes of a batch in Gymnasium's layout; () of one observation.

        Raises:
            ShapeError: It is no such batch.
        """
        node = self.root
        while not isinstance(node, Stream):
            parts = zip(node.members, node.split(sample), strict=True)
            node, sample = next(
                (member, part) for member, part in parts if any(s.size for s in tree.leaves(member))
            )
        try:
            shape = np.shape(sample)
        except NO_ARRAY as error:
            raise ShapeError(
                f"{node.name} must be an array of numbers, got {sample!r:.200}: {error}"
            ) from error
        own = len(node.leaf.shape)
        if own and shape[-own:] != node.leaf.shape:
            raise ShapeError(f"{node.name} must end in {node.leaf.shape}, got {shape}")
        return shape[: len(shape) - own]

    def agrees(self, other: ObservationSpace) -> bool:
        """Whether observations of the other are recorded alike; their bounds may differ."""
        ours, theirs = (
            [(s.name, s.kind, s.shape, s.dtype, s.sizes, s.axes) for s in space.streams]
            for space in (self, other)
        )
        return ours == theirs

    def identity(self) -> Any:
        """What a dataset's fingerprint is taken of."""
        return self.root.identity() if isinstance(self.root, Stream) else self.to_json()

    def to_json(self) -> dict[str, Any]:
        """Plain data, from which ``from_json`` makes the same again."""
        return tree.to_json(self.root)

    @classmethod
    def from_json(cls, plain: Any) -> ObservationSpace:
        """What ``to_json`` gave.

        Raises:
            SpecError: It is no such data.
        """
        return cls(tree.from_json(plain, "observations"))


def _read(
    branch: tree.Branch,
    sample: Any,
    lead: tuple[int, ...],
    missing: bool,
    values: dict[str, np.ndarray],
) -> None:
    for member, part in zip(branch.members, branch.split(sample), strict=True):
        if isinstance(member, tree.Branch):
            _read(member, part, lead, missing, values)
        elif member.size:
            values[member.name] = member.read(part, lead, missing)

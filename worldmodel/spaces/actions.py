"""What an environment is controlled by: any action space as one flat vector, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.error import InvalidAction
from jaxtyping import Float32

from worldmodel.errors import NO_ARRAY, ShapeError
from worldmodel.spaces import sampling, tree
from worldmodel.spaces.controls import Control
from worldmodel.spaces.scaling import Scaling, scaling
from worldmodel.spaces.stream import Stream

ROOT = "action"


@dataclass(frozen=True)
class ActionSpace:
    """A Gymnasium action space, of which a model sees one ``float32`` vector, the controls.

    A Box is there in the environment's units; Discrete and MultiDiscrete as one-hot vectors;
    MultiBinary as one number in 0 or 1 per component; Dict and Tuple one part after the other.
    ``float32`` resolves integers up to 2^24.

    Attributes:
        root: Dict and Tuple, nested, with streams for leaves.
    """

    root: tree.Node

    def __post_init__(self) -> None:
        _ = self._controls

    @classmethod
    def from_space(cls, space: gym.Space) -> ActionSpace:
        """Read the controls off a space of one environment.

        Raises:
            SpecError: A part is of a kind that is no action, or has a range that ``float32`` does
                not resolve; the message names it by its path.
        """
        return cls(tree.grow(space, ROOT, pictures=False))

    def space(self) -> gym.Space:
        """A new space, equal to the one that was read: bounds, dtype and all."""
        return tree.space_of(self.root)

    @cached_property
    def parts(self) -> tuple[Stream, ...]:
        """In the order of the controls, without those that have no scalar."""
        return tuple(part for part in tree.leaves(self.root) if part.size)

    @property
    def kind(self) -> Literal["box", "discrete", "mixed"]:
        """One Box, one Discrete, or anything else."""
        if isinstance(self.root, Stream):
            return {"Box": "box", "Discrete": "discrete"}.get(self.root.leaf.kind, "mixed")  # type: ignore[return-value]
        return "mixed"

    @cached_property
    def size(self) -> int:
        """Number of controls."""
        return sum(part.size for part in self.parts)

    @cached_property
    def low(self) -> tuple[float, ...]:
        """Least value of each control; 0 if one-hot or binary, and -inf if it has none."""
        return tuple(bound for part in self.parts for bound in part.low)

    @cached_property
    def high(self) -> tuple[float, ...]:
        """Greatest value of each control; 1 if one-hot or binary, and inf if it has none."""
        return tuple(bound for part in self.parts for bound in part.high)

    @cached_property
    def bounded(self) -> tuple[bool, ...]:
        """Whether each control has both bounds; one as large as float32 holds is none."""
        return tuple(
            bool(np.isfinite(low) and np.isfinite(high))
            for low, high in zip(self.low, self.high, strict=True)
        )

    @cached_property
    def continuous(self) -> tuple[bool, ...]:
        """Whether each control is of a Box of floats."""
        return tuple(part.leaf.floating for part in self.parts for _ in range(part.size))

    def scaling(self) -> Scaling:
        """(size,) offset, scale and gain between the bounds and [-1, 1]."""
        return scaling(self.low, self.high)

    def describe(self) -> str:
        """In words."""
        if isinstance(self.root, Stream):
            return _describe(self.root)
        return ", ".join(f"{part.name}: {_describe(part)}" for part in self.parts)

    def encode(self, actions: Any, lead: tuple[int, ...] = ()) -> Float32[np.ndarray, "*_ size"]:
        """Checks actions and makes fresh controls of them; keeps and changes nothing it is given.

        The policy is that of the real environments: a finite action outside a Box is clipped to
        it; a wrong shape, a dtype that holds no such numbers, NaN, infinity or an index out of
        range is refused.

        Args:
            actions: Of the space; with ``lead``, a batch in Gymnasium's layout.
            lead: Leading axes.

        Returns:
            (*lead, size).

        Raises:
            InvalidAction: The actions cannot be taken; the message says which part, and why.
        """
        if isinstance(self.root, Stream):
            return self._controls[0].encode(actions, lead)
        parts: list[Any] = []
        try:
            _split(self.root, actions, parts)
        except ShapeError as error:
            raise InvalidAction(str(error)) from None
        encoded = [c.encode(part, lead) for c, part in zip(self._controls, parts, strict=True)]
        return np.concatenate(encoded, -1)

    def decode(self, controls: np.ndarray) -> Any:
        """Actions in the space, whatever finite controls are given.

        A Box is clipped, and rounded if it holds integers; a one-hot vector gives the index of
        its largest, a binary number 1 above 0.5.

        Args:
            controls: (*lead, size), of any float type.

        Returns:
            An action, or a batch in Gymnasium's layout.

        Raises:
            ShapeError: ``controls`` are no numbers, do not end in ``size``, or are not finite.
        """
        try:
            controls = np.asarray(controls)
        except NO_ARRAY as error:
            raise ShapeError(f"controls must be numbers, got {controls!r:.200}: {error}") from error
        if controls.dtype.kind not in "biuf":
            raise ShapeError(f"controls must be numbers, got {controls!r:.200}")
        if controls.shape[-1:] != (self.size,):
            raise ShapeError(f"controls must end in {self.size}, got {controls.shape}")
        if not np.isfinite(controls).all():
            raise ShapeError(f"controls must be finite, got {controls}")
        if isinstance(self.root, Stream):
            return self.root.write(self.root.decode(controls))
        ends = np.cumsum([part.size for part in self.parts])
        split = np.split(controls, ends[:-1], -1)
        recorded = {
            part.name: part.decode(flat) for part, flat in zip(self.parts, split, strict=True)
        }
        return tree.write(self.root, recorded, controls.shape[:-1])

    def sample(self, rng: np.random.Generator, lead: tuple[int, ...] = ()) -> Any:
        """Draw actions, uniform where that is possible.

        As Gymnasium does it, a number without bounds is standard normal, and one with one bound
        lies beyond it by an exponential of mean 1; but any number of actions is drawn at once.

        Args:
            rng: Source of all random numbers.
            lead: Leading axes, such as (episodes, steps).

        Returns:
            An action, or a batch in Gymnasium's layout; ``map_arrays`` indexes it.
        """
        return _sample(self.root, rng, lead)

    def agrees(self, other: ActionSpace) -> bool:
        """Whether a model knows the other's actions by the same controls."""
        ours, theirs = (
            [(p.name, p.kind, p.shape, p.sizes, p.low, p.high) for p in space.parts]
            for space in (self, other)
        )
        return ours == theirs

    def identity(self) -> Any:
        """What a dataset's fingerprint is taken of: of the usual ones only the bounds."""
        part = self.root
        if isinstance(part, Stream):
            low, high = part.leaf.bounds
            if part.leaf.kind == "Discrete" and low == 0:
                return {"kind": "discrete", "low": [0.0] * part.size, "high": [1.0] * part.size}
            if part.leaf.floating and low.ndim == 1 and np.isfinite([low, high]).all():
                return {"kind": "box", "low": low.tolist(), "high": high.tolist()}
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """Plain data, from which ``from_json`` makes the same again."""
        return tree.to_json(self.root)

    @classmethod
    def from_json(cls, plain: Any) -> ActionSpace:
        """What ``to_json`` gave.

        Raises:
            SpecError: It is no such data.
        """
        return cls(tree.from_json(plain, "actions"))

    @cached_property
    def _controls(self) -> tuple[Control, ...]:
        bare = isinstance(self.root, Stream)
        return tuple(Control(part, ROOT if bare else f"{ROOT}.{part.name}") for part in self.parts)


def _describe(part: Stream) -> str:
    if part.kind == "discrete" or part.binary:
        return part.describe()
    ranges = [f"{low:g} to {high:g}" for low, high in zip(part.low, part.high, strict=True)]
    if len(set(ranges)) > 1:
        low, high = (", ".join(f"{b:g}" for b in bounds) for bounds in (part.low, part.high))
        return f"from ({low}) to ({high})"
    return f"{f'{part.size} numbers ' if part.size > 1 else ''}from {ranges[0]}"


def _split(node: tree.Node, action: Any, parts: list[Any]) -> None:
    """Append the actions of the parts that have scalars."""
    if isinstance(node, Stream):
        if node.size:
            parts.append(action)
        return
    for member, part in zip(node.members, node.split(action), strict=True):
        _split(member, part, parts)


def _sample(node: tree.Node, rng: np.random.Generator, lead: tuple[int, ...]) -> Any:
    if isinstance(node, Stream):
        return sampling.draw(node, rng, lead) if node.size else tree.absent(node, lead)
    return node.join([_sample(member, rng, lead) for member in node.members])

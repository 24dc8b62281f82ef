"""A recorded dataset: splits of episodes, what they look like, and where they come from."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from worldmodel import html
from worldmodel.data.buffer import require_finite_values
from worldmodel.data.environments import Source, Wrapping
from worldmodel.errors import SpecError
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.types import Batch, to_numpy


@dataclass(frozen=True)
class Provenance:
    """Where a dataset comes from: enough to record it again. All values can be written as JSON.

    Attributes:
        env_id: Gymnasium id, with its module prefix if it was given one.
        env_kwargs: Arguments of the environment.
        wrapping: Fields of the ``Wrapping`` around it.
        process: Name and settings of the action process, as from ``babble.describe``.
        options: Reset options, or None.
        seed: The one seed that all splits derive theirs from.
        num_envs: Environments recorded side by side; a native vector environment draws from one
            generator for all of them, so its data depend on it.
        versions: Of Python and the packages that took part.
        created: Time of recording, ISO 8601, UTC. Says nothing about the data: the fingerprint
            leaves it out.
        fingerprint: Of the data and the specs, as from ``fingerprint``.
        notes: What went wrong while recording without stopping it, a sentence each.
    """

    env_id: str
    env_kwargs: dict[str, Any]
    wrapping: dict[str, Any]
    process: dict[str, Any]
    options: dict[str, Any] | None
    seed: int
    num_envs: int
    versions: dict[str, str]
    created: str
    fingerprint: str
    notes: list[str] = field(default_factory=list)

    @property
    def source(self) -> Source:
        """The environment, ready to be made again."""
        return Source(self.env_id, self.env_kwargs, Wrapping(**self.wrapping))


@dataclass(frozen=True)
class Dataset:
    """Named splits of episodes from one environment.

    Attributes:
        splits: Episodes by name; usually "train", "validation" and "test".
        observation_spec: What one observation looks like, in every split.
        action_spec: What one action looks like, in every split.
        provenance: Where the data come from.

    Raises:
        SpecError: There is no split, one does not fit the specs (the message names both), or has a
            number that is not finite.
    """

    splits: dict[str, Batch]
    observation_spec: ObservationSpace
    action_spec: ActionSpace
    provenance: Provenance

    def __post_init__(self) -> None:
        if not self.splits:
            raise SpecError("a dataset needs at least one split, got none")
        for name, batch in self.splits.items():
            _check_split(name, batch, self.observation_spec, self.action_spec)

    @property
    def train(self) -> Batch:
        """Episodes to fit a model to."""
        return self.split("train")

    @property
    def validation(self) -> Batch:
        """Episodes to choose a model by."""
        return self.split("validation")

    @property
    def test(self) -> Batch:
        """Episodes to report on."""
        return self.split("test")

    def split(self, name: str) -> Batch:
        """Episodes of one split.

        Raises:
            SpecError: There is no such split.
        """
        if name not in self.splits:
            raise SpecError(f"no split {name!r} in this dataset; it has {', '.join(self.splits)}")
        return self.splits[name]

    def _repr_html_(self) -> str:
        rows = [
            (name, f"{len(batch):,}", f"{batch.steps:,}", f"{self.frames(name):,}")
            for name, batch in self.splits.items()
        ]
        told = self.provenance
        facts = [
            ("environment", told.env_id),
            ("observations", self.observation_spec.describe()),
            ("actions", self.action_spec.describe()),
            ("drawn", f"{told.process.get('name', '')}, seed {told.seed}"),
            ("fingerprint", told.fingerprint[:12]),
        ]
        shown = next(iter(self.splits.values())).strip(self.observation_spec.streams)
        counts = html.table(("Dataset", "episodes", "steps", "frames"), rows)
        return counts + html.table((), facts) + shown

    def frames(self, split: str) -> int:
        """Number of recorded observations in a split; padding does not count.

        Raises:
            SpecError: There is no such split.
        """
        return int(self.split(split).frame_mask.sum())

    def check_fits(self, observation_spec: ObservationSpace, action_spec: ActionSpace) -> None:
        """Make sure that a model with these specs can use the data.

        Bounds of observations may differ: what a model learns from lies within both.

        Raises:
            SpecError: Streams, or actions, differ from the data's; the message names both.
        """
        seen, acted = self.observation_spec, self.action_spec
        for what, had, expected, fits in (
            ("observations", seen, observation_spec, seen.agrees(observation_spec)),
            ("actions", acted, action_spec, acted.agrees(action_spec)),
        ):
            if not fits:
                raise SpecError(
                    f"the {what} of the dataset ({self.provenance.env_id}) are {had.space()}, "
                    f"the model expects {expected.space()}"
                )


def named_arrays(batch: Batch) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a batch; "observations/<stream>" where there are several streams."""
    for name, values in batch.items():
        arrays = to_numpy(values)
        if isinstance(arrays, Mapping):
            for stream, array in arrays.items():
                yield f"{name}/{stream}", array
        else:
            yield name, arrays


def fingerprint(
    splits: Mapping[str, Batch], observation_spec: ObservationSpace, action_spec: ActionSpace
) -> str:
    """SHA-256 of the data: specs and every array's name, dtype, shape and bytes.

    The order of the splits does not matter, nor does anything of the provenance: two recordings
    of the same data have the same fingerprint. Of ``uint8`` pictures (height, width, channel) and
    ``float32`` vectors only the shape counts, of Boxes (n,) of floats that act only their bounds,
    as it was when there were no others.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(_json([observation_spec.identity(), action_spec.identity()]))
    for split, batch in sorted(splits.items()):
        for name, array in named_arrays(batch):
            digest.update(_json([split, name, array.dtype.name, array.shape]))
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that recording depends on."""
    versions = {"python": platform.python_version()}
    for package in ("worldmodel", "gymnasium", "numpy", "torch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a checkout on the path, not installed
            versions[package] = "unknown"
    return versions


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _check_split(
    name: str, batch: Batch, observation_spec: ObservationSpace, action_spec: ActionSpace
) -> None:
    """Raise unless each array of a split has the dtype and trailing shape that it must have."""
    several = len(observation_spec.streams) > 1
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        f"observations/{s.name}" if several else "observations": (s.dtype, s.shape)
        for s in observation_spec.streams
    }
    expected |= {
        "actions": ("float32", (action_spec.size,)),
        "rewards": ("float32", ()),
        "terminated": ("bool", ()),
        "mask": ("bool", ()),
    }
    if batch.states is not None:
        expected["states"] = ("float32", (batch.states.shape[-1],))
    arrays = dict(named_arrays(batch))
    if arrays.keys() != expected.keys():
        raise SpecError(
            f"split {name!r} has the arrays {', '.join(arrays)}; expected {', '.join(expected)}"
        )
    for field_name, (dtype, shape) in expected.items():
        array = arrays[field_name]
        if array.dtype != dtype or array.shape[2:] != shape:
            raise SpecError(
                f"{field_name} of split {name!r} are {array.dtype} {array.shape}; expected "
                f"{dtype}, each {shape}"
            )
        require_finite_values(f"{field_name} of split {name!r}", array)

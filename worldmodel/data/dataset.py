"""A recorded dataset: splits of episodes, what they look like, and where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel import html
from worldmodel.data import folders
from worldmodel.data.buffer import require_finite_rows
from worldmodel.data.episodes import Episodes
from worldmodel.data.parts import Part, encoded, is_framed
from worldmodel.data.provenance import Provenance
from worldmodel.data.writer import DatasetWriter
from worldmodel.errors import FileFormatError, SpecError
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.types import Batch


@dataclass(frozen=True)
class Dataset:
    """Named splits of episodes of one system.

    Attributes:
        splits: Episodes by name; usually "train", "validation" and "test". A ``Batch`` that is
            given becomes ``Episodes`` in memory.
        observation_spec: What one observation looks like, in every split.
        action_spec: What one action looks like, in every split.
        provenance: Where the data come from.
        path: The folder that they are read from; None if they are in memory.

    Raises:
        SpecError: There is no split, one does not fit the specs (the message names both), or has a
            number that is not finite.
    """

    splits: dict[str, Episodes | Batch]
    observation_spec: ObservationSpace
    action_spec: ActionSpace
    provenance: Provenance
    path: Path | None = None

    def __post_init__(self) -> None:
        if not self.splits:
            raise SpecError("a dataset needs at least one split, got none")
        splits: dict[str, Episodes | Batch] = {}
        for name, given in self.splits.items():
            held = isinstance(given, Batch)
            episodes = Episodes.of(given, self.observation_spec) if held else given
            _check_split(name, episodes, self.observation_spec, self.action_spec, held)
            splits[name] = episodes
        object.__setattr__(self, "splits", splits)

    @property
    def train(self) -> Episodes:
        """Episodes to fit a model to."""
        return self.split("train")

    @property
    def validation(self) -> Episodes:
        """Episodes to choose a model by."""
        return self.split("validation")

    @property
    def test(self) -> Episodes:
        """Episodes to report on."""
        return self.split("test")

    def split(self, name: str) -> Episodes:
        """Episodes of one split.

        Raises:
            SpecError: There is no such split.
        """
        if name not in self.splits:
            raise SpecError(f"no split {name!r} in this dataset; it has {', '.join(self.splits)}")
        found = self.splits[name]
        assert isinstance(found, Episodes)
        return found

    def append(
        self,
        episodes: Iterable[Mapping[str, Any]],
        split: str = "train",
        final_observation: bool = True,
        **told: str,
    ) -> Dataset:
        """Add episodes to the folder, whoever reads it at the time.

        Args:
            episodes: As for ``from_episodes``.
            split: Where they go; a new one may be named.
            final_observation: As for ``from_episodes``.
            told: Their ``actor``, ``origin`` and ``recorded``, as far as they are known.

        Returns:
            The dataset with them. This one stays as it was.

        Raises:
            SpecError: The dataset is in memory alone, or an episode does not fit it: then none is
                added.
            FolderInUse: Another process is writing to the folder.
        """
        if self.path is None:
            raise SpecError("a dataset in memory cannot be appended to; save it, and load that")
        with DatasetWriter(self.path, final_observation=final_observation) as writer:
            for episode in episodes:
                writer.write(episode, split, **told)
        return self.refresh()

    def refresh(self) -> Dataset:
        """The dataset as it is on disk by now; one in memory stays as it is."""
        return self if self.path is None else Dataset.read(self.path)

    @classmethod
    def read(cls, folder: str | Path) -> Dataset:
        """The dataset in a folder as it is now; of its arrays nothing is read.

        Raises:
            FileFormatError: Something is truncated, corrupt, foreign, or of another version.
        """
        index = folders.read_index(Path(folder))
        parts = folders.read_parts(Path(folder) / index.parts)
        if not parts:
            raise FileFormatError(f"{folder} has no episodes yet")
        seen, acted = index.observation_spec, index.action_spec
        splits: dict[str, Episodes | Batch] = {
            name: Episodes(found, seen) for name, found in parts.items()
        }
        told = replace(index.provenance, fingerprint=fingerprint(splits, seen, acted))
        return cls(splits, seen, acted, told, Path(folder))

    def verify(self) -> None:
        """Read everything, and compare it with what was hashed when it was written.

        Raises:
            FileFormatError: An episode is not what it was; the message names it.
        """
        for name in self.splits:
            self.split(name).verify(f"{self.path or 'the dataset'}, split {name!r}")

    def _repr_html_(self) -> str:
        splits = [(name, self.split(name)) for name in self.splits]
        rows = [(n, f"{len(e):,}", f"{e.steps:,}", f"{e.frames:,}") for n, e in splits]
        told = self.provenance
        facts = [
            ("environment", told.env_id or "none"),
            ("observations", self.observation_spec.describe()),
            ("actions", self.action_spec.describe()),
            ("drawn", f"{told.process.get('name', '')}, seed {told.seed}"),
            ("fingerprint", told.fingerprint[:12]),
        ]
        shown = splits[0][1][:3].strip(self.observation_spec.streams)
        counts = html.table(("Dataset", "episodes", "steps", "frames"), rows)
        return counts + html.table((), facts) + shown

    def frames(self, split: str) -> int:
        """Number of recorded observations in a split; padding does not count.

        Raises:
            SpecError: There is no such split.
        """
        return self.split(split).frames

    @property
    def _origin(self) -> str:
        return f" ({self.provenance.env_id})" if self.provenance.env_id else ""

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
                    f"the {what} of the dataset{self._origin} are {had.space()}, "
                    f"the model expects {expected.space()}"
                )


def fingerprint(
    splits: Mapping[str, Episodes | Batch],
    observation_spec: ObservationSpace,
    action_spec: ActionSpace,
) -> str:
    """SHA-256 of the specs and of every episode: its arrays' names, dtypes, shapes and bytes.

    Those of the episodes were taken when they were written; nothing is read for it. The order of
    the splits does not matter, nor how a dataset's episodes are shared among its files, nor
    anything of the provenance: two recordings of the same data have the same fingerprint. Of
    ``uint8`` pictures (height, width, channel) and ``float32`` vectors only the shape counts, of
    Boxes (n,) of floats that act only their bounds.

    Returns:
        64 hexadecimal digits.
    """
    found = hashlib.sha256(encoded([observation_spec.identity(), action_spec.identity()]))
    for name, given in sorted(splits.items()):
        episodes = given if isinstance(given, Episodes) else Episodes.of(given, observation_spec)
        found.update(encoded(name))
        for part in episodes.parts:
            found.update(np.ascontiguousarray(part.digests).data)
    return found.hexdigest()


def _check_split(
    name: str,
    episodes: Episodes,
    observation_spec: ObservationSpace,
    action_spec: ActionSpace,
    held: bool,
) -> None:
    """Raise unless each array of a split has the dtype and trailing shape that it must have."""
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        f"observations.{s.name}": (s.dtype, s.shape) for s in observation_spec.streams
    }
    expected |= {"actions": ("float32", (action_spec.size,)), "terminated": ("bool", ())}
    optional: dict[str, tuple[str, tuple[int, ...]]] = {
        "rewards": ("float32", ()),
        "truncated": ("bool", ()),
        "timestamps": ("float64", ()),
        "seen": ("bool", ()),
    }
    for part in episodes.parts:
        if "states" in part.arrays:
            optional["states"] = ("float32", part.arrays["states"].shape[1:2])
        known = expected | optional
        if not expected.keys() <= part.arrays.keys() <= known.keys():
            raise SpecError(
                f"split {name!r} has the arrays {', '.join(part.arrays)}; expected "
                f"{', '.join(expected)}, and perhaps {', '.join(optional)}"
            )
        for field_name, array in part.arrays.items():
            dtype, shape = known[field_name]
            if array.dtype != dtype or array.shape[1:] != shape:
                raise SpecError(
                    f"{field_name} of split {name!r} are {array.dtype} {array.shape}; expected "
                    f"{dtype}, each {shape}"
                )
            if held:
                _require_finite(f"{field_name} of split {name!r}", part, field_name)


def _require_finite(what: str, part: Part, name: str) -> None:
    array, framed = part.arrays[name], is_framed(name)
    for i, length in enumerate(part.lengths):
        first = part.first(i, framed)
        require_finite_rows(what, array.view(first, first + int(length) + framed), i)

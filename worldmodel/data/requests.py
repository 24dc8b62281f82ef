"""What a model asks to have recorded next, in a file that ``worldmodel collect --requests`` reads.

A request is a region of states and the episodes that show it: each the options and the seed of a
reset, and all actions from there on. Where an environment can be reset to a state, they begin at
the region; elsewhere at an ordinary reset, with the recorded actions that led to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from worldmodel.data.environments import Source, Wrapping
from worldmodel.errors import FileFormatError
from worldmodel.files import from_plain, read_json, write_json

FORMAT, VERSION = "worldmodel-requests", 1


@dataclass(frozen=True)
class Wanted:
    """One episode to record.

    Attributes:
        options: Of the reset; None for an ordinary one.
        seed: Of the reset.
        actions: (T, act), controls as of ``ActionSpace.encode``: what is done in all its steps.
    """

    options: dict[str, Any] | None
    seed: int
    actions: Float32[np.ndarray, "steps act"]

    @property
    def frames(self) -> int:
        """How many it has, unless it ends before."""
        return len(self.actions) + 1


@dataclass(frozen=True)
class Request:
    """A region whose data would help, and why.

    Attributes:
        latent: (latent,), its middle: a state that a filter believed in, as a list.
        state: The same as the environment tells it; None if it tells none.
        probe: The standard probe that most of its dreams were under, by name.
        dreams: How many dreams begin to fail there.
        error: Of those, at their ends: mean, as a fraction of the variance.
        bound: What bounded it, median; None where that is infinite.
        near: How many of a sample of training states lie in the region.
        share: Fraction of all that is wrong that these dreams have.
        episodes: What to record.
    """

    latent: list[float]
    state: list[float] | None
    probe: str
    dreams: int
    error: float
    bound: float | None
    near: int
    share: float
    episodes: tuple[Wanted, ...]

    @property
    def frames(self) -> int:
        """Of all its episodes."""
        return sum(episode.frames for episode in self.episodes)


@dataclass(frozen=True)
class Requests:
    """All that a model asks for.

    Attributes:
        source: The environment.
        resettable: Whether it can be reset to a state.
        limit: Error, as a fraction of the variance, from which on a dream was taken to fail.
        requests: What is worth most first.
    """

    source: Source
    resettable: bool
    limit: float
    requests: tuple[Request, ...]

    @property
    def frames(self) -> int:
        """Of all episodes."""
        return sum(request.frames for request in self.requests)

    def write(self, path: str | Path) -> Path:
        """Write them, whole or not at all."""
        plain = asdict(self)
        for request in plain["requests"]:
            for episode in request["episodes"]:
                episode["actions"] = episode["actions"].astype(float).tolist()
        return write_json(path, {"format": FORMAT, "version": VERSION, **plain})

    @classmethod
    def read(cls, path: str | Path) -> Requests:
        """What was written.

        Raises:
            FileNotFoundError: There is no such file.
            FileFormatError: It is truncated, corrupt, foreign, or of another version; the message
                says what was expected.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"no file of requests at {str(path)!r}; 'worldmodel evaluate' writes one"
            )
        plain = read_json(path)
        if plain.pop("format", None) != FORMAT:
            raise FileFormatError(f"{path} holds no requests; expected the format {FORMAT!r}")
        if (version := plain.pop("version", None)) != VERSION:
            raise FileFormatError(f"{path} is of version {version!r}; expected {VERSION}")
        try:
            return _requests(plain)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{path} is corrupt: {error}") from error


def _requests(plain: Mapping[str, Any]) -> Requests:
    """From what JSON gives back; whatever is wrong raises something."""
    told = dict(plain["source"])
    source = Source(**{**told, "wrapping": from_plain(Wrapping, told["wrapping"])})
    found = tuple(
        Request(**{**request, "episodes": tuple(map(_wanted, request["episodes"]))})
        for request in plain["requests"]
    )
    return Requests(**{**plain, "source": source, "requests": found})


def _wanted(plain: Mapping[str, Any]) -> Wanted:
    options, seed = plain["options"], plain["seed"]
    if options is not None and not isinstance(options, dict):
        raise TypeError(f"options must be an object or null, got {options!r}")
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ValueError(f"a seed must be an integer in [0, 2^32), got {seed!r}")
    actions = np.asarray(plain["actions"], np.float32)
    if actions.ndim != 2 or not actions.size or not math.isfinite(actions.sum()):
        raise ValueError(f"actions must be finite (T, act) numbers, T >= 1; got {actions!r:.80}")
    return Wanted(options, seed, actions)

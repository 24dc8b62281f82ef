"""Where a dataset comes from."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from worldmodel.data.environments import Source, Wrapping


@dataclass(frozen=True)
class Provenance:
    """Where a dataset comes from. All values can be written as JSON.

    Of a recording of a Gymnasium environment it is enough to record it again; of one that came
    from elsewhere there is what is known.

    Attributes:
        env_id: Gymnasium id, with its module prefix if it was given one; empty if there is no
            environment.
        env_kwargs: Arguments of the environment.
        wrapping: Fields of the ``Wrapping`` around it.
        process: Name and settings of the action process, as from ``babble.describe``.
        options: Reset options, or None.
        seed: The one seed that all splits derive theirs from.
        num_envs: Environments recorded side by side; a native vector environment draws from one
            generator for all of them, so its data depend on it. 0 if there was none.
        versions: Of Python and the packages that took part.
        created: Time of recording, ISO 8601, UTC. Says nothing about the data: the fingerprint
            leaves it out.
        fingerprint: Of the data and the specs, as from ``fingerprint``.
        notes: What went wrong while recording without stopping it, and what was assumed, a
            sentence each.
    """

    env_id: str = ""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    wrapping: dict[str, Any] = field(default_factory=dict)
    process: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] | None = None
    seed: int = 0
    num_envs: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    fingerprint: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def source(self) -> Source | None:
        """The environment, ready to be made again; None if there is none."""
        if not self.env_id:
            return None
        return Source(self.env_id, self.env_kwargs, Wrapping(**self.wrapping))


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that recording depends on."""
    versions = {"python": platform.python_version()}
    for package in ("worldmodel", "gymnasium", "numpy", "torch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a checkout on the path, not installed
            versions[package] = "unknown"
    return versions

"""The dataset that an import makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import gymnasium as gym
import numpy as np

from worldmodel.data import folders
from worldmodel.data.dataset import Dataset
from worldmodel.data.importing.opened import Import
from worldmodel.data.importing.report import decisions
from worldmodel.data.importing.spaces import arranged, spaces
from worldmodel.data.provenance import Provenance, installed_versions
from worldmodel.data.splits import Shares
from worldmodel.data.writer import DatasetWriter
from worldmodel.errors import ConfigError, FileFormatError, WorldModelError

# What an episode has beside what is observed and done.
_BESIDE = ("rewards", "terminated", "truncated", "states", "timestamps", "seen")


def write(
    found: Import,
    out: Path,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
    watch: Callable[[int], None] = lambda steps: None,
) -> Dataset:
    """Read all episodes of a source and write them; nothing stays if one is refused.

    Args:
        found: The source.
        out: Folder to write, which must be new.
        shares: Of the splits by name; by default those of ``Shares``.
        seed: Of the draw of splits.
        watch: Is called with the number of steps of each episode.

    Raises:
        FileExistsError: There is a dataset at ``out``.
        FileFormatError: See ``Import.episodes``; or there are no episodes, or more than the disk
            holds.
        ConfigError: Shares do not add up to 1.
    """
    recording = found.recording
    if folders.is_dataset(out):
        raise FileExistsError(f"there is a dataset at {out}; expected a new folder")
    found.require_room(out)
    seen, acted, white, assumed = spaces(found)
    provenance = Provenance(
        env_id=_environment(found),
        seed=seed,
        versions=installed_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=[*assumed, *decisions(found)],
    )
    count = None if found.choices.cut else recording.count
    names = Shares(shares, seed).assign(count) if count else []
    writer = DatasetWriter(
        out, seen, acted, provenance, shares, seed, found.final_observation, whole=True
    )
    with writer:
        for number, (name, episode) in enumerate(found.episodes()):
            origin = f"{recording.path.name}, episode {name}"
            split = names[number] if number < len(names) else None
            episode |= {r: (episode[r] / w).astype(np.float32) for r, w in white.items()}
            shown = {
                "observations": arranged(seen, episode, "observations"),
                "actions": arranged(acted, episode, "actions"),
            }
            beside = {role: array for role, array in episode.items() if role in _BESIDE}
            try:
                writer.write(beside | shown, split, origin=origin)
            except WorldModelError as error:
                raise type(error)(f"{recording.path}, episode {name}: {error}") from error
            watch(found.lengths[-1])
        if not writer.episodes:
            but = f" but {found.short} without a step" if found.short else ""
            raise FileFormatError(f"{recording.path} has no episodes{but}")
    return Dataset.read(out)


def _environment(found: Import) -> str:
    """Id of the environment that a source was recorded in, if it is one that is known here."""
    env_id = found.recording.facts.get("env_id")
    as_it_is = not found.choices.roles and found.choices.size is None and found.choices.hz is None
    return env_id if env_id in gym.registry and as_it_is else ""


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of ``64x64``, or of ``64``.

    Raises:
        ConfigError: It is neither.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match or not 1 <= (height := int(match[1])) * (width := int(match[2] or match[1])):
        raise ConfigError(f"--resize takes HEIGHTxWIDTH in pixels, got {text!r}")
    return height, width


def parse_shares(words: Iterable[str]) -> dict[str, float] | None:
    """Shares of ``train=0.8``, …; None if there are none.

    Raises:
        ConfigError: One is no such word.
    """
    shares: dict[str, float] = {}
    for word in words:
        name, _, share = word.partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            raise ConfigError(f"--split takes NAME=SHARE, got {word!r}") from None
    return shares or None

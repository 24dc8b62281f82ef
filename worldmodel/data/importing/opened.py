"""A recording of another format as episodes of this package."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from worldmodel.data.importing.alignment import aligned, arriving
from worldmodel.data.importing.clock import require_ascending, unit_by_size
from worldmodel.data.importing.regrid import cut, regrid
from worldmodel.data.readers import open_recording
from worldmodel.data.readers.mapping import (
    Roles,
    base,
    by_role,
    clock_of,
    final,
    is_framed,
    is_stream,
    settled,
    unit_of,
)
from worldmodel.data.sampling import INTERVALS, Sampling, sampling
from worldmodel.errors import ConfigError, FileFormatError


@dataclass(frozen=True)
class Choices:
    """What is decided by whoever imports.

    Attributes:
        format: Name of the source's, or None to recognise it.
        roles: Columns by role, in place of those that the source declares.
        hz: Of the grid that everything is put on, or None to leave all as it was recorded.
        size: (height, width) that pictures are scaled to, or None.
        amounts: Roles whose whole numbers are amounts, and no indices of values; or whose arrays
            are no pictures.
        cut: Steps that longer episodes are cut into pieces of, or None.
        arriving: Roles whose entry t is of the step that led to observation t.
        leaving: Roles whose entry t is of the step that begins there; of most recordings all.
    """

    format: str | None = None
    roles: Roles = field(default_factory=dict)
    hz: float | None = None
    size: tuple[int, int] | None = None
    amounts: tuple[str, ...] = ()
    cut: int | None = None
    arriving: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()


class Import:
    """A source that was opened, and what is found while its episodes are read.

    Args:
        source: File or folder, or the id of a Minari dataset on this machine.
        choices: What is decided.

    Raises:
        As ``open_recording`` and ``mapping.settled``.
    """

    def __init__(self, source: str | Path, choices: Choices) -> None:
        roles = dict(choices.roles)
        if len(told := roles.pop("episode", ())) > 1:
            raise ConfigError(f"episode must be one column, got {', '.join(told)}")
        self.recording = open_recording(source, choices.format, told[0] if told else None)
        self.roles = settled(self.recording, roles)
        self.choices = choices
        self.arriving, self.assumed = arriving(
            self.recording, self.roles, choices.arriving, choices.leaving
        )
        self.lengths: list[int] = []
        self.unseen = self.short = self.ended_within = 0
        self.units: dict[str, float] = {}
        self._intervals: dict[str, list[np.ndarray]] = {}
        self._require_scalable()
        if choices.cut is not None and choices.cut < 1:
            raise ConfigError(f"--cut takes a number of steps, at least 1, got {choices.cut}")
        if wrong := sorted(set(choices.amounts) - set(self.roles)):
            raise ConfigError(f"there is no {wrong[0]!r} of amounts; got {', '.join(self.roles)}")
        if choices.hz is not None and not self._has_times():
            raise ConfigError(
                f"--resample needs time stamps, and {source} has none that are known; name a "
                "column with --map timestamps=COLUMN"
            )

    @property
    def final_observation(self) -> bool:
        """Whether episodes of T actions have T + 1 observations."""
        known = self.choices.hz is not None or bool(self.arriving)
        return known or final(self.recording, self.roles)

    @property
    def columns(self) -> list[str]:
        """Names of those that are read."""
        return sorted({column for columns in self.roles.values() for column in columns})

    def require_room(self, out: Path) -> None:
        """Raise unless what the source declares fits on the disk.

        Raises:
            FileFormatError: It does not.
        """
        parent = next(p for p in out.absolute().parents if p.exists())
        free = shutil.disk_usage(parent).free
        if (self.recording.nbytes or 0) > free:
            raise FileFormatError(
                f"{self.recording.path} declares arrays of {self.recording.nbytes or 0:,} bytes; "
                f"{parent} has {free:,} left"
            )

    def episodes(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Read the names of episodes, and what they hold by role.

        Raises:
            FileFormatError: The source is truncated or corrupt, has numbers that are not finite,
                or lengths that do not fit; the message names episode, stream and time.
        """
        # Without what followed, or with only one time, an action makes no step.
        least = 2 if self.choices.hz is not None or not self.final_observation else 1
        for table in self.recording.episodes(self.columns, self.choices.size):
            what = f"{self.recording.path}, episode {table.name}"
            arrays = by_role(table, self.roles)
            times = self._times(arrays, what)
            values: Mapping[str, np.ndarray]
            values = {r: a for r, a in arrays.items() if base(r) != "timestamps"}
            if self.arriving:
                values, times = aligned(values, times, self.arriving)
            if len(_acted(values)) < least:
                self.short += 1
                continue
            for role, array in values.items():
                _require_finite(array, f"{what}: {role}", times.get(role))
            if self.choices.hz is not None:
                values = regrid(values, times, self.choices.hz, what)
                self.unseen += int((~values["seen"]).sum())
            else:
                values = self._fitted(values, what)
                values |= self._stamps(times, len(values["actions"]) if "actions" in values else 0)
            for piece, part in enumerate(cut(values, self.choices.cut, self.final_observation)):
                self.lengths.append(len(_acted(part)))
                ends = part.get("terminated", np.zeros(0, np.bool_))
                self.ended_within += bool(ends[: -1 if self.final_observation else -2].any())
                yield f"{table.name}, piece {piece}" if self.choices.cut else table.name, part

    def samplings(self) -> dict[str, Sampling]:
        """How regular each clock of the episodes read so far was."""
        return {
            role: sampling(np.concatenate(intervals))
            for role, intervals in self._intervals.items()
            if sum(map(len, intervals))
        }

    def _require_scalable(self) -> None:
        for name in self.columns if self.choices.size else ():
            column = self.recording.columns[name]
            channels = (1, 3, 4)
            first = len(column.shape) == 3 and column.shape[0] in channels
            if column.picture and first and column.shape[-1] not in channels:
                raise ConfigError(
                    f"--resize takes pictures (height, width, channel); {name} is {column.shape}"
                )

    def _has_times(self) -> bool:
        clocks = [clock_of(self.roles, role) for role in self.roles if base(role) != "timestamps"]
        return all(clocks) or self.recording.rate is not None

    def _times(self, arrays: Mapping[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
        """Of each role that has a clock its times, one for each entry."""
        clocks = {
            role: require_ascending(self._seconds(role, array), f"{what}: {role}")
            for role, array in arrays.items()
            if base(role) == "timestamps"
        }
        for role, times in clocks.items():
            known = self._intervals.setdefault(role, [])
            if sum(map(len, known)) < INTERVALS:
                known.append(np.diff(times))
        found: dict[str, np.ndarray] = {}
        for role, array in arrays.items():
            clock = clock_of(self.roles, role)
            if base(role) == "timestamps" or (clock is None and self.recording.rate is None):
                continue
            if clock is None:
                found[role] = np.arange(len(array)) / (self.recording.rate or 1.0)
                continue
            found[role] = _one_for_each(clocks[clock], len(array), f"{what}: {role}", clock)
        return found

    def _seconds(self, role: str, times: np.ndarray) -> np.ndarray:
        """Times by the unit that the column's name tells, else that of the first by its size."""
        if role not in self.units:
            told = unit_of(self.roles[role][0])
            self.units[role] = unit_by_size(times) if told is None else told
        return times if self.units[role] == 1.0 else times * self.units[role]

    def _fitted(self, values: Mapping[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
        """Everything as long as it must be; an entry of which not all have one is left out."""
        lengths = {role: len(array) for role, array in values.items()}
        steps = next(n for role, n in lengths.items() if base(role) == "actions")
        frames = steps + self.final_observation
        fitted = {}
        for role, array in values.items():
            framed = is_framed(role)
            extra = framed and not self.final_observation and len(array) == steps + 1
            if len(array) != (frames if framed else steps) and not extra:
                raise FileFormatError(
                    f"{what}: {role} has {len(array)} entries and ends at time {len(array) - 1}; "
                    f"expected {frames if framed else steps}, since there are {steps} actions. "
                    "--resample HZ puts streams of different rates on one grid"
                )
            fitted[role] = array[:frames] if extra else array
        return fitted

    def _stamps(self, times: Mapping[str, np.ndarray], steps: int) -> dict[str, np.ndarray]:
        """Times of what is observed, if it has a clock."""
        stamped = [t for role, t in times.items() if is_stream(role)]
        if not stamped or not any(base(role) == "timestamps" for role in self.roles):
            return {}
        return {"timestamps": stamped[0][: steps + self.final_observation]}


def _acted(values: Mapping[str, np.ndarray]) -> np.ndarray:
    return next(array for role, array in values.items() if base(role) == "actions")


def _one_for_each(times: np.ndarray, count: int, what: str, clock: str) -> np.ndarray:
    """Times of ``count`` entries; one more than there are follows at the usual distance."""
    if len(times) == count - 1 and len(times) > 1:
        return np.append(times, times[-1] + np.median(np.diff(times)))
    if len(times) not in (count, count + 1):
        raise FileFormatError(
            f"{what} ends at time {count - 1}, and {clock} at {len(times) - 1}; expected an entry "
            "for each time"
        )
    return times[:count]


def _require_finite(array: np.ndarray, what: str, times: np.ndarray | None) -> None:
    """Raise unless all numbers are finite.

    Raises:
        FileFormatError: One is not; begins with ``what``, and names the time.
    """
    if array.dtype.kind != "f":
        return
    for first in range(0, len(array), 4096):
        wrong = ~np.isfinite(array[first : first + 4096]).reshape(-1, array[0].size).all(1)
        if wrong.any():
            t = first + int(wrong.argmax())
            value = array[t][~np.isfinite(array[t])].flat[0] if array.ndim > 1 else array[t]
            stamp = f" ({times[t]:.13g} s)" if times is not None and t < len(times) else ""
            raise FileFormatError(f"{what} is {value} at time {t}{stamp}; expected finite numbers")

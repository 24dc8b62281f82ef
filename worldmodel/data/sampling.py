"""How regularly something was recorded, told from its time stamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

# Intervals from this many periods on are gaps: something between was not recorded.
_GAP = 1.5
# How many intervals tell; those of a longer recording are its first.
INTERVALS = 1_000_000


@dataclass(frozen=True)
class Sampling:
    """How regularly something was recorded.

    Attributes:
        period: Median interval of those that are no gaps, in seconds.
        jitter: Standard deviation of the intervals that are no gaps, in periods.
        gaps: Number of intervals longer than one and a half periods.
        missing: Number of entries that would have filled them.
        longest: Longest interval, in seconds.
        entries: How many there were.
    """

    period: float
    jitter: float
    gaps: int
    missing: int
    longest: float
    entries: int

    @property
    def regular(self) -> bool:
        """Whether there are no gaps, and hardly any jitter."""
        return not self.gaps and self.jitter < 0.05

    def describe(self) -> str:
        """In words."""
        told = f"{1 / self.period:.4g} Hz, jitter {self.jitter:.0%} of a period"
        if not self.gaps:
            return told
        share = self.missing / (self.entries + self.missing)
        return (
            f"{told}, {self.gaps} gaps (longest {self.longest:.3g} s) in which about "
            f"{self.missing} entries are missing, {share:.1%}"
        )

    def advice(self) -> str:
        """What to do where steps are not equally long."""
        hz = 1 / self.period
        plain = float(f"{hz:.2g}")
        hz = plain if abs(plain / hz - 1) < 0.03 else hz
        return (
            "the steps are not equally long, which a model takes them to be; "
            f"--resample {hz:.4g} puts them on a grid"
            + (" and masks what is missing" if self.gaps else "")
        )


def sampling(intervals: Float64[np.ndarray, " n"]) -> Sampling:
    """How regular intervals between entries are; those of several episodes may be put together.

    Args:
        intervals: Positive, in seconds; at least one.
    """
    gap = intervals > _GAP * np.median(intervals)
    kept = intervals[~gap]
    period = float(np.median(kept))
    missing = np.rint(intervals[gap] / period).astype(int) - 1
    return Sampling(
        period,
        float(kept.std() / period),
        int(gap.sum()),
        int(missing.sum()),
        float(intervals.max()),
        len(intervals) + 1,
    )

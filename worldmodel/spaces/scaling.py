"""The range of numbers brought to [-1, 1], however large it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Scaling(NamedTuple):
    """From values to [-1, 1], per component, ``float64``; NaN where there are not two bounds.

    Attributes:
        offset: Middle of the range.
        scale: Half the range; 0 where there is a single value.
        gain: One over the scale; 0 where that is so small that float32 holds no inverse.
    """

    offset: np.ndarray
    scale: np.ndarray
    gain: np.ndarray


def scaling(low: tuple[float, ...], high: tuple[float, ...]) -> Scaling:
    """The scaling between bounds, which may be infinite, or as large as floats can be."""
    least, most = np.array(low, np.float64), np.array(high, np.float64)
    bounded = np.isfinite(least) & np.isfinite(most)
    least, most = np.where(bounded, least, 0) / 2, np.where(bounded, most, 0) / 2
    scale = most - least
    gain = np.zeros_like(scale)
    np.divide(1, scale, out=gain, where=scale > float(np.finfo(np.float32).tiny))
    offset, scale, gain = (np.where(bounded, x, np.nan) for x in (least + most, scale, gain))
    return Scaling(offset, scale, gain)

"""Ground truth that environments tell in ``info["state"]``."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int


class Truth:
    """Reads ``info["state"]`` as long as it is made of numbers, and else says that it is not.

    Evaluation compares with it and models never see it: a recording goes on without.

    Attributes:
        note: Why it is ignored; None as long as it is not.
    """

    def __init__(self) -> None:
        self.note: str | None = None

    def read(
        self, infos: dict[str, Any], rows: Int[np.ndarray, " k"]
    ) -> Float64[np.ndarray, "k n"] | None:
        """Ground truth of some environments from a vector environment's infos.

        Args:
            infos: With ``infos["state"]``, one row per environment, and perhaps the mask
                ``infos["_state"]`` of the rows that hold; a native vector environment may omit it.
            rows: Indices of the environments that are asked for.

        Returns:
            Each state flattened; None unless all the rows have one.
        """
        value = infos.get("state")
        if value is None or not np.all(
            np.asarray(infos["_state"])[rows] if "_state" in infos else True
        ):
            return None
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            states = value[rows].astype(np.float64)
            return states.reshape(len(rows), int(np.prod(states.shape[1:])))
        try:
            states = [np.asarray(value[i]) for i in rows]
            if all(state.dtype.kind in "biuf" for state in states):
                return np.stack([state.astype(np.float64).ravel() for state in states])
        except (KeyError, IndexError, TypeError, ValueError):
            pass  # told below
        self.note = (
            'info["state"] is ignored as ground truth: it is no array of numbers of fixed size, '
            f"but {_shortened(value)}"
        )
        return None


def _shortened(value: Any, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"

"""How kernels are compiled, and the unit that they go by."""

from __future__ import annotations

from typing import Any

from numba import njit

from worldmodel.world.lanes import LANES

# What the number of environments in a block is rounded up to: two vectors.
PAIR = 2 * LANES
# All that may be assumed of numbers, but not that they are finite: divergence must show.
FAST = {"contract", "reassoc", "nsz", "arcp"}
OPTIONS: dict[str, Any] = {"fastmath": FAST, "error_model": "numpy"}
# Of what only compiled code calls.
INNER: dict[str, Any] = OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# Checkers of shapes must not come between it and a function: hence no_type_check on all of them.
kernel = njit(**INNER)

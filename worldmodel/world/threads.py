"""Threads that compiled steps share, begun when they are first asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_pools: dict[int, ThreadPoolExecutor] = {}

# A forked child inherits no threads, and would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


def together(works: list[Callable[[], int]]) -> int:
    """Do all of them at once, the last one here; their results' bits, joined."""
    others = len(works) - 1
    if not others:
        return works[0]()
    pool = _pools.get(others)
    if pool is None:
        pool = _pools[others] = ThreadPoolExecutor(others, "worldmodel-step")
    begun = [pool.submit(work) for work in works[:-1]]
    status = works[-1]()
    for future in begun:
        status |= future.result()
    return status

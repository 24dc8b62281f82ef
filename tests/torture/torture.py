"""How hard things are tried here, and by what: shared by the tests of this folder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections import Counter
from collections.abc import Callable
from functools import wraps
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np
from gymnasium.error import Error
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from jaxtyping import TypeCheckError

from worldmodel.errors import WorldModelError

# 1 in the usual tests, which is a minute; `make torture` takes many times as long.
ROUNDS = int(os.environ.get("TORTURE", "1"))
# Inputs that all tests of doors drive together in a round, as they are written down beside each;
# `make torture INPUTS=1000000` asks for as many in all.
USUAL = 760
INPUTS = int(os.environ.get("TORTURE_INPUTS") or USUAL * ROUNDS)
# How many there were, by test.
DRIVEN: Counter[str] = Counter()
# What may be raised at a door; the last by the checker of types that the usual tests turn on.
TYPED = (WorldModelError, Error, TypeCheckError)


def tried(examples: int, **strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """Have hypothesis drive a test with so many inputs a round, and count them.

    Args:
        examples: Of each of the test's parameters.
        strategies: By argument.
    """
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    chosen = settings(
        max_examples=-(-examples * INPUTS // USUAL),
        deadline=None,
        suppress_health_check=slow,
        derandomize=INPUTS == USUAL,
        database=None,
    )

    def driven(test: Callable[..., None]) -> Any:
        @wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            DRIVEN[test.__name__] += 1
            test(*args, **kwargs)

        return chosen(given(**strategies)(counted))

    return driven


DTYPES = [np.dtype(name) for name in ("f4", "f8", "i8", "u1", "?", "c8", "U3", "M8[s]")]
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: npst.arrays(dtype, SHAPES))
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-1000, 1000), st.floats(), st.text(max_size=5)
)
NAMES = st.text(max_size=4)
# Whatever somebody may hand over, by mistake or not.
ANYTHING = st.one_of(
    ARRAYS,
    st.recursive(
        PLAIN,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)


# What a server of processes imports once, so that each is killed at its work.
_PRELOADED = ["worldmodel.training.trainer", "worldmodel.online.learn", "small"]


def _begin(ready: Event, work: Callable[[], object]) -> None:
    ready.set()
    work()


def killed(work: Callable[[], object], seconds: float, start: str = "fork") -> bool:
    """Do the work in another process that is killed after a while; whether it was done by then."""
    context = multiprocessing.get_context(start)
    context.set_forkserver_preload(_PRELOADED)
    ready = context.Event()
    child = context.Process(target=_begin, args=(ready, work))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, of threads
        child.start()
    assert ready.wait(60)
    child.join(seconds)
    child.kill()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), "the work failed by itself"
    return child.exitcode == 0

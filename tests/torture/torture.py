"""How hard things are tried here, and by what: shared by the tests of this folder."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from multiprocessing.synchronize import Event
from typing import Any

from gymnasium.error import Error
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from inputs import varied
from jaxtyping import TypeCheckError

from worldmodel.errors import WorldModelError

# 1 in the usual tests, which is a minute; `make torture` takes many times as long.
ROUNDS = int(os.environ.get("TORTURE", "1"))
# Of each input that hypothesis draws, which is what takes long, so many variations are tried, too.
VARIATIONS = 49
# Inputs that all tests of doors drive together in a round, as they are written down beside each;
# `make torture INPUTS=1000000` asks for as many in all.
USUAL = 425 * (1 + VARIATIONS)
INPUTS = int(os.environ.get("TORTURE_INPUTS") or USUAL * ROUNDS)
# How many there were, by test.
DRIVEN: Counter[str] = Counter()
# How often something was killed at its work, and how often it was done before, by test.
KILLED: Counter[str] = Counter()
FINISHED: Counter[str] = Counter()
# What may be raised at a door; the last by the checker of types that the usual tests turn on.
TYPED = (WorldModelError, Error, TypeCheckError)
SEEDS = st.integers(0, 2**32 - 1)


def tried(examples: int, **strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """Have hypothesis drive a test with so many inputs a round and their variations; count them.

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
        # Variations do not get simpler by another seed.
        phases=[Phase.generate],
        database=None,
    )

    def driven(test: Callable[..., None]) -> Any:
        # Its signature tells pytest which fixtures, and hypothesis which arguments there are.
        told = signature(test)
        seed = Parameter("_seed", Parameter.POSITIONAL_OR_KEYWORD)
        told = told.replace(parameters=[seed, *told.parameters.values()])

        @wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            given = told.bind(*args, **kwargs).arguments
            rng = random.Random(given.pop("_seed"))
            drawn = {name: given[name] for name in strategies}
            for turn in range(1 + VARIATIONS):
                one = {name: varied(value, rng) for name, value in drawn.items()} if turn else drawn
                DRIVEN[test.__name__] += 1
                try:
                    test(**given | one)
                except BaseException as error:
                    error.add_note(f"by variation {turn}: {one!r}")
                    raise

        counted.__signature__ = told  # type: ignore[attr-defined]
        return chosen(given(_seed=SEEDS, **strategies)(counted))

    return driven


# What a server of processes imports once, so that each is killed at its work.
_PRELOADED = ["worldmodel.training.trainer", "worldmodel.online.learn", "small"]


def _begin(ready: Event, work: Callable[[], object]) -> None:
    ready.set()
    work()


def killed(work: Callable[[], object], seconds: float, start: str = "fork") -> bool:
    """Do the work in another process that is killed after a while; whether it was done by then."""
    done = _let_go_on(work, seconds, start) is not None
    test = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split()[0]
    (FINISHED if done else KILLED)[test] += 1
    return done


def lasting(work: Callable[[], object], start: str = "fork") -> float:
    """Seconds that the work takes in another process, so that kills hit all of it."""
    taken = _let_go_on(work, 120, start)
    assert taken is not None, "the work has no end"
    return taken


def _let_go_on(work: Callable[[], object], seconds: float, start: str) -> float | None:
    """Seconds that the work took, if it was done before these were over."""
    context = multiprocessing.get_context(start)
    context.set_forkserver_preload(_PRELOADED)
    ready = context.Event()
    child = context.Process(target=_begin, args=(ready, work))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, of threads
        child.start()
    assert ready.wait(60)
    begin = time.monotonic()
    child.join(seconds)
    taken = time.monotonic() - begin
    child.kill()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), "the work failed by itself"
    return taken if child.exitcode == 0 else None

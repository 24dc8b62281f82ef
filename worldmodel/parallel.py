"""The same work on many things, in processes of one machine or on a cluster's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

from worldmodel.errors import WorkerError, require_at_least, require_extra

T = TypeVar("T")
R = TypeVar("R")
Engine = Literal["joblib", "ray"]


def run_all(
    work: Callable[[T], R], things: Sequence[T], parallel: int = 1, engine: Engine = "joblib"
) -> Iterator[R]:
    """What comes of each of them, in the order in which they are done.

    Args:
        work: Of a module, with arguments and results that can be pickled.
        things: To do it on.
        parallel: How many at a time; one by joblib is done in this process.
        engine: "joblib" for processes of this machine; "ray" for those of the cluster that this
            machine belongs to (``RAY_ADDRESS``), or of one that is started here.

    Raises:
        ConfigError: ``parallel`` is less than 1.
        MissingExtraError: The engine is not installed.
        WorkerError: A process has died.
    """
    require_at_least(1, parallel=parallel)
    if engine == "ray":
        require_extra("ray", "ray")
        yield from _by_ray(work, things, parallel)
    elif parallel == 1:
        yield from map(work, things)
    else:
        require_extra("joblib", "sweep")
        yield from _by_joblib(work, things, parallel)


def _by_joblib(work: Callable[[T], R], things: Sequence[T], parallel: int) -> Iterator[Any]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    settings: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1}
    pool = Parallel(min(parallel, len(things)), **settings)
    try:
        yield from pool(delayed(_of_parent)(work, thing, os.getpid()) for thing in things)
    except TerminatedWorkerError as error:
        raise WorkerError(f"a process has died; start again to go on: {error}") from error


def _of_parent(work: Callable[[T], R], thing: T, parent: int) -> R:
    """Work that ends with the process that asked for it: nobody else would know of this one."""

    def watch() -> None:
        while not done.wait(1.0):
            if os.getppid() != parent:
                os._exit(1)

    done = threading.Event()
    threading.Thread(target=watch, daemon=True).start()
    try:
        return work(thing)
    finally:
        done.set()


def _by_ray(work: Callable[[T], R], things: Sequence[T], parallel: int) -> Iterator[Any]:
    import ray  # pyright: ignore[reportMissingImports] (an extra that [dev] leaves out)
    from ray.exceptions import (  # pyright: ignore[reportMissingImports]
        RayError,
        RayTaskError,
    )

    if begun := not ray.is_initialized():
        here: dict[str, Any] = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": parallel}
        ray.init(include_dashboard=False, log_to_driver=False, **here)
    try:
        task, left, running = ray.remote(num_cpus=1)(work), list(things), []
        while left or running:
            while left and len(running) < parallel:
                running.append(task.remote(left.pop(0)))
            (done, *_), running = ray.wait(running)
            yield ray.get(done)
    except RayTaskError as error:
        raise error.as_instanceof_cause() from error
    except RayError as error:
        raise WorkerError(f"a process has died; start again to go on: {error}") from error
    finally:
        if begun:
            ray.shutdown()

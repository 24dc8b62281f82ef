"""Episodes played in processes of their own.

Each is a fresh interpreter that is asked for one episode at a time: it has none of the caller's
threads, needs no guard around the caller's main module, and ends with the pipe that it reads from.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import cloudpickle
import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from worldmodel.data.behaviour import Behaviour
from worldmodel.data.buffer import Played
from worldmodel.data.environments import Source
from worldmodel.data.playing import EpisodePlayer, Job
from worldmodel.errors import SpecError, WorkerError

_AHEAD = 3  # jobs per worker that are begun before the first is asked for


class Workers:
    """Plays episodes side by side, and gives them in their order; a context manager.

    Args:
        count: Of processes.
        source: Of their environments.
        behaviour: Who acts.
    """

    def __init__(self, count: int, source: Source, behaviour: Behaviour | None) -> None:
        self._count = count
        self._told = _packed(source, behaviour)

    def __enter__(self) -> Workers:
        self._all = [_Worker(self._told) for _ in range(self._count)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._all:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.kill()
        self._threads.shutdown(cancel_futures=True)

    def play(self, jobs: Iterable[Job]) -> Iterator[Played]:
        """Episodes in the order of their jobs.

        Raises:
            WorkerError: A process has ended.
            Exception: What playing one raised.
        """
        waiting: deque[Future[Played]] = deque()
        for job in jobs:
            waiting.append(self._threads.submit(self._ask, job))
            if len(waiting) >= _AHEAD * self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _ask(self, job: Job) -> Played:
        worker = self._idle.get()
        try:
            return worker.play(job)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process, as its caller sees it."""

    def __init__(self, told: bytes) -> None:
        command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
        # Where the caller finds its modules, the worker does too; and its torch has one core.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
        }
        environment.setdefault("OMP_NUM_THREADS", "1")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True
        )
        self._told: bytes | None = told

    def play(self, job: Job) -> Played:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            if self._told is not None:
                process.stdin.write(self._told)
                self._told = None
            pickle.dump(job, process.stdin)
            process.stdin.flush()
            found = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise WorkerError(
                f"a process that recorded has ended with status {process.poll()}; --workers 1 "
                "records in this one"
            ) from error
        if isinstance(found, Exception):
            raise found
        return found

    def kill(self) -> None:
        # Not SIGTERM, which SDL swallows. There is nothing that it would have to tidy up.
        self._process.kill()
        # Waits, and closes the pipes; what could not be written any more is not missed.
        with suppress(OSError), self._process:
            pass


def serve() -> None:
    """What a worker does: answer jobs until there are no more."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What an environment prints must not come between the answers.
    os.dup2(2, 1)
    play = None
    spec, source, behaviour = pickle.load(jobs)
    while True:
        try:
            job = pickle.load(jobs)
        except EOFError:
            return
        found: Any
        try:
            if spec is not None and play is None:
                _register(spec)
            play = play or EpisodePlayer(source, behaviour)
            found = play(job)
        except Exception as error:
            found = _portable(error)
        try:
            answers.write(found if isinstance(found, bytes) else pickle.dumps(found, protocol=5))
            answers.flush()
        except BrokenPipeError:  # whoever asked was killed
            os._exit(1)  # else the buffer is written once more, and that is said


def _register(spec: EnvSpec) -> None:
    """Let an environment be made, whose own module may do so, and would do it again later."""
    if isinstance(spec.entry_point, str):
        importlib.import_module(spec.entry_point.partition(":")[0])
    gym.registry.setdefault(spec.id, spec)


def _packed(source: Source, behaviour: Behaviour | None) -> bytes:
    """All that a worker has to know; of an environment that no module registers, how it is made."""
    module, _, name = source.env_id.rpartition(":")
    spec = None if module else gym.spec(name)
    try:
        return cloudpickle.dumps((spec, source, behaviour))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise SpecError(
            f"{source.env_id} cannot be made in other processes: {error}; with one worker it is "
            "recorded in this one"
        ) from error


def _portable(error: Exception) -> bytes:
    """An error as the caller gets it: itself, or what it says."""
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
        return packed
    except Exception:  # whatever an error's own class makes of it
        return pickle.dumps(WorkerError(f"{type(error).__name__}: {error}"))

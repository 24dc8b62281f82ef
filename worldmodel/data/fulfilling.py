"""Record what was asked for, and add it to a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldmodel.data.buffer import EpisodeBuffer
from worldmodel.data.dataset import Dataset
from worldmodel.data.environments import Source
from worldmodel.data.episodes import Episodes
from worldmodel.data.playing import EpisodePlayer, Job
from worldmodel.data.requests import Request, Requests
from worldmodel.data.storage import load
from worldmodel.data.writer import DatasetWriter
from worldmodel.errors import SourceError, SpecError
from worldmodel.progress import Steps
from worldmodel.types import Batch


def fulfil(requests: Requests, path: str | Path, progress: bool = False) -> Dataset:
    """Record all requested episodes, and add them to the training split of a dataset.

    Every episode remembers the probe that it was asked for by (``actor``) and the place of its
    request (``origin``). Interrupted, it keeps those that were complete.

    Args:
        requests: Of a model that was trained on the dataset, or on one like it.
        path: Folder of the dataset.
        progress: Whether to show a progress bar.

    Returns:
        The dataset with them.

    Raises:
        SpecError: The dataset is of another environment, or actions are not of its space; nothing
            is recorded.
        SourceError: The environment raised something, such as at a state that it cannot be reset
            to. The episodes before are kept.
        FileNotFoundError: There is nothing at ``path``.
        FileExistsError: There is no folder, but a file of before.
        FolderInUse: Another process is writing to it.
    """
    _require_fits(requests, load(path))
    player = EpisodePlayer(requests.source)
    failure, total = None, sum(len(request.episodes) for request in requests.requests)
    try:
        with (
            DatasetWriter(path, *player.spaces) as writer,
            Steps("requested", total, "frames", disable=not progress) as bar,
        ):
            try:
                for i, request in enumerate(requests.requests):
                    _record(player, request, f"request {i}", writer, bar)
            except SourceError as error:
                failure = error
            kept = writer.episodes
    finally:
        player.close()
    if failure:
        raise SourceError(f"{failure}; {kept} requested episodes are kept") from failure
    return Dataset.read(path)


def _require_fits(requests: Requests, dataset: Dataset) -> None:
    known, asked = dataset.provenance.source, requests.source
    if known is not None and known != asked:
        raise SpecError(f"the dataset is of {known}, the requests are for {asked}")
    size = dataset.action_spec.size
    for i, request in enumerate(requests.requests):
        for episode in request.episodes:
            if episode.actions.shape[1] != size:
                raise SpecError(
                    f"actions of request {i} have {episode.actions.shape[1]} components, those of "
                    f"the dataset {size}"
                )


def _record(
    player: EpisodePlayer, request: Request, origin: str, writer: DatasetWriter, bar: Steps
) -> None:
    """One request's episodes."""
    space, acted = player.spaces
    for wanted in request.episodes:
        steps = len(wanted.actions)
        played = player(Job(steps, wanted.seed, wanted.options, acted.decode(wanted.actions)))
        buffer = EpisodeBuffer(space, np.zeros((1, steps, acted.size), np.float32))
        buffer.put(0, played)
        batch: Batch = buffer.batch()
        (part,) = Episodes.of(batch, space).parts
        writer.write_arrays(part.rows(0), "train", actor=request.probe, origin=origin)
        bar.advance(played.frames)


def resets_to(source: Source, state: np.ndarray) -> bool:
    """Whether an environment's reset takes ``options["state"]``, and then is in that state.

    Args:
        source: The environment.
        state: (n,), as ``info["state"]`` tells it.
    """
    env = source.make()
    try:
        _, info = env.reset(seed=0, options={"state": np.asarray(state, float).tolist()})
        told = np.asarray(info.get("state", ()), float).ravel()
        return told.shape == state.shape and np.allclose(told, state, rtol=1e-4, atol=1e-5)
    except Exception:
        # Whatever an environment raises at options that it does not know.
        return False
    finally:
        env.close()

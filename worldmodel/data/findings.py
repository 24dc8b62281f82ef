"""What is suspicious in a dataset: parts that never change, black pictures, equal rewards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from worldmodel.data.dataset import Dataset
from worldmodel.spaces.stream import components, listed
from worldmodel.types import Batch, to_numpy


def findings(dataset: Dataset) -> list[str]:
    """One sentence per suspicion, with the stream, the component and the splits, and what to do.

    Nothing here is an error: a camera may be dark at times, and zero may be the right action.
    Padding does not count, and of fewer than two values none is suspicious. What varies in
    what is learned from and happens to be constant in another split is not suspicious either.
    What was noted while recording comes first.
    """
    found = (_of_observations(dataset), _of_rewards(dataset), _of_actions(dataset))
    return [*dataset.provenance.notes, *(told for part in found for told in part)]


def _of_observations(dataset: Dataset) -> Iterator[str]:
    streams = dataset.observation_spec.streams
    splits = _splits(dataset)
    recorded = {name: batch.frame_mask.cpu().numpy() for name, batch in splits.items()}
    arrays = {name: to_numpy(batch.observations) for name, batch in splits.items()}
    for stream in streams:
        values = {
            name: (array if len(streams) == 1 else array[stream.name])[recorded[name]]
            for name, array in arrays.items()
        }
        if told := stream.finding(values):
            yield told


def _of_rewards(dataset: Dataset) -> Iterator[str]:
    rewards = _acted(dataset, "rewards")
    first = next(iter(rewards.values()))
    if not _equal(first):
        return
    names = [n for n, values in rewards.items() if _equal(values) and values[0] == first[0]]
    advice = (
        "an agent will find nothing to aim at; record actions that reach other rewards, or let the "
        "environment give some"
    )
    if first[0] != 0 and next(iter(_splits(dataset).values())).terminated.any():
        advice = "all that an agent can aim at is when an episode ends"
    yield f"every reward is {first[0]:g} in {listed(names)}: {advice}"


def _of_actions(dataset: Dataset) -> Iterator[str]:
    controls, start = _acted(dataset, "actions"), 0
    for part in dataset.action_spec.parts:
        end = start + part.size
        still = {
            name: part.constant(part.decode(values[:, start:end]))
            for name, values in controls.items()
        }
        first, start = next(iter(still.values())), end
        if first.any():
            which = "never changes" if first.all() else f"has {components(first)}"
            names = [name for name, others in still.items() if others[first].all()]
            yield (
                f"action {part.name!r} {which} in {listed(names)}: what that does cannot be "
                "learned; draw actions that vary"
            )


def _splits(dataset: Dataset) -> dict[str, Batch]:
    """That which is learned from first."""
    return dict(sorted(dataset.splits.items(), key=lambda split: split[0] != "train"))


def _acted(dataset: Dataset, name: str) -> Mapping[str, np.ndarray]:
    """A field of each split without its padding."""

    def recorded(batch: Batch) -> np.ndarray:
        return getattr(batch, name).cpu().numpy()[batch.mask.cpu().numpy()]

    return {name: recorded(batch) for name, batch in _splits(dataset).items()}


def _equal(rewards: np.ndarray) -> bool:
    return len(rewards) > 1 and bool((rewards == rewards[0]).all())

"""What is suspicious in a dataset: parts that never change, black pictures, equal rewards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Shaped

from worldmodel.data.dataset import Dataset
from worldmodel.spaces import Stream
from worldmodel.types import Batch, to_numpy

# A number is constant if it varies by no more than so many steps of its floating-point type.
_STEPS = 8
_NAMED = 8  # components that a sentence names one by one

Finding = tuple[str, str]  # what there is, and what can be done about it


def findings(dataset: Dataset) -> list[str]:
    """One sentence per suspicion, with the stream, the component and the splits, and what to do.

    Nothing here is an error: a camera may be dark at times, and zero may be the right action.
    Padding does not count, and of fewer than two values none is suspicious. What was noted while
    recording comes first.
    """
    found: dict[Finding, list[str]] = {}
    for name, batch in dataset.splits.items():
        for finding in (
            *_of_observations(dataset, batch),
            *_of_rewards(batch),
            *_of_actions(dataset, batch),
        ):
            found.setdefault(finding, []).append(name)
    told = [f"{what} in {_listed(names)}: {advice}" for (what, advice), names in found.items()]
    return [*dataset.provenance.notes, *told]


def _of_observations(dataset: Dataset, batch: Batch) -> Iterator[Finding]:
    recorded = batch.frame_mask.cpu().numpy()
    streams = dataset.observation_spec.streams
    arrays = to_numpy(batch.observations)
    if len(streams) == 1:
        arrays = {streams[0].name: arrays}
    for stream in streams:
        values = arrays[stream.name][recorded]
        still = _constant(values.reshape(len(values), -1), stream)
        if still.all():
            yield (
                f"stream {stream.name!r} never changes",
                "nothing can be learned from it; look at what the environment shows, or leave the "
                "stream out",
            )
        elif stream.kind == "pixels":
            yield from _of_pictures(stream.name, values)
        elif still.any():
            yield (
                f"stream {stream.name!r} has {_components(still)}",
                "nothing can be learned from that; look at the sensor, unless it is to be so",
            )


def _of_pictures(
    name: str, frames: Shaped[np.ndarray, "n height width channel"]
) -> Iterator[Finding]:
    flat = frames.reshape(len(frames), -1, frames.shape[-1])
    plain = (flat.min(1) == flat.max(1)).all(-1)
    if plain.any():
        black = int((flat[plain] == 0).all((1, 2)).sum())
        yield (
            f"stream {name!r}: {int(plain.sum())} of {len(frames)} pictures are of one colour, "
            f"{black} of them black,",
            "look at the rendering, and at where the camera points",
        )


def _of_rewards(batch: Batch) -> Iterator[Finding]:
    rewards = batch.rewards.cpu().numpy()[batch.mask.cpu().numpy()]
    if len(rewards) > 1 and (rewards == rewards[0]).all():
        advice = (
            "an agent will find nothing to aim at; record actions that reach other rewards, or "
            "let the environment give some"
        )
        if rewards[0] != 0 and batch.terminated.any():
            advice = "all that an agent can aim at is when an episode ends"
        yield f"every reward is {rewards[0]:g}", advice


def _of_actions(dataset: Dataset, batch: Batch) -> Iterator[Finding]:
    controls = batch.actions.cpu().numpy()[batch.mask.cpu().numpy()]
    parts = dataset.action_spec.parts
    ends = np.cumsum([part.size for part in parts])
    for part, flat in zip(parts, np.split(controls, ends[:-1], -1), strict=True):
        still = _constant(part.decode(flat), part)
        if still.any():
            which = "never changes" if still.all() else f"has {_components(still)}"
            yield (
                f"action {part.name!r} {which}",
                "what that does cannot be learned; draw actions that vary",
            )


def _constant(values: Shaped[np.ndarray, "n size"], stream: Stream) -> Bool[np.ndarray, " size"]:
    """Which components never vary, by more than their dtype can resolve."""
    if len(values) < 2:
        return np.zeros(values.shape[1], np.bool_)
    low, high = values.min(0), values.max(0)
    if not stream.leaf.floating:
        return low == high
    # Controls are float32, whatever the space is.
    eps = max(float(np.finfo(dtype).eps) for dtype in (stream.leaf.dtype, values.dtype))
    low, high = low.astype(np.float64), high.astype(np.float64)
    return high - low <= _STEPS * eps * np.maximum(np.abs(low), np.abs(high))


def _components(which: Bool[np.ndarray, " size"]) -> str:
    indices = np.flatnonzero(which)
    if len(indices) > _NAMED:
        return f"{len(indices)} constant components ({indices[0]} to {indices[-1]})"
    named = _listed([str(index) for index in indices])
    return f"the constant component{'s' if len(indices) > 1 else ''} {named}"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]

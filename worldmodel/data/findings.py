"""What is suspicious in a dataset: what never changes, and pictures that cannot be learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from worldmodel.data.dataset import Dataset
from worldmodel.data.influence import Influence, influence
from worldmodel.data.motion import STILL, Corner, motion, stillness
from worldmodel.data.windows import Windows, described
from worldmodel.spaces import ActionSpace, ObservationSpace, Stream
from worldmodel.spaces.stream import components, listed
from worldmodel.types import Batch, to_numpy

# Thresholds, with the largest of recordings that are learned from: the shipped systems' and
# Gymnasium's Pendulum, CartPole, Acrobot and LunarLander at 32 x 32 pixels.
_REPEATED = 0.5  # cart-pole, which starts at rest: 0.14
_NOVELTY = 0.8  # Acrobot: 0.46; independent pictures: 1
_RESTLESS, _ALL = 0.25, 0.95  # none of these has a restless corner that stands apart
# Pendulum-v1 of 40 episodes, whose torque is weak: 4.2 to 9.0; exchanged
# actions of the systems above: 2.4 at most of 30.
_EFFECT = 2.5
# Two bouncing balls: 0.62. Where the past tells less, as of LunarLander's sparks and ground (0.21),
# there is too much else for a small effect to be seen: of its engines the test sees none (1.4).
_PREDICTED = 0.5
_JUDGED = 2  # steps: one is filtered, one predicted
_ENOUGH = 100  # pairs of frames, to judge their differences by


def findings(dataset: Dataset, controlled: bool = True) -> list[str]:
    """One sentence per suspicion, with the stream, the component and the splits, and what to do.

    Nothing here is an error: a camera may be dark at times, and zero may be the right action.
    Padding does not count, and of fewer than two values none is suspicious. What varies in
    what is learned from and happens to be constant in another split is not suspicious either.
    What was noted while recording comes first. Of large splits a sample is looked at (``sample`` of
    ``Episodes``). Motion and the effect of actions are judged by some
    4,000 frames that are learned from.

    Args:
        dataset: What was recorded.
        controlled: Whether actions should have an effect.
    """
    splits = _splits(dataset)
    found = (
        _of_observations(splits, dataset.observation_spec),
        _of_rewards(splits),
        _of_actions(splits, dataset.action_spec),
        _of_motion(splits, dataset, controlled),
        _of_length(dataset),
    )
    return [*dataset.provenance.notes, *(told for part in found for told in part)]


def _of_observations(splits: Mapping[str, Batch], space: ObservationSpace) -> Iterator[str]:
    streams = space.streams
    recorded = {name: batch.frame_mask.cpu().numpy() for name, batch in splits.items()}
    arrays = {name: to_numpy(batch.observations) for name, batch in splits.items()}
    for stream in streams:
        values = {
            name: (array if len(streams) == 1 else array[stream.name])[recorded[name]]
            for name, array in arrays.items()
        }
        if told := stream.finding(values):
            yield told


def _of_rewards(splits: Mapping[str, Batch]) -> Iterator[str]:
    if any(batch.rewards is None for batch in splits.values()):
        return
    rewards = _acted(splits, "rewards")
    first = next(iter(rewards.values()))
    if not _equal(first):
        return
    names = [n for n, values in rewards.items() if _equal(values) and values[0] == first[0]]
    advice = (
        "an agent will find nothing to aim at; record actions that reach other rewards, or let the "
        "environment give some"
    )
    if first[0] != 0 and next(iter(splits.values())).terminated.any():
        advice = "all that an agent can aim at is when an episode ends"
    yield f"every reward is {first[0]:g} in {listed(names)}: {advice}"


def _of_actions(splits: Mapping[str, Batch], space: ActionSpace) -> Iterator[str]:
    controls, start = _acted(splits, "actions"), 0
    for part in space.parts:
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


def _of_length(dataset: Dataset) -> Iterator[str]:
    if "test" in dataset.splits and dataset.test.steps < _JUDGED:
        longer = _flags(dataset, "--test-steps")
        yield (
            f"no test episode has {_JUDGED} steps: predictions cannot be judged; record longer "
            f"ones{longer}"
        )


def _of_motion(splits: Mapping[str, Batch], dataset: Dataset, controlled: bool) -> Iterator[str]:
    name, batch = next(iter(splits.items()))
    windows = Windows.of(batch)
    if len(windows) * windows.steps < _ENOUGH:
        return
    controls, seen = windows.controls(batch.actions.cpu().numpy()), to_numpy(batch.observations)
    effects: list[Influence] = []
    streams = dataset.observation_spec.streams
    for stream in streams:
        frames = windows.frames(seen if len(streams) == 1 else seen[stream.name])
        if stream.filmed:
            yield from _of_pictures(stream, frames, name)
            yield from _of_still(stream, batch, name)
        if controlled and dataset.action_spec.size:
            rng = np.random.default_rng(0)
            ways = (influence(seen_as, controls, rng) for seen_as in described(stream, frames))
            effects += [effect for effect in ways if effect]
    judged = [effect for effect in effects if effect.predicted > _PREDICTED]
    if judged and all(effect.score < _EFFECT for effect in effects):
        count = len(windows) * (windows.steps + 1)
        yield (
            f"no effect of the actions was found in {count:,} frames of {name}: what follows two "
            "frames is told as well by other episodes' actions; see that the environment uses "
            "what it is given; if its effect is slow or weak, record for longer, or hold each "
            f"action{_flags(dataset, '--process held, --frame-skip')}"
        )


def _of_pictures(stream: Stream, frames: np.ndarray, split: str) -> Iterator[str]:
    """About windows of consecutive pictures."""
    measured, of = motion(frames), f"stream {stream.name!r}: "
    corner, repeated = measured.corner, measured.repeated
    fraction = corner.fraction if corner else 0.0
    if corner and fraction >= _RESTLESS:
        yield of + _of_corner(corner, split)
    if repeated > _REPEATED:
        skip = f" {round(1 / (1 - repeated))}" if repeated < 1 else ""
        times = f"collect --frame-skip{skip}, or import --resample at so much lower a rate"
        yield (
            f"{of}{repeated:.0%} of the pictures in {split} equal the one before: if steps are "
            f"shorter than the camera's frames, record every new picture once ({times}); if "
            "nothing moves, let the actions move it"
        )
    if measured.novelty > _NOVELTY and fraction < _ALL:
        yield (
            f"{of}from one picture of {split} to the next as much changes as between pictures "
            f"drawn at random ({measured.novelty:.0%}): things move by more than their size, or "
            "it is noise; record more frames per second (a smaller --frame-skip, a shorter time "
            "step), or larger things"
        )


def _of_still(stream: Stream, batch: Batch, split: str) -> Iterator[str]:
    """About what is another thing in every episode, and never moves."""
    seen, mask = to_numpy(batch.observations), batch.frame_mask.cpu().numpy()
    pictures = seen if isinstance(seen, np.ndarray) else seen[stream.name]
    rows = np.arange(len(mask))
    first, last = (
        pictures[rows, at].reshape(len(rows), -1).astype(np.float32)
        for at in (mask.argmax(1), mask.shape[1] - 1 - mask[:, ::-1].argmax(1))
    )
    if (fraction := stillness(first, last, mask.sum(1).tolist())) > STILL:
        yield (
            f"stream {stream.name!r}: {fraction:.0%} of what episodes of {split} differ by stands "
            "still within each, such as a ground or a background: it is drawn as it is on average, "
            "and predictions are judged by what moves; if it decides what happens, see that a "
            "vector beside the pictures tells it"
        )


def _of_corner(corner: Corner, split: str) -> str:
    (top, bottom), (left, right) = corner.rows, corner.columns
    where = f"lies in rows {top} to {bottom - 1}, columns {left} to {right - 1}"
    if corner.fraction >= _ALL:
        return (
            f"{corner.fraction:.0%} of what changes in {split} {where}, and hardly anything "
            "elsewhere: a clock or a counter has nothing to do with the system; crop it, and look "
            "whether the rest moves"
        )
    return (
        f"{corner.fraction:.0%} of what changes in {split} {where}, apart from all else: if it is "
        "a clock or a counter, crop it, or it is learned in place of the system"
    )


def _flags(dataset: Dataset, names: str) -> str:
    """Of ``collect``, where that can record more of the system."""
    return f" (collect {names})" if dataset.provenance.source else ""


def _splits(dataset: Dataset) -> dict[str, Batch]:
    """A sample of each, that which is learned from first."""
    names = sorted(dataset.splits, key=lambda name: name != "train")
    return {name: dataset.split(name).sample() for name in names}


def _acted(splits: Mapping[str, Batch], name: str) -> Mapping[str, np.ndarray]:
    """A field of each split without its padding."""

    def recorded(batch: Batch) -> np.ndarray:
        return getattr(batch, name).cpu().numpy()[batch.mask.cpu().numpy()]

    return {split: recorded(batch) for split, batch in splits.items()}


def _equal(rewards: np.ndarray) -> bool:
    return len(rewards) > 1 and bool((rewards == rewards[0]).all())

"""What an import found, and what it decided, for people."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from worldmodel.data.clock import Sampling
from worldmodel.data.importing import Import
from worldmodel.data.readers.mapping import base, is_stream

# What an episode may have, and what becomes of it without.
_ABSENT = {
    "rewards": "no rewards: what is trained of it has no reward",
    "terminated": "no terminations: no episode is known to end",
    "timestamps": "no time stamps: steps are taken to be equally long",
}


def contents(found: Import) -> Iterator[str]:
    """What the source holds and how it is read, before it is read; a sentence each."""
    recording, roles = found.recording, found.roles
    count = "" if recording.count is None else f", {recording.count:,} episodes"
    declared = "" if recording.rate is None else f", declared at {recording.rate:g} Hz"
    yield f"{recording.path}: {recording.format}{count}{declared}"
    for role, columns in roles.items():
        held = ", ".join(f"{name} ({recording.columns[name].describe()})" for name in columns)
        yield f"{'observed ' if is_stream(role) else ''}{role} from {held}"
    used = set(found.columns)
    if left := [name for name in recording.columns if name not in used]:
        yield f"not used: {', '.join(left)}; --map STREAM=COLUMN takes up what matters"
    for role, told in _ABSENT.items():
        if not any(base(name) == role for name in roles):
            yield told
    yield from recording.notes
    yield from _lengths(found)


def _lengths(found: Import) -> Iterator[str]:
    recording = found.recording
    if found.choices.hz is not None:
        yield (
            f"everything is put on a grid of {found.choices.hz:g} Hz: what is observed by the "
            "nearest entry, actions by the last one given"
        )
        return
    if found.final_observation:
        yield "an episode of T actions has T + 1 observations"
        return
    yield (
        "an episode of T actions has T observations: its last action, whose outcome was not "
        "recorded, is left out"
    )
    longer = [
        role
        for role, columns in found.roles.items()
        if is_stream(role) and all(recording.columns[column].final for column in columns)
    ]
    if longer:
        yield f"{', '.join(longer)} have one entry more than others, which is left out"


def timing(found: Import) -> Iterator[str]:
    """How regular the recording was, once it was read; a sentence each."""
    for clock, measured in found.samplings().items():
        stream = clock.partition(".")[2]
        yield f"{f'time of {stream}' if stream else 'time'}: {measured.describe()}"
        if found.choices.hz is None and not measured.regular:
            yield _advice(measured)
    if found.choices.hz is not None:
        frames = sum(found.lengths) + len(found.lengths)
        yield (
            f"{found.unseen:,} of {frames:,} grid points ({found.unseen / max(frames, 1):.1%}) "
            "have no entry near them and are masked: a filter predicts through them"
        )


def _advice(measured: Sampling) -> str:
    return (
        "the steps are not equally long, which a model takes them to be; "
        f"--resample {np.round(1 / measured.period, 3):g} puts them on a grid"
        + (" and masks what is missing" if measured.gaps else "")
    )

"""What an import found, and what it decided, for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from worldmodel.data.dataset import Dataset
from worldmodel.data.importing.opened import Import
from worldmodel.data.readers.mapping import DONE, base, is_framed, is_stream
from worldmodel.data.splits import USUAL

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
    yield from decisions(found)
    if found.final_observation and found.choices.hz is None:
        yield "an episode of T actions has T + 1 observations"


def decisions(found: Import) -> Iterator[str]:
    """What was decided; a sentence each."""
    recording = found.recording
    yield from recording.notes
    yield from found.assumed
    done = [name for name in recording.columns if name.rpartition("/")[2].lower() in DONE]
    if done and "terminated" not in found.roles:
        yield (
            f"{done[0]} says where an episode ends, not why: no end is taken for a termination "
            f"unless --map terminated={done[0]} says so"
        )
    if found.choices.hz is not None:
        yield (
            f"everything is put on a grid of {found.choices.hz:g} Hz: what is observed by the "
            "nearest entry, actions by the last one given"
        )
    elif not found.final_observation:
        yield _last_left_out(found)


def _last_left_out(found: Import) -> str:
    """Why nothing is made of the last action of an episode."""
    framed = {role: columns for role, columns in found.roles.items() if is_framed(role)}
    longer = [
        role
        for role, columns in framed.items()
        if all(found.recording.columns[column].final for column in columns)
    ]
    shorter = [role for role in framed if role not in longer]
    if not any(map(is_stream, longer)):
        return (
            "an episode of T actions has T observations: its last action, whose outcome was not "
            "recorded, is left out"
        )
    return (
        f"an episode of T actions has T {', '.join(shorter)} and T + 1 {', '.join(longer)}: its "
        "last action and what it led to are left out; "
        f"--map {' '.join(f'{role}=' for role in shorter)} keeps it, by doing without "
        f"{', '.join(shorter)}"
    )


def timing(found: Import) -> Iterator[str]:
    """How regular the recording was, once it was read; a sentence each."""
    for clock, unit in found.units.items():
        if unit != 1.0:
            yield f"{found.roles[clock][0]} is taken for seconds times {unit:g}"
    for clock, measured in found.samplings().items():
        stream = clock.partition(".")[2]
        yield f"{f'time of {stream}' if stream else 'time'}: {measured.describe()}"
        if found.choices.hz is None and not measured.regular:
            yield measured.advice()
        finer = 1 / (measured.period * found.choices.hz) if found.choices.hz else 1.0
        if finer > 1.5:
            yield (
                f"the grid of {found.choices.hz:g} Hz is {finer:.3g} times coarser than this: "
                f"about {1 - 1 / finer:.0%} of what was recorded is left out (--resample is in Hz, "
                "not in seconds)"
            )
    if found.choices.hz is not None:
        frames = sum(found.lengths) + len(found.lengths)
        yield (
            f"{found.unseen:,} of {frames:,} grid points ({found.unseen / max(frames, 1):.1%}) "
            "have no entry near them and are masked: a filter predicts through them"
        )


def written(found: Import, dataset: Dataset, out: Path) -> Iterator[str]:
    """What has become of it; a sentence each."""
    counts = ", ".join(
        f"{name} {len(dataset.split(name)):,} ({dataset.frames(name):,} frames)"
        for name in dataset.splits
    )
    yield f"observations: {dataset.observation_spec.describe()}"
    yield f"actions: {dataset.action_spec.describe()}"
    if found.short:
        yield (
            f"{found.short:,} episodes are left out, being too short: what their only action led "
            "to was not recorded"
        )
    if found.ended_within:
        yield (
            f"{found.ended_within:,} episodes go on after a step that is terminated: an end is "
            "learned there; a column that tells episodes apart (--map episode=COLUMN, of tables) "
            "parts them, --map terminated= does without ends"
        )
    if missing := [name for name in USUAL if name not in dataset.splits]:
        yield (
            f"there is no split {missing[0]!r}, which training or evaluation asks for; --split "
            "NAME=SHARE names shares, and --cut STEPS makes several episodes of a long one"
        )
    told = set(decisions(found))
    yield from (note for note in dataset.provenance.notes if note not in told)
    yield f"{out}: {counts}"

"""``worldmodel import``: recordings of other formats become a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from worldmodel.cli.console import say
from worldmodel.data.importing import Choices, Import, parse_shares, parse_size, report, write
from worldmodel.data.readers import mapping
from worldmodel.files import write_json
from worldmodel.progress import Steps


def import_(
    source: Annotated[Path, Positional, arg(metavar="SOURCE")],
    out: Path,
    format: Literal["lerobot", "minari", "hdf5", "arrays", "tables"] | None = None,
    map: Annotated[tuple[str, ...], tyro.conf.arg(metavar="STREAM=COLUMN|FILE.json")] = (),
    save_map: Path | None = None,
    amounts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="STREAM")] = (),
    resample: float | None = None,
    resize: Annotated[str | None, tyro.conf.arg(metavar="HEIGHTxWIDTH")] = None,
    split: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SHARE")] = (),
    cut: int | None = None,
    arriving: Annotated[tuple[str, ...], tyro.conf.arg(metavar="STREAM")] = (),
    leaving: Annotated[tuple[str, ...], tyro.conf.arg(metavar="STREAM")] = (),
    seed: int = 0,
) -> None:
    """Make a dataset of a recording in another format.

    Arrays (.npz, a folder of them or of .npy), HDF5 as of D4RL and robomimic, Minari datasets by
    folder or id, LeRobot v3 folders, and tables (CSV, Parquet) with pictures or videos beside them.

    Args:
        source: File or folder, or the id of a Minari dataset on this machine.
        out: Folder to write, which must be new.
        format: Of the source; by default it is recognised.
        map: Which column is what: actions, rewards, terminated, truncated, states, timestamps, or
            the name of an observed stream. Several columns, with commas between, are put side by
            side; none leaves out what the source declares. Or a file that --save-map wrote.
        save_map: File to write the mapping to that was used.
        amounts: What is whole numbers and amounts, rather than indices of values; or arrays of
            numbers, rather than pictures.
        resample: Put all streams on one grid of so many Hz; what is missing is masked.
        resize: Scale pictures.
        split: Shares of the episodes; train=0.8 validation=0.1 test=0.1 by default.
        cut: Cut episodes into pieces of so many steps, so that one long recording can be split.
        arriving: Actions, rewards or ends whose entry t is of the step that led to observation t,
            and not of the one that begins there.
        leaving: Those of the step that begins there, where a source that marks first observations
            (is_first) is taken otherwise.
        seed: Of the draw of splits.
    """
    size = parse_size(resize) if resize else None
    asked = mapping.parse(map)
    found = Import(source, Choices(format, asked, resample, size, amounts, cut, arriving, leaving))
    for line in report.contents(found):
        say(line)
    with Steps("imported", found.recording.count) as steps:
        dataset = write(found, out, parse_shares(split), seed, steps.advance)
    for line in (*report.timing(found), *report.written(found, dataset, out)):
        say(line)
    if save_map is not None:
        episode = {"episode": asked["episode"]} if asked.get("episode") else {}
        roles = {**found.roles, **episode}
        write_json(save_map, {role: list(columns) for role, columns in roles.items()})

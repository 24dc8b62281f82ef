"""``worldmodel data``: what can be done with a dataset."""

from __future__ import annotations

from worldmodel import data
from worldmodel.cli.arguments import Data
from worldmodel.cli.console import say
from worldmodel.data.writers import minari as to_minari
from worldmodel.progress import Steps


def export(dataset: Data, minari: str, splits: tuple[str, ...] = ()) -> None:
    """Write a dataset in another format, so that other software can use it.

    Args:
        dataset: Folder, or file, of a dataset.
        minari: Id of the Minari dataset to write, "(group/)name-v0"; it lies in
            MINARI_DATASETS_PATH, or in ~/.minari/datasets.
        splits: Of which the episodes are written; all by default.
    """
    held = data.load(dataset)
    chosen = splits or tuple(held.splits)
    with Steps("exported", sum(len(held.split(name)) for name in chosen)) as steps:
        folder = to_minari.write(held, minari, chosen, steps.advance)
    say(f"{folder}: minari.load_dataset({minari!r})")

"""``worldmodel data show``: what is in a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from worldmodel import data
from worldmodel.cli.arguments import Data
from worldmodel.cli.console import note, say
from worldmodel.data.summary import Histogram, Summary, summarise
from worldmodel.plots.dataset import counts, described, facts, write_summary
from worldmodel.systems import preset, preset_for, system_of

_MOST = 24  # histograms of a kind that are printed


def show(dataset: Data, out: Path | None = None) -> None:
    """Say what is in a dataset, what is constant and what is suspicious, and draw it on a page.

    The page opens from disk and needs no network. Of what is large a sample is drawn.

    Args:
        dataset: Folder, or file, of a dataset.
        out: HTML file to write; by default DATA/data.html, or beside DATA if that is a file.
    """
    held = data.load(dataset)
    told = held.provenance
    window = preset(preset_for(held.observation_spec, told.source)).train.window
    summary = summarise(held, window, system_of(told.env_id).controlled)
    for line in lines(held, summary):
        say(line)
    for sentence in summary.suspicious:
        note(sentence)
    place = out or (dataset / "data.html" if dataset.is_dir() else dataset.with_suffix(".html"))
    written = write_summary(held, summary, f"{dataset.resolve().name}: a dataset", place)
    say(f"Open {written} ({written.stat().st_size / 1e6:.1f} MB) in a browser")


def lines(dataset: data.Dataset, summary: Summary) -> Iterator[str]:
    """What is printed."""
    yield from _table(facts(dataset, summary))
    head, rows = counts(summary)
    yield from ("", *_table([head, *rows]))
    for title, histograms in (
        ("actions", summary.actions),
        ("rewards", [summary.rewards] if summary.rewards else []),
        ("observed numbers", summary.components),
    ):
        if histograms:
            yield from ("", title, *_histograms(histograms))
    for name, fraction in (summary.space.covered if summary.space else {}).items():
        yield f"{fraction:.0%} of the frames of {name} are like frames that are learned from"


def _histograms(histograms: Sequence[Histogram]) -> Iterator[str]:
    yield from _table([(f"  {h.name}", described(h)) for h in histograms[:_MOST]])
    if len(histograms) > _MOST:
        yield f"  and {len(histograms) - _MOST} more, on the page"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(cell.ljust(width) for cell, width in cells).rstrip()

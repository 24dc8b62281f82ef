"""A dataset on one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from worldmodel import html
from worldmodel.data import Dataset
from worldmodel.data.coverage import Map
from worldmodel.data.summary import Histogram, Split, Summary
from worldmodel.plots import page
from worldmodel.plots.style import GREY, SERIES, dress, figure, legend, save
from worldmodel.types import to_numpy

_ROWS, _FRAMES = 4, 12  # episodes and frames of a stream's picture
_STEPS = 200  # of an episode's curve
_MOST = 12  # histograms of a figure, and curves of a stream
_BLOCKS = "▁▂▃▄▅▆▇█"


def write_summary(dataset: Dataset, summary: Summary, title: str, path: Path) -> Path:
    """Write the page, whole or not at all."""
    suspicious = [page.paragraph(told) for told in summary.suspicious]
    parts = [
        html.table(("", ""), facts(dataset, summary)),
        page.section("Suspicious", *(suspicious or [page.paragraph("Nothing was found.")])),
        page.section("Episodes", html.table(*counts(summary))),
        page.section("Streams", *_streams(dataset)),
    ]
    for name, histograms in (
        ("Actions", summary.actions),
        ("Rewards", [summary.rewards] if summary.rewards else []),
        ("Observed numbers", summary.components),
    ):
        parts.append(page.section(name, *_histograms(name, histograms)))
    if summary.space is not None:
        parts.append(page.section("Coverage", *_coverage(summary.space)))
    return page.write_page(path, title, parts)


def facts(dataset: Dataset, summary: Summary) -> list[tuple[str, str]]:
    """What is said of the whole."""
    told, counted = dataset.provenance, summary.splits.values()
    frames, unseen = sum(s.frames for s in counted), sum(s.unseen for s in counted)
    masked = f"{unseen:,} of {frames:,} frames ({unseen / max(frames, 1):.1%})"
    drawn = ", ".join(f"{name} {value}" for name, value in told.process.items())
    known = [
        ("environment", told.env_id or "none: a recording"),
        ("observations", dataset.observation_spec.describe()),
        ("actions", dataset.action_spec.describe()),
        ("acted", drawn),
        ("time", summary.sampling.describe() if summary.sampling else ""),
        ("masked", masked if unseen else ""),
        ("recorded", told.created),
        ("fingerprint", told.fingerprint[:12]),
    ]
    return [(name, value) for name, value in known if value]


def counts(summary: Summary) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Head and rows of a table of the splits."""
    head = ("split", "episodes", "shortest", "median", "longest", "frames", "ended", "acted")
    return head, [(name, *_counted(split)) for name, split in summary.splits.items()]


def _counted(split: Split) -> list[str]:
    ended = f"{split.terminated / split.episodes:.0%}"
    acted = ", ".join(f"{name}: {count:,}" for name, count in split.actors.items())
    steps = [f"{steps:,}" for steps in split.steps]
    return [f"{split.episodes:,}", *steps, f"{split.frames:,}", ended, acted]


def described(histogram: Histogram) -> str:
    """A histogram of the first split as a line of text."""
    first = next(iter(histogram.counts.values()))
    heights = np.ceil(first / max(first.max(), 1) * len(_BLOCKS)).astype(int)
    bars = "".join(" " if height == 0 else _BLOCKS[height - 1] for height in heights)
    low, high = _ends(histogram)
    if histogram.constant:
        return f"always {histogram.mean:.4g}"
    used = "" if histogram.used is None else f", {histogram.used:.0%} of the range"
    return f"{low:.4g} |{bars}| {high:.4g}, {histogram.mean:.3g} ± {histogram.std:.2g}{used}"


def _ends(histogram: Histogram) -> tuple[float, float]:
    edges = histogram.edges
    inward = 0.5 if edges[1] - edges[0] == 1 and edges[0] % 1 == 0.5 else 0.0
    return float(edges[0]) + inward, float(edges[-1]) - inward


def _streams(dataset: Dataset) -> list[str]:
    """Pictures, or curves, of the first episodes of what is learned from."""
    name = "train" if "train" in dataset.splits else next(iter(dataset.splits))
    episodes = dataset.split(name)
    few = episodes.padded(np.arange(min(_ROWS, len(episodes))), _STEPS)
    streams = dataset.observation_spec.streams
    arrays = to_numpy(few.observations)
    arrays = {streams[0].name: arrays} if len(streams) == 1 else arrays
    shown = []
    for stream in streams:
        values, said = arrays[stream.name], f"{stream.name}: {stream.describe()}"
        if stream.filmed:
            rows = html.strip(stream.picture(values), f"{said}, episodes in rows", _FRAMES)
            shown.append(page.paragraph(said) + rows)
            continue
        mask = few.frame_mask.numpy()[..., np.newaxis]
        curves = np.where(mask, stream.lines(values), np.nan)
        drawn = [html.lines(curves[..., i], f"[{i}]") for i in range(curves.shape[-1])[:_MOST]]
        shown.append(page.paragraph(said) + "\n".join(drawn))
    return shown


def _histograms(name: str, histograms: Sequence[Histogram]) -> list[str]:
    if not histograms:
        return [page.paragraph("There are none.")]
    rows = [
        (h.name, described(h).replace("|", ""), "constant" if h.constant else "")
        for h in histograms
    ]
    drawn = [_drawn(partial(_draw, histograms[:_MOST]), f"{name}, by how often they occur")]
    return [*drawn, html.table(("", "", ""), rows)]


def _draw(histograms: Sequence[Histogram], path: Path) -> Path:
    columns = min(3, len(histograms))
    rows = -(-len(histograms) // columns)
    fig = figure(3.0 * columns, 1.9 * rows)
    for i, histogram in enumerate(histograms):
        axes = fig.add_subplot(rows, columns, i + 1)
        for (split, found), colour in zip(histogram.counts.items(), SERIES * 9, strict=False):
            heights = found / max(found.sum(), 1)
            axes.stairs(heights, histogram.edges, color=colour, label=split, lw=1.2)
        dress(axes, histogram.name, "fraction" if i % columns == 0 else "")
        axes.set_ylim(0)
        if i == 0:
            legend(axes)
    return save(fig, path)


def _coverage(space: Map) -> list[str]:
    said = [
        f"{fraction:.0%} of the frames of {name} lie as near to a frame that is learned from as "
        "95 % of those lie to one of another episode"
        for name, fraction in space.covered.items()
    ]
    caption = "Frames of a sample in the plane of their two largest principal components"
    return [*(page.paragraph(told) for told in said), _drawn(partial(_scatter, space), caption)]


def _scatter(space: Map, path: Path) -> Path:
    fig = figure(5.6, 4.2)
    axes = fig.add_subplot()
    for i, ((name, points), colour) in enumerate(
        zip(space.points.items(), SERIES * 9, strict=False)
    ):
        shade = GREY if i == 0 else colour
        axes.plot(*points.T, ".", color=shade, ms=3, alpha=0.6, label=name)
    dress(axes, "first principal component", "second")
    legend(axes)
    return save(fig, path)


def _drawn(draw: Callable[[Path], Path], caption: str) -> str:
    with TemporaryDirectory() as folder:
        return page.picture(draw(Path(folder) / "figure.png"), caption)

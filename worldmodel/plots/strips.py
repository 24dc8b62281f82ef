"""Takes of the same episodes: what was, what the filter makes of it, what the model makes alone.

Every stream is shown as what it is: pictures as strips of frames, numbers as curves, indices and
switches as steps.

Source: Karl et al. 2017, figures 4c and 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from worldmodel.plots.imagination import STD_COLOURS, Imagination, pictures
from worldmodel.plots.lines import Lines
from worldmodel.plots.mosaic import Mosaic
from worldmodel.plots.style import figure, save
from worldmodel.spaces import ObservationSpace
from worldmodel.types import Batch, to_numpy
from worldmodel.world.artist import Artist
from worldmodel.world.world import World

_EPISODES = 4  # of an imagination in one picture; of curves one less
SHOWN_FRAMES = (1, 5, 10, 15, 20, 25, 30, 35, 40, 45)
_KEY = "standard deviation, as a fraction of full brightness"


@torch.no_grad()
def strips(
    world: World,
    batch: Batch,
    path: str | Path,
    filtered: int = 15,
    shown: Sequence[int] = SHOWN_FRAMES,
) -> Path:
    """Truth, reconstruction and generation of the same episodes (figures 4c and 7).

    Reconstructions filter all frames. Generated frames come from the initial state, inferred from
    the first ``filtered`` frames, and from the recorded actions alone, without process noise. A
    bar marks where training sequences end.

    Args:
        world: Of any model.
        batch: Episodes to show, three rows of frames each; fewer of them where there are several
            streams.
        path: PNG to write.
        filtered: Frames of a training sequence.
        shown: Numbers of the frames to show, from 1; those beyond the episodes are left out.
            Curves go on to the last of them.

    """
    model = world.model
    numbers = [n for n in shown if n <= batch.steps + 1]
    batch = batch.window(0, max(max(numbers) - 1, 1)).to(model.device)
    beliefs = model.filter_beliefs(batch.observations, batch.actions, filtered, batch.seen).mean
    dream = world.rollout(beliefs[:, 0], batch.actions)
    artist = Artist(world, beliefs.flatten(0, 1).cpu().numpy())
    takes = {
        "truth": artist.named(to_numpy(batch.observations)),
        "reconstructed": artist.named(world.decode(beliefs.cpu().numpy())),
        "generated": artist.named(world.decode(dream.cpu().numpy())),
    }
    cut = (filtered, f"training sequences end at frame {filtered}")
    space, index = artist.space, np.array(numbers) - 1
    recorded, rows = batch.span.cpu().numpy(), _rows(space, len(batch))
    blocks: list[Mosaic | Lines] = []
    for stream in space.filmed:
        films = {
            title: stream.picture(values[stream.name][:rows, index])
            for title, values in takes.items()
        }
        for film in films.values():
            film[~recorded[:rows, index]] = 0
        blocks.append(Mosaic(films, numbers, *cut, _named(artist, stream.name)))
    if space.plotted:
        blocks.append(Lines(space.plotted, _by_stream(takes), {}, recorded, filtered))
    return save(_stacked(blocks), path)


def imagination_strips(imagination: Imagination, path: str | Path, columns: int = 11) -> Path:
    """Real, filtered and imagined episodes, and how much the noisy dreams differ.

    A bar marks where the model goes on open loop.

    Args:
        imagination: Of pictures its first four episodes are shown, fewer if there are several
            streams; of numbers the first three.
        path: PNG to write.
        columns: How many frames to show, at even distances.
    """
    artist, space = imagination.artist, imagination.space
    index = np.linspace(0, imagination.recorded.shape[1] - 1, columns).round().astype(int)
    index = np.unique(index)
    cut = (imagination.looked, f"open loop after frame {imagination.looked}")
    key = (STD_COLOURS, _KEY) if imagination.noisy else None
    rows = _rows(space, _EPISODES)
    blocks: list[Mosaic | Lines] = []
    for stream in space.filmed:
        films = pictures(imagination, [stream])
        takes = {title: film[:rows, index] for title, film in films.items()}
        name = _named(artist, stream.name)
        blocks.append(Mosaic(takes, (index + 1).tolist(), *cut, name, key))
    if space.plotted:
        few = slice(_EPISODES - 1)
        lines = {
            title: {name: values[few] for name, values in take.items()}
            for title, take in imagination.takes.items()
        }
        dreams = {name: values[:, few] for name, values in imagination.dreams.items()}
        recorded = imagination.recorded[few]
        blocks.append(Lines(space.plotted, _by_stream(lines), dreams, recorded, imagination.looked))
    return save(_stacked(blocks), path)


def _named(artist: Artist, name: str) -> str:
    """Headline of a stream, if there are others."""
    if len(artist.space.streams) == 1:
        return ""
    return f"{name} ({artist.space[name].describe()})"


def _rows(space: ObservationSpace, episodes: int) -> int:
    """How many episodes of pictures are shown: fewer if there are other things to see."""
    return max(1, episodes // max(1, len(space.filmed) + bool(space.plotted)))


def _by_stream(takes: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    names = next(iter(takes.values()))
    return {name: {title: take[name] for title, take in takes.items()} for name in names}


def _stacked(blocks: Sequence[Mosaic | Lines]) -> Figure:
    """Below each other, as wide as the widest."""
    width, heights = max(block.width for block in blocks), [block.height for block in blocks]
    fig = figure(width, sum(heights))
    parts = fig.subfigures(len(blocks), 1, height_ratios=heights, squeeze=False)
    for block, part in zip(blocks, parts[:, 0], strict=True):
        block.draw(part, width)
    return fig

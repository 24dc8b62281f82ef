"""Every stream is in the figure, as what it is, at a size at which it can be read."""

import itertools
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from linear_model import LinearModel
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import AxesImage
from small import box, random_batch, with_fields

from worldmodel.plots import strips
from worldmodel.plots.imagination import imagine
from worldmodel.spaces import ObservationSpace
from worldmodel.types import to_numpy
from worldmodel.world.world import World

LOOKED, STEPS = 4, 10


def image(*shape):
    return Box(0, 255, shape, np.uint8)


ROBOT = Dict(
    {
        "arm": Dict({"joints": Box(-np.inf, np.inf, (8,)), "camera": image(20, 24, 3)}),
        "gripper": MultiBinary(2),
        "mode": Discrete(3, start=5),
        "wrist": image(4, 12, 14),
        "forces": Box(-np.inf, np.inf, (30,)),
    }
)
NAMES = [f"arm.joints {i}" for i in range(8)] + ["gripper 0", "gripper 1", "mode"]


def drawn(space: gym.Space, monkeypatch, figure: str = "imagination", episodes: int = 3):
    """The batch and the figure, laid out."""
    kept = []
    monkeypatch.setattr(strips, "save", lambda fig, path: kept.append(fig) or path)
    spec = ObservationSpace.from_space(space)
    batch = random_batch(spec, box(-1.0, 1.0), size=episodes, steps=STEPS)
    mask = batch.mask.clone()
    mask[0, 7:] = False
    batch = with_fields(batch, mask=mask)
    world = World(LinearModel(spec))
    if figure == "imagination":
        strips.imagination_strips(imagine(world, batch, LOOKED, dreams=3), Path("imagine.png"))
    else:
        strips.strips(world, batch, Path("strips.png"), LOOKED, shown=range(1, STEPS + 2))
    canvas = FigureCanvasAgg(kept[0])
    canvas.draw()
    return batch, kept[0]


def all_axes(fig):
    return [axes for part in fig.subfigs for axes in part.axes]


@pytest.mark.parametrize("figure", ["imagination", "strips"])
def test_every_stream_and_every_component_is_in_the_figure(figure, monkeypatch):
    _, fig = drawn(ROBOT, monkeypatch, figure)
    labels = {axes.get_ylabel().replace("\n", "") for axes in all_axes(fig)}
    assert labels >= set(NAMES)
    assert any(label.startswith("forces(30)") for label in labels)
    texts = [text.get_text() for axes in all_axes(fig) for text in axes.texts]
    assert "arm.camera (20 × 24 × 3 pixels)" in texts  # noqa: RUF001 (a sign of multiplication)
    assert "wrist (12 × 14 × 4 pixels)" in texts  # noqa: RUF001 (a sign of multiplication)


@pytest.mark.parametrize("figure", ["imagination", "strips"])
def test_lines_are_the_recorded_values_until_the_episode_ends(figure, monkeypatch):
    """An index is shown as the space counts it, from 5."""
    batch, fig = drawn(ROBOT, monkeypatch, figure)
    recorded, seen = to_numpy(batch.observations), {}
    for axes in all_axes(fig):
        if axes.lines and (name := axes.get_ylabel().replace("\n", "")) in NAMES:
            seen[name] = axes.lines[0], axes.lines[0].get_drawstyle()
    expected = {f"arm.joints {i}": recorded["arm.joints"][0, :, i] for i in range(8)}
    expected |= {f"gripper {i}": recorded["gripper"][0, :, i] for i in range(2)}
    expected["mode"] = 5 + recorded["mode"][0, :, 0]
    assert seen.keys() == expected.keys()
    for name, values in expected.items():
        line, style = seen[name]
        np.testing.assert_allclose(line.get_ydata()[:8], values[:8], rtol=1e-6)
        assert np.isnan(line.get_ydata()[8:]).all()
        assert style == ("default" if "joints" in name else "steps-mid")


def test_maps_hold_every_component(monkeypatch):
    batch, fig = drawn(ROBOT, monkeypatch)
    forces = to_numpy(batch.observations)["forces"]
    low, high = forces.min((0, 1)), forces.max((0, 1))
    (shown,) = (a for a in all_axes(fig) if a.get_ylabel() == "forces\n(30)\nreal")
    values = np.asarray(shown.get_images()[0].get_array())
    expected = (forces[0, :8] - low) / (high - low)
    np.testing.assert_allclose(values[:, :8], expected.T, atol=1e-5)


SPACES = {
    "camera": image(16, 16, 1),
    "two": Dict({"front": image(40, 60, 3), "wrist": image(12, 14)}),
    "robot": ROBOT,
    "flat": image(16, 100, 1),
    "tall": image(100, 16, 1),
    "stack": image(4, 20, 20),
    "float": Box(0, 1, (16, 16, 1), np.float32),
    "numbers": Box(-np.inf, np.inf, (8,)),
    "many": Box(-np.inf, np.inf, (30,)),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("figure", ["imagination", "strips"])
@pytest.mark.parametrize("episodes", [1, 3])
def test_frames_are_large_enough_and_words_do_not_collide(name, figure, episodes, monkeypatch):
    _, fig = drawn(SPACES[name], monkeypatch, figure, episodes)
    parts = [thing for part in fig.subfigs for thing in (*part.texts, *part.legends)]
    boxes = {thing: thing.get_window_extent() for thing in parts}
    for axes in all_axes(fig):
        # Titles, labels and whatever else is written, but for the ticks.
        written = [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        for text in written:
            if text.get_text() and text.get_visible():
                boxes[text] = text.get_window_extent()
        for shown in axes.get_children():
            if isinstance(shown, AxesImage):
                place = shown.get_window_extent()
                assert min(place.width, place.height) > 0.15 * fig.dpi
                assert place.width * place.height > 0.15 * fig.dpi**2
    page = fig.bbox
    for text, place in boxes.items():
        assert page.x0 <= place.x0 and place.x1 <= page.x1, text
        assert page.y0 <= place.y0 and place.y1 <= page.y1, text
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        assert not a.overlaps(b), (one, other)


def test_what_ended_is_dark_in_strips(monkeypatch):
    _, fig = drawn(image(16, 16, 1), monkeypatch, "strips")
    frames = [np.asarray(shown.get_array()) for shown in all_axes(fig)[0].get_images()]
    takes = np.stack(frames).reshape(3, 3, STEPS + 1, 16, 16, 3)
    assert (takes[0, :, 8:] == 0).all() and takes[0, 0, :8].max((1, 2, 3)).min() > 0
    assert (takes[1, 0].max((1, 2, 3)) > 0).all()

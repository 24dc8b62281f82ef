import numpy as np
import pytest
import torch
from PIL import Image

from worldmodel.errors import ShapeError, SpecError
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.types import ActionSpec, Batch, ObservationSpec
from worldmodel.viewer.film import dream_film, side_by_side, write_gif

SMALL = DVBFConfig(base_matrices=4, mixing_hidden=8, hidden=16, recurrent=8, head_hidden=8)


def read(path) -> tuple[np.ndarray, int]:
    """All frames of a GIF (T, height, width, 3), and a frame's time in ms."""
    with Image.open(path) as film:
        frames = []
        for t in range(film.n_frames):
            film.seek(t)
            frames.append(np.asarray(film.convert("RGB")))
        return np.stack(frames), film.info["duration"]


def moving_square(length: int) -> np.ndarray:
    frames = np.zeros((length, 20, 30, 3), np.uint8)
    for t in range(length):
        frames[t, 5:9, t : t + 4] = (250, 120, 10)
    return frames


def test_a_gif_has_the_frames_it_was_given(tmp_path):
    frames = moving_square(12)
    path = write_gif(frames, tmp_path / "new" / "film.gif", fps=20.0)
    film, duration = read(path)
    assert duration == 50
    np.testing.assert_allclose(film, frames, atol=8)
    assert [p.name for p in path.parent.iterdir()] == ["film.gif"]


def test_fewer_colours_bring_a_film_under_the_limit(tmp_path):
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    rich = write_gif(noisy, tmp_path / "rich.gif").stat().st_size
    poor = write_gif(noisy, tmp_path / "poor.gif", limit=rich * 2 // 3)
    assert poor.stat().st_size <= rich * 2 // 3
    assert len(read(poor)[0]) == 6


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((3, 4, 4, 1), np.uint8),
        np.zeros((3, 4, 4, 3)),
        np.zeros((0, 4, 4, 3), np.uint8),
        [],
    ],
)
def test_what_is_no_film_is_refused(frames, tmp_path):
    with pytest.raises(ShapeError, match="uint8"):
        write_gif(frames, tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())


def test_panels_are_enlarged_without_blur_and_stand_side_by_side():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (4, 5, 6, 1), dtype=np.uint8)
    colour = rng.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    film = side_by_side({"grey": grey, "colour": colour}, scale=20)
    assert film.shape[0] == 4 and film.shape[3] == 3 and film.dtype == np.uint8
    for panel, half in ((grey, film[:, :, : film.shape[2] // 2]), (colour, film[:, :, 130:])):
        large = np.broadcast_to(panel, (4, 5, 6, 3)).repeat(20, 1).repeat(20, 2)
        assert find(half, large), "the panel's pixels are not to be found as they are"


def find(film: np.ndarray, large: np.ndarray) -> bool:
    height, width = large.shape[1:3]
    return any(
        np.array_equal(film[:, y : y + height, x : x + width], large)
        for y in range(film.shape[1] - height + 1)
        for x in range(film.shape[2] - width + 1)
        if np.array_equal(film[0, y, x], large[0, 0, 0])
    )


def test_labels_stand_above_and_time_runs_below():
    blank = np.zeros((11, 8, 8, 1), np.uint8)
    film = side_by_side({"one": blank, "two": blank}, 12, fps=10.0)
    named = side_by_side({"one": blank, "other": blank}, 12, fps=10.0)
    assert (film[0, :34] != named[0, :34]).any() and film[0, :34].max() > 150
    assert (film[:, :-30] == film[:1, :-30]).all(), "only the footer changes"
    assert (film[0, -30:] != film[10, -30:]).any()
    captioned = side_by_side({"one": blank, "two": blank}, 12, captions=["dream"] * 11, fps=10.0)
    assert (captioned[0, -30:] != film[0, -30:]).any()


@pytest.mark.parametrize(
    "panels",
    [
        {},
        {"a": np.zeros((3, 4, 4, 1), np.uint8), "b": np.zeros((2, 4, 4, 1), np.uint8)},
        {"a": np.zeros((3, 4, 4, 2), np.uint8)},
        {"a": np.zeros((3, 4, 4, 1))},
    ],
)
def test_panels_that_do_not_fit_are_refused(panels):
    with pytest.raises(ShapeError):
        side_by_side(panels)


def test_captions_must_be_as_many_as_frames():
    with pytest.raises(ShapeError, match="2"):
        side_by_side({"a": np.zeros((3, 4, 4, 1), np.uint8)}, captions=["x", "y"])


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        torch.randint(0, 256, (2, 9, 8, 8, 1), dtype=torch.uint8, generator=generator),
        2 * torch.rand(2, 8, 1, generator=generator) - 1,
        torch.zeros(2, 8),
        torch.zeros(2, 8).bool(),
        torch.ones(2, 8).bool(),
    )


@pytest.fixture
def model() -> DVBF:
    return DVBF(SMALL, ObservationSpec((8, 8, 1), True), ActionSpec("box", (-1.0,), (1.0,)))


def test_the_imagined_column_stops_looking_after_the_filtered_frames(model, batch, tmp_path):
    """Other frames after the last one it may see change the real column, and not the dream."""
    changed = batch.observations.clone()
    changed[:, 5:] = 255 - changed[:, 5:]
    other = Batch(changed, batch.actions, batch.rewards, batch.terminated, batch.mask)
    films = []
    for i, episodes in enumerate((batch, other)):
        path = dream_film(model, episodes, tmp_path / f"{i}.gif", filtered=5, scale=20)
        films.append(read(path)[0].astype(int))
    assert len(films[0]) == 9
    third = films[0].shape[2] // 3
    difference = np.abs(films[0] - films[1])
    assert difference[:5].max() < 100, "palettes differ, pictures do not"
    assert difference[5:, :, :third].max() > 200
    assert difference[5:, :, 2 * third :].max() < 100


def test_a_film_shows_no_more_than_it_is_asked_for(model, batch, tmp_path):
    path = dream_film(model, batch, tmp_path / "dream.gif", filtered=3, steps=6)
    assert len(read(path)[0]) == 7


def test_a_film_without_anything_to_imagine_is_refused(model, batch, tmp_path):
    with pytest.raises(ShapeError, match="9"):
        dream_film(model, batch, tmp_path / "dream.gif", filtered=9)


def test_a_film_needs_pixels(model, batch, tmp_path):
    model.observation_spec = ObservationSpec((3,), False)
    with pytest.raises(SpecError, match="pixels"):
        dream_film(model, batch, tmp_path / "dream.gif", filtered=3)

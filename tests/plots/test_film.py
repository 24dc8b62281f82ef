import subprocess

import numpy as np
import pytest
from full_disk import files_no_larger_than
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from worldmodel.errors import ShapeError
from worldmodel.plots.film import ACCENT, side_by_side, write_gif, write_mp4


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


def test_an_mp4_has_the_frames_it_was_given(tmp_path):
    frames = moving_square(9)[:, :, :29]  # an odd width, which H.264 does not know
    path = write_mp4(frames, tmp_path / "new" / "film.mp4", fps=5.0)
    raw = ["-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    read_back = subprocess.run([get_ffmpeg_exe(), *raw], capture_output=True, check=True)
    film = np.frombuffer(read_back.stdout, np.uint8).reshape(-1, 20, 30, 3)
    assert b"5 fps" in read_back.stderr
    assert len(film) == 9
    assert np.abs(film[:, :, :29].astype(int) - frames).mean() < 12, "but for what H.264 loses"
    assert [p.name for p in path.parent.iterdir()] == ["film.mp4"]


def test_an_mp4_that_finds_no_room_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)
    with files_no_larger_than(4000), pytest.raises(OSError, match="of 30 frames"):
        write_mp4(noise, tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())


def test_rare_colours_survive_where_there_are_few(tmp_path):
    """A caption stays orange in a film of sixteen colours that is all greens."""
    rng = np.random.default_rng(0)
    film = np.zeros((4, 64, 64, 3), np.uint8)
    film[..., 1] = rng.integers(0, 256, (4, 64, 64))
    film[:, 5, 5] = ACCENT
    path = write_gif(film, tmp_path / "film.gif", limit=1)
    assert np.abs(read(path)[0][:, 5, 5].astype(int) - ACCENT).max() < 8

import numpy as np
from PIL import Image

from worldmodel.play import recorder as module
from worldmodel.play.recorder import Recorder


def picture(value: int) -> np.ndarray:
    return np.full((16, 16, 3), value, np.uint8)


def film(path) -> tuple[int, tuple[int, int]]:
    with Image.open(path) as image:
        return image.n_frames, image.size


def test_a_film_has_every_frame_and_its_reality(tmp_path):
    recorder = Recorder(tmp_path / "new", 10.0)
    assert recorder.seconds is None and recorder.add(picture(0), None) == ""
    assert recorder.toggle() == "recording a film"
    for t in range(12):
        recorder.add(picture(20 * t), picture(200))
    assert recorder.seconds == 1.2
    assert "film_1.gif" in recorder.toggle() and recorder.seconds is None
    assert recorder.close() == f"wrote {tmp_path / 'new' / 'film_1.gif'}"
    frames, size = film(tmp_path / "new" / "film_1.gif")
    assert frames == 12 and size[0] > 2 * 240


def test_a_film_partly_of_the_dream_alone_shows_the_dream_alone(tmp_path):
    recorder = Recorder(tmp_path, 10.0)
    recorder.toggle()
    recorder.add(picture(10), picture(200))
    recorder.add(picture(90), None)
    recorder.close()
    frames, size = film(tmp_path / "film_1.gif")
    assert frames == 2 and size[0] < 2 * 240


def test_names_are_never_used_twice(tmp_path):
    (tmp_path / "film_1.gif").write_bytes(b"mine")
    recorder = Recorder(tmp_path, 10.0)
    for _ in range(2):
        recorder.toggle()
        recorder.add(picture(10), None)
        recorder.toggle()
    recorder.screenshot(b"one")
    recorder.screenshot(b"two")
    recorder.close()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"film_{i}.gif" for i in (1, 2, 3)} | {f"screenshot_{i}.png" for i in (1, 2)}
    assert (tmp_path / "film_1.gif").read_bytes() == b"mine"


def test_a_film_ends_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LONGEST", 5)
    recorder = Recorder(tmp_path, 10.0)
    recorder.toggle()
    said = [recorder.add(picture(t), None) for t in range(5)]
    assert said[:4] == [""] * 4 and "writing" in said[4] and recorder.seconds is None
    recorder.close()
    assert film(tmp_path / "film_1.gif")[0] == 5


def test_an_empty_film_is_not_written(tmp_path):
    recorder = Recorder(tmp_path, 10.0)
    recorder.toggle()
    assert "nothing" in recorder.toggle()
    recorder.toggle()
    assert recorder.close() == "" and not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("no folder")
    recorder = Recorder(tmp_path / "file", 10.0)
    recorder.toggle()
    recorder.add(picture(1), None)
    recorder.toggle()
    assert "cannot write" in recorder.close()
    assert "cannot write" in recorder.screenshot(b"png")

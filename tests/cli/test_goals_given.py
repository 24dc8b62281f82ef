import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from small import SEVERAL, VECTOR, pixels

from worldmodel.cli.goals import read_observation
from worldmodel.errors import FileFormatError, ShapeError, SpecError
from worldmodel.spaces import ObservationSpace


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_becomes_an_observation_of_its_size_and_colours(tmp_path, channels):
    small = np.random.default_rng(0).integers(0, 255, (8, 6, 3), np.uint8)
    Image.fromarray(small.repeat(5, 0).repeat(5, 1)).save(tmp_path / "goal.png")
    seen = read_observation(tmp_path / "goal.png", pixels(8, 6, channels))
    assert seen.shape == (8, 6, channels) and seen.dtype == np.uint8
    if channels == 3:
        np.testing.assert_array_equal(seen, small)
    else:
        luma = small @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(seen[..., 0], luma, atol=1)


def test_the_only_stream_of_a_dictionary_is_given_as_it_is(tmp_path):
    """As what was imported from tables has it."""
    space = gym.spaces.Dict(frame=gym.spaces.Box(0, 255, (8, 6, 3), np.uint8))
    picture = np.random.default_rng(0).integers(0, 255, (8, 6, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "goal.png")
    np.save(tmp_path / "goal.npy", picture)
    for name in ("goal.png", "goal.npy"):
        seen = read_observation(tmp_path / name, ObservationSpace.from_space(space))
        assert seen in space
        np.testing.assert_array_equal(seen["frame"], picture)


def test_numbers_are_read_as_they_are(tmp_path):
    np.save(tmp_path / "goal.npy", np.float32([1, -2, 3]))
    np.testing.assert_array_equal(read_observation(tmp_path / "goal.npy", VECTOR), [1, -2, 3])


def test_what_is_no_observation_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "goal.png")
    stack = ObservationSpace.from_space(gym.spaces.Box(0, 255, (8, 8, 2), np.uint8))
    for space in (VECTOR, SEVERAL, stack):
        with pytest.raises(SpecError, match=r"goal\.png is a picture, observed is"):
            read_observation(tmp_path / "goal.png", space)
    np.save(tmp_path / "wrong.npy", np.zeros(5, np.float32))
    with pytest.raises(ShapeError):
        read_observation(tmp_path / "wrong.npy", VECTOR)
    np.save(tmp_path / "large.npy", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ShapeError, match=r"got an array \(64, 64, 3\) of uint8$"):
        read_observation(tmp_path / "large.npy", SEVERAL)
    for name in ("bad.npy", "bad.png"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(FileFormatError, match=name):
            read_observation(tmp_path / name, pixels(8, 8))
    with pytest.raises(FileNotFoundError):
        read_observation(tmp_path / "none.png", pixels(8, 8))

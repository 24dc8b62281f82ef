import numpy as np
import pytest
from scipy.spatial.distance import cdist

from envs.pendulum_rendering import BOB_RADIUS, LENGTH, ROD_RADIUS, Painter, draw_scene


def reference(angle, size, blur):
    """Coverage by the textbook signed distances to a capsule and a disc, in double precision."""
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    pixels = np.stack(np.meshgrid(axis, -axis), -1)
    tip = LENGTH * np.array([-np.sin(angle), np.cos(angle)])
    share = np.clip(pixels @ tip / (tip @ tip), 0, 1)
    rod = np.linalg.norm(pixels - share[..., None] * tip, axis=-1) - ROD_RADIUS
    bob = np.linalg.norm(pixels - tip, axis=-1) - BOB_RADIUS
    return 255 * np.clip(0.5 - np.minimum(rod, bob) * size / 2 / blur, 0, 1)


def circle(n):
    return np.linspace(-np.pi, np.pi, n, endpoint=False)


@pytest.mark.parametrize("blur", [1.0, 2.5, 4.0])
@pytest.mark.parametrize("size", [8, 15, 16, 33, 64])
def test_equals_the_textbook_distances(size, blur):
    angles = np.concatenate([circle(37), [0.0, np.pi / 2, np.pi, -np.pi / 2]])
    expected = np.stack([reference(angle, size, blur) for angle in angles])
    drawn = Painter(size, 7, blur).draw(angles)[..., 0].astype(float)
    assert np.abs(drawn - expected).max() < 1.5


def test_shape_and_range():
    frames = Painter(16, 5).draw(circle(5))
    assert frames.shape == (5, 16, 16, 1)
    assert frames.dtype == np.uint8
    assert frames.max() > 240
    assert frames.min() == 0


def test_quarter_turns_rotate_the_picture():
    angles = np.array([0.3, 1.1, -2.0])
    for size in (16, 17):
        painter = Painter(size, 3)
        turned = painter.draw(angles + np.pi / 2)
        rotated = np.rot90(painter.draw(angles), axes=(1, 2))
        assert np.abs(turned.astype(int) - rotated).max() <= 1


def test_positive_angles_turn_counterclockwise():
    up, left = Painter(16, 2).draw(np.array([0.0, np.pi / 2]))[..., 0].astype(float)
    assert up[:8].sum() > 4 * up[8:].sum()
    assert left[:, :8].sum() > 4 * left[:, 8:].sum()


def test_mirrored_angles_give_mirrored_pictures():
    angles = circle(12) + 0.1
    painter = Painter(16, 12)
    np.testing.assert_array_equal(painter.draw(-angles), painter.draw(angles)[:, :, ::-1])


def test_nothing_is_cut_off_and_brightness_hardly_depends_on_the_angle():
    for size in (16, 64):
        total = Painter(size, 360).draw(circle(360)).astype(float).sum((1, 2, 3))
        assert np.ptp(total) < 0.05 * total.mean()


def test_picture_moves_smoothly_with_the_angle():
    step = 2 * np.pi / 3600
    frames = Painter(16, 3600).draw(circle(3600)).astype(float)
    change = np.abs(np.roll(frames, -1, 0) - frames)
    tip_moves = step * (LENGTH + BOB_RADIUS) * 8  # pixels; a pixel's edge moves no further
    assert change.max() <= 255 * tip_moves + 1
    total = change.sum((1, 2, 3))
    assert total.min() > 0.3 * total.mean()


def test_angles_are_told_apart():
    frames = Painter(16, 360).draw(circle(360)).reshape(360, -1).astype(float)
    distance = cdist(frames, frames, "cityblock") / 256
    separation = np.abs((circle(360)[:, None] - circle(360) + np.pi) % (2 * np.pi) - np.pi)
    assert distance[separation > 0.5].min() > distance[separation < 0.1].max()
    # One degree already shows: several grey levels in all.
    assert distance[np.arange(360), np.arange(360) - 1].min() * 256 > 20


def test_the_angle_can_be_read_from_the_pixels():
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, 500)
    weights = Painter(16, 500).draw(angles)[..., 0].astype(float)
    axis = np.arange(16) - 7.5
    read = np.arctan2(-(weights.sum(1) @ axis), -(weights.sum(2) @ axis))
    error = np.angle(np.exp(1j * (read - angles)))
    assert np.sqrt((error**2).mean()) < np.radians(1.0)


def test_a_picture_does_not_depend_on_its_company():
    angles = np.random.default_rng(1).uniform(-np.pi, np.pi, 1500)
    many = Painter(16, 1500).draw(angles)
    single = Painter(16)
    for i in (0, 1, 511, 512, 1027, 1499):
        np.testing.assert_array_equal(single.draw(angles[i : i + 1])[0], many[i])
    np.testing.assert_array_equal(Painter(16, 3).draw(angles), many)


def test_pictures_are_fresh():
    painter = Painter(16)
    first = painter.draw(np.zeros(1))
    kept = first.copy()
    painter.draw(np.ones(1))
    np.testing.assert_array_equal(first, kept)


def test_scene_turns_the_arrow_with_the_torque():
    angles, torque = np.full(3, np.pi / 2), np.array([1.0, -1.0, 0.0])
    frames = draw_scene(angles, torque, 128).astype(int)
    orange = (frames[..., 0] > 200) & (frames[..., 2] < 100)
    # The rod points left: counterclockwise is down.
    assert orange[0, 64:].sum() > 20 * max(1, orange[0, :64].sum())
    assert orange[1, :64].sum() > 20 * max(1, orange[1, 64:].sum())
    assert not orange[2].any()


def test_scene_shows_the_same_pendulum():
    angles = circle(8) + 0.2
    scene = draw_scene(angles, np.zeros(8), 64).astype(float).mean(-1)
    grey = Painter(64, 8).draw(angles)[..., 0]
    bright = scene > 150
    assert np.mean(bright == (grey > 150)) > 0.99

"""Clouds are looked at from where their shape shows, however few or flat they are."""

import numpy as np
import pytest

from worldmodel.plots.latent_plots import viewpoint


@pytest.mark.parametrize("count", [1, 2, 3, 500])
def test_some_direction_is_found_of_however_few_points(count):
    eye = viewpoint(np.random.default_rng(0).normal(size=(count, 3)))
    assert eye.shape == (3,) and eye[2] >= 0
    assert np.linalg.norm(eye) == pytest.approx(np.sqrt(1 + 0.55**2 + 0.35**2))


def test_a_plane_shows_its_face():
    points = np.random.default_rng(0).normal(size=(500, 3)) * np.array([3, 2, 1])
    points[:, 2] = 7.0
    across = viewpoint(points)
    assert across[2] == pytest.approx(1)

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from worldmodel.errors import ShapeError
from worldmodel.evaluation.evaluate import Evaluation
from worldmodel.evaluation.identification import regress
from worldmodel.plots.ball_plots import FIELDS, VARIABLES, checkerboard, fields, palette


def made(mix: np.ndarray) -> Evaluation:
    """An evaluation whose latents are a linear map of true states and a little noise."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (600, 4)) * [1, 1, 3, 3]
    latents = states @ mix + 0.05 * rng.normal(size=(600, 4)) @ mix
    fit = regress(latents, states)
    return Evaluation(
        {"r2": dict(zip(VARIABLES, fit.r2.tolist(), strict=True))},
        15,
        latents,
        dict(zip(VARIABLES, states.T, strict=True)),
        dict(zip(VARIABLES, fit.prediction.T, strict=True)),
    )


def draw(evaluation: Evaluation, path) -> np.ndarray:
    with Image.open(checkerboard(evaluation, path)) as image:
        return np.asarray(image.convert("RGB")).astype(float)


def panel(picture: np.ndarray) -> np.ndarray:
    """The checkerboard's points, without its axes and what stands around them."""
    height, width, _ = picture.shape
    return picture[int(0.1 * height) : int(0.85 * height), int(0.04 * width) : int(0.24 * width)]


def test_the_fields_are_thirds_of_the_box():
    values = np.array([-1.0, -0.34, -0.33, 0.0, 0.33, 0.34, 1.0, -1.5, 1.5])
    assert fields(values, -1.0, 1.0).tolist() == [0, 0, 1, 1, 1, 2, 2, 0, 2]
    assert fields(np.ones(2), 1.0, 1.0).tolist() == [0, 0], "a ball that never moves"


def test_every_field_has_a_colour_of_its_own():
    colours = palette().reshape(-1, 3)
    assert len(colours) == FIELDS**2
    assert 0 <= colours.min() and colours.max() <= 1
    assert min(np.abs(a - b).max() for a, b in combinations(colours, 2)) > 0.12


def test_the_box_is_found_however_the_latent_space_is_turned(tmp_path):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    straight = draw(made(np.eye(4)), tmp_path / "straight.png")
    turned = draw(made(turn), tmp_path / "turned.png")
    assert straight.std() > 5
    assert np.abs(straight - turned).mean() < 0.1


def test_columns_and_rows_of_the_box_are_where_they_are_in_truth(tmp_path):
    points = panel(draw(made(np.eye(4)), tmp_path / "box.png"))
    rows, columns = points.shape[0] // 3, points.shape[1] // 3
    for (i, k), _ in np.ndenumerate(palette()[..., 0]):
        tile = points[points.shape[0] - (k + 1) * rows :][:rows, i * columns :][:, :columns]
        inner = tile[rows // 4 : -rows // 4, columns // 4 : -columns // 4].reshape(-1, 3)
        inked, counts = np.unique(inner[inner.min(1) < 250], axis=0, return_counts=True)
        most = inked[counts.argmax()]
        np.testing.assert_allclose(most, 255 * palette()[i, k], atol=1)


def test_a_stretched_box_is_drawn_stretched(tmp_path):
    """Latents are drawn as they are, not as the regression straightens them."""
    points = panel(draw(made(np.diag([1.0, 0.3, 1.0, 1.0])), tmp_path / "flat.png"))
    inked = np.argwhere(points.min(-1) < 250)
    height, width = np.ptp(inked, 0)
    assert height / width == pytest.approx(0.3, abs=0.08)


def test_other_variables_or_a_line_are_refused(tmp_path):
    ball = made(np.eye(4))
    other = replace(ball, truth={"sin": ball.truth["x"]})
    with pytest.raises(ShapeError, match="'sin'"):
        checkerboard(other, tmp_path / "no.png")
    with pytest.raises(ShapeError, match=r"\(600, 1\)"):
        checkerboard(replace(ball, latents=ball.latents[:, :1]), tmp_path / "no.png")
    assert not list(tmp_path.iterdir())

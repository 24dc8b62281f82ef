import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from worldmodel import html
from worldmodel.errors import ShapeError
from worldmodel.plots import page
from worldmodel.plots.space import latent_space_plot


def shown(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text.partition("base64,")[2].partition('"')[0])))


def test_a_film_is_kept_without_loss():
    film = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3), dtype=np.uint8)
    found = shown(html.film(film, 5.0, "noise", 10**6))
    assert found.n_frames == 5
    for t in range(5):
        found.seek(t)
        np.testing.assert_array_equal(np.asarray(found.convert("RGB")), film[t])
    assert found.info["duration"] == 200


def test_a_film_that_is_too_large_loses_as_much_as_it_must():
    film = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    whole, limited = (html.film(film, 10.0, "noise", limit) for limit in (10**6, 12_000))
    assert len(limited) * 3 / 4 < 12_200 < len(whole) * 3 / 4


def test_text_is_text():
    found = page.section("<b>", html.table(["a", "<i>"], [["&", "1"]]), page.details("x", "</pre>"))
    assert "<b>" not in found and "<i>" not in found
    assert "&amp;" in found and "&lt;/pre&gt;" in found


@pytest.mark.parametrize(("shape", "variables"), [((9, 1), ["a"]), ((9, 4), ["a"]), ((9, 3), [])])
def test_what_cannot_be_plotted_is_refused(shape, variables):
    values = dict.fromkeys(variables, np.zeros(9))
    with pytest.raises(ShapeError, match=r"two or three"):
        latent_space_plot(np.zeros(shape), ["x"] * shape[1], values)


def test_two_dimensions_are_a_flat_plot():
    found = latent_space_plot(np.eye(2), ["one", "two"], {"reward": np.arange(2.0)})
    assert '"scattergl"' in found and '"scatter3d"' not in found.partition('id="plotly"')[0]


def test_lines_of_a_range_that_float32_cannot_hold():
    plain = html.lines(np.float32([[-3, 0, 3]]), "reward")
    wide = html.lines(np.float32([[-3e38, 0, 3e38]]), "reward")
    assert re.findall('points="[^"]*"', wide) == re.findall('points="[^"]*"', plain)

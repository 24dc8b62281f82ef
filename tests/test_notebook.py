"""What models, data and rollouts show of themselves in a notebook."""

import base64
import io

import gymnasium as gym
import numpy as np
import pytest
from linear_model import LinearModel
from PIL import Image
from small import (
    BOX,
    DISCRETE,
    PIXELS,
    SEVERAL,
    VECTOR,
    as_dataset,
    box,
    random_batch,
    random_dataset,
    small_model,
    with_fields,
)

import worldmodel
from agents.rollout import Rollout
from worldmodel import html
from worldmodel.plots.imagination import imagine
from worldmodel.spaces import ObservationSpace
from worldmodel.world.world import World

LIMIT = 220_000  # bytes of one cell


def picture(shown: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(shown.partition("base64,")[2].partition('"')[0])))


def acted(rewards, mask) -> Rollout:
    rewards, mask = np.asarray(rewards, float), np.asarray(mask, bool)
    frames = np.zeros((len(rewards), rewards.shape[1] + 1, 2))
    return Rollout(frames, frames[:, 1:], rewards * mask, mask, ~mask[:, -1], None)


def test_a_bundled_model_shows_what_it_is_and_what_it_dreams():
    shown = worldmodel.load("ball")._repr_html_()
    for fact in (
        "DVBF",
        "140,325",
        "16 × 16 × 1 pixels",  # noqa: RUF001 (a sign of multiplication)
        "2 numbers from -0.25 to 0.25",
        "BouncingBall-v0",
    ):
        assert fact in shown
    film = picture(shown)
    assert film.n_frames > 30 and film.height == 64 and film.width > 6 * 64
    assert len(shown) < LIMIT


def test_showing_a_model_changes_nothing():
    world = worldmodel.load("pendulum")
    first = world._repr_html_()
    np.random.default_rng(0)
    assert world._repr_html_() == first
    assert not world.model.training


@pytest.mark.parametrize("actions", [BOX, DISCRETE])
@pytest.mark.parametrize("observations", [PIXELS, VECTOR, SEVERAL])
@pytest.mark.parametrize("name", ["dvbf", "dkf"])
def test_untrained_models_show_what_they_can(name, observations, actions):
    shown = World(small_model(name, observations, actions))._repr_html_()
    assert name.upper() in shown and "<img" in shown
    assert "unknown" in shown


def test_a_dataset_shows_its_splits_and_some_episodes():
    shown = random_dataset(PIXELS, BOX)._repr_html_()
    for word in ("Test-v0", "train", "validation", "12", "84", "from (-2, 0) to (2, 1)"):
        assert word in shown
    assert "<img" in shown and "<img" not in random_dataset(VECTOR, DISCRETE)._repr_html_()


def test_actions_of_one_component_need_no_brackets():
    assert box(-5.0, 5.0).describe() == "from -5 to 5"


def test_a_strip_holds_the_frames_as_they_are():
    batch = random_batch(PIXELS, size=5, steps=6)
    strip = np.asarray(picture(batch._repr_html_()).convert("RGB"))
    for episode in range(3):
        for t in range(7):
            y, x = episode * 66, t * 66  # eight pixels enlarged to 64, and a line of two
            tile = strip[y : y + 64 : 8, x : x + 64 : 8]
            np.testing.assert_array_equal(tile[..., :1], batch.observations[episode, t])
    assert "7 × 8 × 8 × 1" in batch._repr_html_()  # noqa: RUF001 (a sign of multiplication)
    numbers = with_fields(batch, observations=batch.rewards.new_zeros(5, 7, 3))._repr_html_()
    assert "<img" not in numbers and "3 numbers" in numbers


@pytest.mark.parametrize(
    ("shape", "dtype", "white"),
    [((4, 8, 8), np.uint8, 255), ((8, 8, 3), np.float32, 1), ((8, 8), np.uint8, 255)],
)
def test_stacks_and_float_pictures_are_shown_as_pictures(shape, dtype, white):
    """Of a stack the last frame; from black to white, whatever the numbers."""
    space = ObservationSpace.from_space(gym.spaces.Box(0, white, shape, dtype))
    batch = random_batch(space, BOX, size=1, steps=2)
    last = batch.observations[0, 1].numpy() / white
    last = last if last.shape[-1] == 3 else last[..., -1:].repeat(3, -1)
    for shown in (batch, as_dataset(space, BOX, train=batch)):
        strip = np.asarray(picture(shown._repr_html_()).convert("RGB"))
        np.testing.assert_allclose(strip[:64:8, 66:130:8] / 255, last, atol=0.5 / 255)


def test_a_batch_says_what_each_stream_is():
    shown = random_batch(SEVERAL, BOX)._repr_html_()
    for what in ("8 × 8 × 1 pixels", "2 numbers", "one of 3"):  # noqa: RUF001 (a sign of multiplication)
        assert what in shown


def test_an_imagination_runs_and_says_when_it_is_open_loop():
    batch = random_batch(PIXELS, BOX, size=4, steps=9)
    shown = imagine(World(small_model("dvbf", PIXELS)), batch, 4, dreams=3)
    film = picture(shown._repr_html_())
    assert film.n_frames == 10 and (film.width, film.height) == (6 * 66 - 2, 3 * 66 - 2)
    assert "after frame 4" in shown._repr_html_() and "std of 3" in shown._repr_html_()
    vectors = imagine(World(small_model("dvbf")), random_batch(), 4)._repr_html_()
    assert "open loop after frame 4" in vectors and picture(vectors).n_frames == 7


def test_a_rollout_shows_returns_and_rewards_until_the_end():
    run = acted([[1, 2, 3, 4], [-1, 5, 0, 0]], [[1, 1, 1, 1], [1, 1, 0, 0]])
    shown = run._repr_html_()
    assert "7 ± 3" in shown and "50%" in shown, "returns 10 and 4; one of two ended by itself"
    lines = [part.partition('"')[0].split() for part in shown.split('points="')[1:]]
    assert [len(points) for points in lines] == [4, 2]
    assert ">5<" in shown and ">-1<" in shown, "the range of the rewards"
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert heights == sorted(heights, reverse=True), "more reward is higher up"


def test_all_that_is_shown_is_small_in_a_terminal_too():
    for thing in (
        random_batch(),
        random_dataset(),
        imagine(
            World(LinearModel()),
            random_batch(LinearModel().observation_spec, LinearModel().action_spec),
            3,
        ),
    ):
        assert len(repr(thing)) < 2000 and "tensor(" not in repr(thing)


def test_tables_hold_text_and_not_markup():
    assert "<i>" not in html.table(("a", "<i>"), [("&", "<i>")])

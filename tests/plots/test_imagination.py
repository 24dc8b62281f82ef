import numpy as np
import pytest
import torch
from linear_model import LinearModel
from matplotlib import colormaps
from PIL import Image
from small import SEVERAL, box, pixels, random_batch, vector, with_fields

from worldmodel.errors import ShapeError
from worldmodel.plots.imagination import Imagination, imagine, pictures
from worldmodel.plots.strips import imagination_strips
from worldmodel.types import Batch
from worldmodel.world.artist import Artist
from worldmodel.world.world import World

VECTOR, PIXELS = vector(2), pixels(4, 4)
KEY = "observation"  # the only stream


def episodes(spec, size=3, steps=10) -> Batch:
    g = torch.Generator().manual_seed(0)
    frames = torch.rand((size, steps + 1, *spec[KEY].shape), generator=g)
    return Batch(
        (255 * frames).to(torch.uint8) if spec.filmed else frames,
        2 * torch.rand(size, steps, 1, generator=g) - 1,
        torch.zeros(size, steps),
        torch.zeros(size, steps).bool(),
        torch.ones(size, steps).bool(),
    )


def test_imagined_frames_follow_the_dynamics_from_the_last_frame_seen():
    model, batch = LinearModel(VECTOR), episodes(VECTOR)
    shown = imagine(World(model), batch, looked=4)
    imagined, filtered = shown.imagined[KEY], shown.filtered[KEY]
    np.testing.assert_array_equal(imagined[:, :4], filtered[:, :4])
    turn, push = model.F.detach().numpy(), model.B.numpy()
    state = 4 * (filtered[:, 3] - 0.5)  # the emission is z / 4 + 0.5
    for t in range(3, 10):
        state = state @ turn.T + batch.actions[:, t].numpy() @ push
        np.testing.assert_allclose(imagined[:, t + 1], state / 4 + 0.5, atol=1e-5)


def test_dreams_spread_as_the_noise_adds_up():
    """Turned isotropic covariances stay isotropic: the variances just add up."""
    model, batch, looked = LinearModel(VECTOR), episodes(VECTOR, size=2), 3
    shown = imagine(World(model), batch, looked, dreams=4000, seed=1)
    spread = shown.dreams[KEY].std(0)
    assert (spread[:, :looked] < 1e-4).all(), "nothing is imagined yet"
    scale = 0.5
    for _ in range(looked - 1):
        scale = 0.5 * scale + 0.1
    for k in range(1, 8):
        expected = np.sqrt(scale**2 + 0.01 * k) / 4
        np.testing.assert_allclose(spread[:, looked - 1 + k], expected, rtol=0.06)


def test_nothing_is_filtered_past_the_frames_that_may_be_seen():
    model, batch = LinearModel(PIXELS), episodes(PIXELS)
    changed = batch.observations.clone()
    changed[:, 5:] = 255 - changed[:, 5:]
    one = imagine(World(model), batch, 5, dreams=3)
    other = imagine(World(model), with_fields(batch, observations=changed), 5, dreams=3)
    np.testing.assert_array_equal(one.imagined[KEY], other.imagined[KEY])
    np.testing.assert_array_equal(one.dreams[KEY], other.dreams[KEY])
    assert (one.filtered[KEY][:, 5:] != other.filtered[KEY][:, 5:]).any()


def test_seeds_make_dreams_repeat_and_differ():
    model, batch = LinearModel(VECTOR), episodes(VECTOR)
    one, same, other = (
        imagine(World(model), batch, 4, dreams=2, seed=s).dreams[KEY] for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one[:, :, 4:] != other[:, :, 4:]).all()
    assert (one[0, :, 4:] != one[1, :, 4:]).all(), "dreams differ from each other"


@pytest.mark.parametrize("looked", [0, 11, 12])
def test_there_must_be_something_to_see_and_to_imagine(looked):
    with pytest.raises(ShapeError, match=str(looked)):
        imagine(World(LinearModel(VECTOR)), episodes(VECTOR), looked)


def test_padding_is_cut_off_and_what_ended_goes_dark():
    batch = episodes(PIXELS, size=2)
    mask = batch.mask.clone()
    mask[0, 6:] = mask[1, 8:] = False
    shown = imagine(World(LinearModel(PIXELS)), with_fields(batch, mask=mask), 4, dreams=2)
    assert shown.real[KEY].shape[1] == 9
    for film in pictures(shown).values():
        assert (film[0, 7:] == 0).all() and (film[1].max((1, 2, 3)) > 0).all()


def by_hand(dreams) -> Imagination:
    """Of one frame, whose last row of pixels is given."""
    pictures = np.zeros((len(dreams), 1, 1, 4, 4, 1), np.uint8)
    pictures[:, 0, 0, 3, :, 0] = dreams
    still = {KEY: np.zeros_like(pictures[0])}
    artist = Artist(World(LinearModel(PIXELS)))
    recorded = np.ones((1, 1), np.bool_)
    return Imagination(still, still, still, {KEY: pictures}, 1, recorded, artist)


def test_the_std_is_coloured_from_none_to_the_maximum():
    """Two dreams: both black, one at half brightness, one white."""
    shown = by_hand([[0, 0, 0, 0], [0, 127, 255, 255]])
    film = pictures(shown)["std of 2"][0, 0, 3]
    expected = colormaps["viridis"]([0.0, 0.5, 1.0, 1.0], bytes=True)[:, :3]
    np.testing.assert_allclose(film, expected, atol=3)


def test_vectors_are_pictures_of_bars():
    films = pictures(imagine(World(LinearModel(VECTOR)), episodes(VECTOR), 4, dreams=2))
    shapes = {film.shape for film in films.values()}
    assert len(shapes) == 1 and shapes.pop()[:2] == (3, 11)
    assert (films["real"] != films["imagined"]).any()


def test_streams_stand_side_by_side():
    """Pictures as they are; beside them bars of all that is numbers or indices."""
    batch = random_batch(SEVERAL, box(-1.0, 1.0))
    shown = imagine(World(LinearModel(SEVERAL)), batch, 4)
    assert set(shown.real) == {"camera", "joints", "gear"}
    film = pictures(shown)["real"]
    camera, width = shown.real["camera"], film.shape[3]
    factor = max(1, film.shape[2] // 8)
    large = camera.repeat(factor, 2).repeat(factor, 3).repeat(3, 4)
    places = [
        x
        for x in range(width - 8 * factor + 1)
        if np.array_equal(film[:, :, : 8 * factor, x : x + 8 * factor], large)
    ]
    assert len(places) == 1


@pytest.mark.parametrize("spec", [PIXELS, VECTOR, vector(30), SEVERAL])
@pytest.mark.parametrize("dreams", [0, 3])
def test_it_is_drawn_without_touching_the_edge(spec, dreams, tmp_path):
    batch = random_batch(spec, box(-1.0, 1.0), size=6, steps=10)
    shown = imagine(World(LinearModel(spec)), batch, 4, dreams)
    with Image.open(imagination_strips(shown, tmp_path / "imagine.png")) as image:
        picture = np.asarray(image.convert("RGB"))
    edge = np.concatenate([picture[[0, -1]].reshape(-1, 3), picture[:, [0, -1]].reshape(-1, 3)])
    assert (edge == 255).all() and picture.std() > 5

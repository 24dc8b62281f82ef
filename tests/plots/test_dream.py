import numpy as np
import pytest
from linear_model import LinearModel
from small import pixels, vector

from worldmodel.plots.dream import dream_film
from worldmodel.plots.imagination import Imagination
from worldmodel.world.artist import Artist
from worldmodel.world.world import World


def random_imagination(episodes, dreams=0, steps=5, side=6) -> Imagination:
    rng = np.random.default_rng(0)

    def frames(*lead):
        shape = (*lead, episodes, steps, side, side, 1)
        return {"observation": rng.integers(0, 256, shape, dtype=np.uint8)}

    recorded = np.ones((episodes, steps), np.bool_)
    artist = Artist(World(LinearModel(pixels(side, side))))
    return Imagination(frames(), frames(), frames(), frames(dreams), 2, recorded, artist)


def contains(film, picture) -> bool:
    """Whether a picture, enlarged by some whole factor, is part of a film's frame."""
    for scale in range(1, 11):
        large = picture.repeat(scale, 0).repeat(scale, 1).repeat(3 // picture.shape[2], 2)
        height, width = large.shape[:2]
        rows, columns = film.shape[0] - height + 1, film.shape[1] - width + 1
        if min(rows, columns) < 1:
            continue
        # A look at a few pixels of each place spares comparing all of them.
        places = np.argwhere((film[:rows, :columns] == large[0, 0]).all(-1))
        for y, x in np.random.default_rng(0).integers((height, width), size=(40, 2)):
            seen = film[places[:, 0] + y, places[:, 1] + x]
            places = places[(seen == large[y, x]).all(-1)]
        for y, x in places:
            if np.array_equal(film[y : y + height, x : x + width], large):
                return True
    return False


@pytest.mark.parametrize(("episodes", "dreams"), [(1, 0), (3, 2), (7, 3)])
def test_every_episode_is_somewhere_in_every_panel(episodes, dreams):
    shown = random_imagination(episodes, dreams)
    film = dream_film(shown)
    assert len(film) == 5
    kinds = [stream["observation"] for stream in (shown.real, shown.filtered, shown.imagined)]
    for kind in [*kinds, *shown.dreams["observation"][:2]]:
        assert all(contains(film[3], kind[e, 3]) for e in range(episodes))


def test_the_std_takes_a_panel_of_its_own():
    few, more = (dream_film(random_imagination(2, dreams)).shape[2] for dreams in (0, 3))
    assert more > 1.7 * few


def test_the_footer_says_when_it_is_open_loop():
    film = dream_film(random_imagination(1))
    caption = film[:, -30:-8, film.shape[2] // 2 :]
    assert (caption[0] == caption[1]).all() and (caption[2] == caption[4]).all()
    assert (caption[1] != caption[2]).any()


def test_vectors_are_filmed_as_bars():
    rng = np.random.default_rng(0)
    real, other = ({"observation": rng.normal(size=(1, 5, 3))} for _ in range(2))
    dreams = {"observation": rng.normal(size=(2, 1, 5, 3))}
    artist = Artist(World(LinearModel(vector(3))))
    recorded = np.ones((1, 5), np.bool_)
    film = dream_film(Imagination(real, real, other, dreams, 2, recorded, artist))
    assert len(film) == 5 and film.dtype == np.uint8
    for drawn in (artist(real)[0], artist(other)[0], artist(dreams)[1, 0]):
        assert contains(film[3], drawn[3])

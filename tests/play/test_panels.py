import numpy as np
import pygame
import pytest
from linear_model import LinearModel, fit_support

from worldmodel.play.cloud import Cloud, Space
from worldmodel.play.layout import lay_out
from worldmodel.play.panels import Line, Trace, paint_frame, paint_help, paint_trace, paint_words
from worldmodel.play.pen import DREAM, PANEL, REAL, Pen
from worldmodel.plots.artist import Artist
from worldmodel.plots.film import TEXT
from worldmodel.types import ObservationSpec


@pytest.fixture
def pen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    pygame.display.set_mode((64, 64))
    pygame.font.init()
    yield Pen()
    pygame.quit()


def pixels(surface: pygame.Surface) -> np.ndarray:
    """(height, width, 3)."""
    return pygame.surfarray.array3d(surface).swapaxes(0, 1)


def where(surface: pygame.Surface, colour) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero((pixels(surface) == colour).all(-1))


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("width", [160, 480, 640, 1280, 2560])
@pytest.mark.parametrize("height", [160, 300, 480, 720, 1440])
def test_panels_neither_overlap_nor_leave_the_window(width, height, frames):
    layout = lay_out((width, height), frames)
    places = [layout.head, layout.foot, *layout.frames, *layout.traces]
    places += [layout.cloud] if layout.cloud else []
    window = pygame.Rect(0, 0, width, height)
    assert len(layout.frames) == frames
    assert all(window.contains(place) and place.width and place.height for place in places)
    assert all(place.collidelist(places[i + 1 :]) < 0 for i, place in enumerate(places))
    over = layout.inner(760, 560)
    roomy = width >= 760 and height >= 34 + 560 + 28
    grown = round(760 * layout.scale), round(560 * layout.scale)
    assert over == window or (roomy and over.size == grown)
    assert layout.scale == (2 if (width, height) == (2560, 1440) else 1)
    assert over == window or over.collidelist([layout.head, layout.foot]) < 0, "no words are cut"
    assert (over == window) is not roomy
    if width >= 640 and height >= 480:
        assert layout.cloud and len(layout.traces) == 3
        assert min(min(place.size) for place in layout.frames) >= 150


@pytest.mark.parametrize(("size", "factor"), [((300, 340), 17), ((120, 400), 6), ((30, 40), 0)])
def test_a_frame_is_enlarged_by_a_whole_number(pen, size, factor):
    picture = np.random.default_rng(0).integers(0, 200, (16, 16, 3), dtype=np.uint8)
    surface = pygame.Surface(size)
    paint_frame(pen, surface, picture, "", "", (255, 0, 255))
    rows, columns = where(surface, (255, 0, 255))
    inside = pixels(surface)[rows.min() + 2 : rows.max() - 1, columns.min() + 2 : columns.max() - 1]
    if factor:
        np.testing.assert_array_equal(inside, picture.repeat(factor, 0).repeat(factor, 1))
    else:
        assert max(inside.shape) < 16


def test_a_trace_runs_to_the_present_at_its_height(pen):
    surface = pygame.Surface((400, 200))
    values = np.full(50, 3.0)
    paint_trace(
        pen, surface, Trace("t", [Line("", values, REAL)], 0.0, 4.0, (0.0, 2.0, 4.0), 100, 10.0)
    )
    rows, columns = where(surface.subsurface((0, 30, 400, 170)), REAL)
    assert columns.max() >= 387, "it ends at the right"
    assert 190 < columns.min() < 215, "half of the steps fill half of the width"
    low, high = rows.min(), rows.max()
    assert high - low < 4
    marks, _ = where(surface.subsurface((0, 30, 400, 170)), (62, 68, 80))
    zero, four = marks.max(), marks.min()
    assert (zero - (low + high) / 2) / (zero - four) == pytest.approx(0.75, abs=0.02)


def test_the_latest_values_stand_in_the_order_of_the_lines_and_zero_has_no_sign(pen, monkeypatch):
    written = {}
    write = pen.write
    monkeypatch.setattr(
        pen, "write", lambda *what, **how: written.setdefault(what[1], write(*what, **how))
    )
    lines = [Line("x", np.array([-0.001]), REAL), Line("y", np.array([-0.5]), DREAM)]
    paint_trace(pen, pygame.Surface((400, 200)), Trace("t", lines, -1.0, 1.0, (-0.0,), 10, 1.0))
    assert written["x 0.00"].right < written["y −0.50"].left  # noqa: RUF001 (a minus)
    assert "0" in written and "−0" not in written  # noqa: RUF001 (likewise)


def test_letters_grow_with_the_scale(pen):
    small, low = pen.width("H shows the keys"), pen.height()
    pen.scale = 2.0
    assert pen.width("H shows the keys") == pytest.approx(2 * small, rel=0.05)
    assert pen.height() == pytest.approx(2 * low, rel=0.1)


def test_gaps_and_emptiness_are_drawn_as_nothing(pen):
    surface = pygame.Surface((400, 200))
    for values in (np.zeros(0), np.full(9, np.nan)):
        paint_trace(
            pen, surface, Trace("t", [Line("", values, REAL)], 0.0, 1.0, (0.0, 1.0), 100, 10.0)
        )
        assert not len(where(surface, REAL)[0])


@pytest.mark.parametrize("size", [(760, 560), (456, 296), (300, 200)])
def test_the_help_shows_every_row(pen, size):
    surface, rows = pygame.Surface(size), [(f"key {i}", "does something") for i in range(18)]
    paint_help(pen, surface, rows)
    lit = (pixels(surface)[1:-1, 1:-1].min(-1) > 150).any(1)
    lines = np.count_nonzero(np.diff(lit.astype(int)) == 1)
    assert lines == 18 or size[1] < 250


def test_words_give_way_and_end_with_an_ellipsis(pen):
    surface = pygame.Surface((200, 30))
    paint_words(pen, surface, [("a long message that does not fit", DREAM)], [("right", REAL)])
    dream, real = where(surface, DREAM)[1], where(surface, REAL)[1]
    assert dream.max() < real.min() and real.max() < 200
    assert pen.fit("a long message", 14, 60).endswith("…")
    assert pen.fit("short", 14, 600) == "short" and pen.fit("x", 14, 2) == ""


def test_the_view_turns_without_stretching():
    space = Space(np.random.default_rng(0).normal(size=(500, 3)))
    points = np.random.default_rng(1).normal(size=(20, 3))
    for right, down in ((0.0, 0.0), (1.1, 0.4), (-3.0, 5.0)):
        space.turn(right, down)
        np.testing.assert_allclose(space.turned(points) @ space.turned(points).T, points @ points.T)
    assert abs(space.pitch) <= np.pi / 2


def test_what_is_in_front_moves_with_the_hand():
    space = Space(np.random.default_rng(0).normal(size=(500, 3)))
    eye = np.linalg.solve(space.turned(np.eye(3)).T, [0.0, 0.0, 1.0])  # straight in front
    before = space.view(eye, (200, 200))
    space.turn(0.1, 0.1)
    after = space.view(eye, (200, 200))
    assert before[2] == pytest.approx(1) and after[0] > before[0] and after[1] > before[1]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_any_latent_space_is_seen_in_three_coordinates(size):
    spread = np.arange(size, 0, -1)
    latents = (np.random.default_rng(0).normal(size=(800, size)) * spread).astype(np.float32)
    space = Space(latents)
    coordinates = space.coordinates(latents)
    assert coordinates.shape == (800, 3)
    reach = np.linalg.norm(coordinates, axis=1)
    assert np.quantile(reach, 0.99) == pytest.approx(1, abs=1e-5)
    if size == 5:  # principal components: the widest first
        kept = coordinates.var(0)
        assert kept[0] > kept[1] > kept[2]
        assert abs(np.corrcoef(coordinates[:, 0], latents[:, 0])[0, 1]) > 0.98


def test_a_click_finds_the_data_state_that_is_seen(pen):
    latents = np.random.default_rng(0).normal(size=(300, 3))
    cloud = Cloud(pen, latents, {})
    assert cloud.nearest((100, 100)) is None, "nothing has been drawn yet"
    surface = pygame.Surface((400, 300))
    cloud.paint(surface, latents[0], [(DREAM, [])], None)
    seen = cloud.space.view(cloud.space.coordinates(latents), (400, 300))
    front = int(seen[:, 2].argmax())
    assert cloud.nearest(tuple(np.round(seen[front, :2]).astype(int).tolist())) == front
    assert cloud.nearest((3, 3)) is None


def test_variables_take_turns_in_colouring(pen):
    latents = np.zeros((3, 3), np.float32)
    latents[:, 0] = -1, 0, 1
    variables = {"angle": np.array([-np.pi, 0.0, np.pi]), "x": np.array([0.0, 0.5, 1.0])}
    cloud = Cloud(pen, latents, variables)
    cloud.space.yaw = cloud.space.pitch = 0.0

    def colours() -> np.ndarray:
        """Of the three points, from left to right."""
        surface = pygame.Surface((400, 300))
        cloud.paint(surface, np.full(3, 9.0), [(DREAM, [])], None)
        places = cloud.space.view(cloud.space.coordinates(latents), (400, 300))[:, :2].round()
        return np.stack([pixels(surface)[int(y), int(x)] for x, y in places]).astype(int)

    first, seen = colours(), cloud.seen_from
    assert np.abs(first[0] - first[2]).max() < 15 < np.abs(first[0] - first[1]).max(), "a circle"
    assert cloud.next_variable() == "coloured by position x (half-widths)"
    second = colours().sum(1)
    assert cloud.seen_from != seen and (np.diff(second) > 50).all(), "from dark to bright"
    assert "angle" in cloud.next_variable()
    np.testing.assert_array_equal(colours(), first)
    assert "nothing" in Cloud(pen, latents, {}).next_variable()


def test_no_colour_sinks_into_the_page(pen):
    """3 to 1, as WCAG 2.1 asks of graphics; what is far away fades beyond that."""

    def luminance(colour) -> np.ndarray:
        share = np.asarray(colour) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    turn = np.linspace(-np.pi, np.pi, 300)
    variables = {"angle": turn, "velocity": turn}
    cloud = Cloud(pen, np.random.default_rng(0).normal(size=(300, 3)), variables)
    for _ in variables:
        contrast = (luminance(cloud._colours) + 0.05) / (luminance(PANEL) + 0.05)
        assert contrast.min() > 3
        cloud.next_variable()


def test_a_variable_that_never_varies_is_a_colour_too(pen):
    latents = np.random.default_rng(0).normal(size=(9, 4))
    cloud = Cloud(pen, latents, {"reward": np.ones(9)})
    cloud.paint(pygame.Surface((400, 300)), latents[0], [(DREAM, [])], None)


def test_a_state_far_out_is_drawn_all_the_same(pen):
    cloud = Cloud(pen, np.random.default_rng(0).normal(size=(30, 3)), {})
    cloud.paint(pygame.Surface((100, 100)), np.full(3, 1e30), [(DREAM, [])], 4)


def artist(shape, is_pixels=True) -> Artist:
    world = fit_support(LinearModel(ObservationSpec(shape, is_pixels)), 0.7)
    return Artist(world, world.support.states.numpy())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_are_shown_as_they_are(channels):
    frame = np.random.default_rng(0).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    picture = artist((4, 4, channels))(frame)
    assert picture.shape == (4, 4, 3)
    np.testing.assert_array_equal(picture, frame if channels == 3 else frame[..., -1:].repeat(3, 2))


def test_vectors_are_shown_as_bars():
    draw = artist((2,), is_pixels=False)

    def bar(value: float) -> tuple[int, int]:
        """Where the first bar begins and ends."""
        lit = np.nonzero((draw(np.array([value, 0.5], np.float32))[1] == TEXT).all(-1))[0]
        return int(lit.min()), int(lit.max())

    assert bar(9.0)[1] == 40 and bar(9.0)[0] == 21
    assert bar(-9.0) == (0, 19)
    assert bar(0.7)[1] > 21

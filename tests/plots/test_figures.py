from dataclasses import replace

import numpy as np
import pytest
from linear_model import LinearModel
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from small import random_batch, vector

from worldmodel.errors import ShapeError
from worldmodel.files import write_whole
from worldmodel.plots import curves, figures
from worldmodel.plots.style import cyclic, dress, figure, label, save
from worldmodel.world.world import World

CONSTRAINED = [
    {
        "update": 50.0 * k,
        "validation/prediction_mse": 0.05 / k,
        "validation/lower_bound": -1e5 / k**3 + 3000,
        "validation/reconstruction": -1e5 / k**3 + 3050,
        "validation/kl": 50.0,
        "objective/multiplier": 2.0**k,
        "objective/distortion_target": 0.1,
        "objective/distortion": 0.3 / k if k > 1 else np.nan,
    }
    for k in range(1, 9)
]
ANNEALED = [
    {k: v for k, v in logs.items() if not k.startswith("objective/")}
    | {"objective/inverse_temperature": 0.1}
    for logs in CONSTRAINED
]


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def check(path) -> None:
    """A picture of some size, with something in it, whose border nothing touches."""
    picture = read(path)
    assert picture.shape[0] > 300 and picture.shape[1] > 400
    assert picture.std() > 5
    edge = np.concatenate([picture[[0, -1]].reshape(-1, 3), picture[:, [0, -1]].reshape(-1, 3)])
    assert (edge == 255).all(), "something is clipped by the edge"
    assert path.stat().st_size < 400_000


def test_all_figures_are_written(evaluation, untrained, dataset, tmp_path):
    written = figures.write_all(
        evaluation,
        untrained,
        dataset.test.padded(),
        tmp_path / "new",
        dataset.test[:1],
        CONSTRAINED,
    )
    names = {path.name for path in written}
    assert names == {
        "latent_space.png",
        "latent_walks.png",
        "strips.png",
        "prediction_error.png",
        "filter_convergence.png",
        "tracking.png",
        "training_curves.png",
    }
    assert {path.name for path in (tmp_path / "new").iterdir()} == names, "temporary files are left"
    for path in written:
        check(path)


def test_what_there_is_nothing_of_is_left_out(evaluation, untrained, dataset, tmp_path):
    blind = replace(
        evaluation,
        truth={},
        fitted={},
        metrics={
            k: v
            for k, v in evaluation.metrics.items()
            if k not in ("filter_r2_by_frames", "tracking")
        },
    )
    written = figures.write_all(blind, untrained, dataset.test.padded(), tmp_path)
    assert {path.stem for path in written} == {
        "latent_space",
        "prediction_error",
        "filter_convergence",
        "strips",
    }
    for path in written:
        check(path)


@pytest.mark.parametrize("size", [2, 5])
def test_latent_spaces_of_other_dimensions_are_drawn(size, evaluation, tmp_path):
    latents = np.random.default_rng(0).normal(size=(140, size)).astype(np.float32)
    check(figures.latent_space(replace(evaluation, latents=latents), tmp_path / "space.png"))


def test_a_line_is_no_latent_space(evaluation, tmp_path):
    with pytest.raises(ShapeError, match=r"\(140, 1\)"):
        figures.latent_space(replace(evaluation, latents=evaluation.latents[:, :1]), tmp_path)


def test_both_walks_start_in_the_same_state_and_depend_on_the_seed(
    evaluation, untrained, dataset, tmp_path
):
    def draw(seed):
        path = tmp_path / f"{seed}.png"
        return read(
            figures.latent_walks(
                untrained, dataset.test[:1], evaluation.latents, path, filtered=7, seed=seed
            )
        )

    one, same, other = draw(0), draw(0), draw(1)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_training_curves_of_an_annealed_bound(tmp_path):
    check(figures.training_curves(ANNEALED, tmp_path / "curves.png"))


def test_no_line_runs_through_the_legend_of_the_constraint(tmp_path, monkeypatch):
    """It lies between plot and title, whatever the multiplier does."""
    drawn = []
    monkeypatch.setattr(curves, "save", lambda fig, path: drawn.append(fig) or path)
    figures.training_curves(CONSTRAINED, tmp_path / "curves.png")
    canvas = FigureCanvasAgg(drawn[0])
    canvas.draw()
    (axes,) = (a for a in drawn[0].axes if a.get_title().startswith("Constraint"))
    box = axes.get_legend().get_window_extent()
    assert box.y0 >= axes.bbox.y1 and box.y1 <= axes.title.get_window_extent().y0
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["reached", "allowed"]


def test_no_history_is_refused(tmp_path):
    with pytest.raises(ShapeError, match="history"):
        figures.training_curves([], tmp_path / "curves.png")


def test_strips_leave_out_frames_beyond_the_episode(untrained, dataset, tmp_path):
    wide = figures.strips(untrained, dataset.test[:1], tmp_path / "wide.png", filtered=7)
    short = dataset.test[:1].window(0, 5)
    narrow = figures.strips(untrained, short, tmp_path / "narrow.png", filtered=4)
    check(wide)
    assert read(narrow).shape[1] < read(wide).shape[1]


def test_strips_of_vectors_are_curves(tmp_path):
    model = LinearModel(vector(4))
    batch = random_batch(model.observation_spec, model.action_spec, size=2, steps=20)
    check(figures.strips(World(model), batch, tmp_path / "strips.png"))


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "file", b"earlier")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, b"later")
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_the_angles_colours_meet_and_differ_elsewhere():
    colours = cyclic()(np.linspace(0, 1, 256))[:, :3]
    assert np.abs(colours[0] - colours[-1]).max() < 0.01
    assert np.abs(np.diff(colours, axis=0)).max() < 0.05, "no jumps"
    # Without the red-green contrast (protanopes see about this mix) a quarter turn still shows.
    seen = np.stack([colours @ [0.1, 0.8, 0.1], colours[:, 2]], 1)
    for a, b in ((0, 64), (64, 128), (128, 192), (64, 192), (0, 128)):
        assert np.abs(seen[a] - seen[b]).max() > 0.15


def test_many_variables_and_baselines_find_room(evaluation, tmp_path):
    latents = np.random.default_rng(0).normal(size=(140, 10)).astype(np.float32)
    names = [f"{v}_{i}" for i in (1, 2) for v in ("x", "y", "vx", "vy")]
    still = evaluation.metrics["prediction_mse_baseline"]["last_frame"]
    many = replace(
        evaluation,
        latents=latents,
        truth={name: latents[:, i] for i, name in enumerate(names)},
        fitted={name: latents[:, i] for i, name in enumerate(names)},
        metrics=evaluation.metrics
        | {
            "r2": dict.fromkeys(names, 0.5),
            "filter_r2_by_frames": {n: [i / 8] * 7 for i, n in enumerate(names)},
            "prediction_mse_baseline": {f"other_{i}": still for i in range(6)},
        },
    )
    space = figures.latent_space(many, tmp_path / "space.png")
    narrow = figures.latent_space(evaluation, tmp_path / "narrow.png")
    assert read(space).shape[0] == pytest.approx(2 * read(narrow).shape[0], rel=0.01)
    for path in (space, narrow):
        edge = read(path)[[0, -1]]
        assert (edge == 255).all(), "something is clipped by the edge"
    check(figures.filter_convergence(many.metrics, tmp_path / "filter.png"))
    check(figures.prediction_error(many.metrics, tmp_path / "error.png"))


def drawn(tmp_path, text, **style):
    fig = figure(3.0, 2.0)
    dress(fig.add_subplot(), text)
    fig.axes[0].xaxis.label.set(**style)
    return np.asarray(Image.open(save(fig, tmp_path / "drawn.png")))


@pytest.mark.parametrize("name", ["$x_{$", "cost [US$] of 3$", r"in $ \$", "$$", "a_b^c"])
def test_names_of_others_are_no_formulas(name, tmp_path):
    np.testing.assert_array_equal(drawn(tmp_path, name), drawn(tmp_path, name, parse_math=False))


@pytest.mark.parametrize("text", ["$R^2$", label("velocity"), label("vy_3"), "position $x$, $y$"])
def test_ours_are(text, tmp_path):
    assert (drawn(tmp_path, text) != drawn(tmp_path, text, parse_math=False)).any()


def test_both_stand_beside_each_other(tmp_path):
    both = drawn(tmp_path, "US$ 3$: $R^2$ = 1")
    assert (both != drawn(tmp_path, "US$ 3$: R2 = 1")).any()
    np.testing.assert_array_equal(both, drawn(tmp_path, r"US\$ 3\$: $R^2$ = 1", parse_math=True))

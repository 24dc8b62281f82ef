"""The report as a browser gets it: one file, no network, and the numbers that were measured."""

from __future__ import annotations

import base64
import gzip
import io
import json
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

import worldmodel
from agents.pathwise import PathwiseConfig, train_policy
from worldmodel import data
from worldmodel.cli import main
from worldmodel.cli.runs import metrics_of
from worldmodel.evaluation.identification import regress

LIMIT = 5_000_000  # bytes
CHROMIUM = next(
    (path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None
)
SMALL = {
    "train": data.SplitConfig(2, 14),
    "validation": data.SplitConfig(2, 14),
    "test": data.SplitConfig(60, 40),
}


class Page(HTMLParser):
    """What a page loads, its tables, and the text of its elements that have an id."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.text = path, path.read_text()
        self.loads: list[str] = []
        self.policy = ""
        self.rows: dict[str, list[str]] = {}
        self.scripts: dict[str, str] = {}
        self.headings: list[str] = []
        self._row: list[str] = []
        self._tag, self._id = "", ""
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self._tag, self._id = tag, attributes.get("id", "")
        loading = ("src", "srcset", "href", "data", "poster", "action")
        self.loads += [attributes[name] for name in loading if name in attributes]
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        if tag == "tr":
            self._row = []

    def handle_endtag(self, tag):
        if tag == "tr":
            self.rows[self._row[0]] = self._row[1:]
        self._tag = ""

    def handle_data(self, text):
        if self._tag in ("td", "th"):
            self._row.append(text)
        elif self._tag == "h2":
            self.headings.append(text)
        elif self._tag == "script":
            self.scripts[self._id] = self.scripts.get(self._id, "") + text

    @property
    def plot(self) -> dict:
        return json.loads(self.scripts["space-data"])

    @property
    def pictures(self) -> list[Image.Image]:
        packed = [load.partition("base64,")[2] for load in self.loads if "image/" in load]
        return [Image.open(io.BytesIO(base64.b64decode(part))) for part in packed]

    @property
    def frames(self) -> list[int]:
        return [getattr(picture, "n_frames", 1) for picture in self.pictures]


def numbers(encoded: dict) -> np.ndarray:
    """An array as plotly writes it."""
    return np.frombuffer(base64.b64decode(encoded["bdata"]), encoded["dtype"])


def make_run(folder: Path, name: str) -> Path:
    """A run folder with all that a demo leaves: model, data, metrics, agent."""
    world = worldmodel.load(name)
    world.save(folder / "checkpoint", metrics_of(name))
    shutil.copy(folder / "checkpoint" / "metrics.json", folder / "metrics.json")
    source = world.source
    data.save(data.collect(source.env_id, source.env_kwargs, splits=SMALL), folder / "data")
    quick = PathwiseConfig(updates=1, batch_size=2, horizon=2)
    train_policy(world, quick, progress=False)[0].save(folder / "policy.safetensors")
    Image.new("RGB", (40, 30), "red").save(folder / "latent_walks.png")
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Page]:
    root = tmp_path_factory.mktemp("reports")
    pages = {}
    for name in ("pendulum", "ball"):
        run = make_run(root / name, name)
        main(["report", str(run)])
        pages[name] = Page(run / "report.html")
    main(["report", "pendulum", "--out", str(root / "new" / "bundled.html"), "--seed", "3"])
    return pages | {"bundled": Page(root / "new" / "bundled.html")}


NAMES = ("pendulum", "ball", "bundled")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_carries_all_it_shows(name, pages):
    page = pages[name]
    assert page.loads and all(load.startswith("data:") for load in page.loads)
    assert page.policy.startswith("default-src 'none'") and "http" not in page.policy
    text = page.text.replace("http-equiv", "")
    assert "http:" not in text and "https:" not in text and "url(" not in text
    assert "@import" not in text and "fetch(" not in text
    assert len(page.text.encode()) <= LIMIT
    assert [p.name for p in page.path.parent.glob(".*")] == [], "temporary files are left"


@pytest.mark.parametrize("name", NAMES)
def test_plotly_is_there_in_full(name, pages):
    packed = pages[name].scripts["plotly"]
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_those_that_were_measured(name, pages):
    metrics = metrics_of("ball" if name == "ball" else "pendulum")
    page = pages[name]
    folded = page.text.partition("<pre>")[2].partition("</pre>")[0]
    assert json.loads(unescape(folded)) == metrics
    for variable, value in metrics["r2"].items():
        (row,) = (
            r
            for t, r in page.rows.items()
            if t.split() in (["R²", variable], ["R²", variable, "φ"])
        )
        assert row[0] == f"{value:.3f}"
    bound = metrics["bound"]["lower_bound"]
    assert page.rows["lower bound, nats per frame"][0] == f"{bound:.1f}"
    assert page.rows["agent's return in reality"][0] == f"{metrics['agent']['return_real']:.0f}"


def test_the_papers_numbers_stand_beside_the_pendulums(pages):
    """Karl et al. 2017, tables 1 and 2."""
    rows = pages["bundled"].rows
    assert rows["test set"] == ["here", "Karl et al. 2017"]
    assert [rows[f"R² {t}"][1] for t in ("sin φ", "cos φ", "velocity")] == [
        "0.961",
        "0.982",
        "0.916",
    ]
    assert rows["lower bound, nats per frame"][1] == "798.6"
    assert pages["ball"].rows["test set"] == ["here"], "they report none of a ball's"


def test_the_points_are_filtered_states_under_their_own_colours(pages):
    world = worldmodel.load("ball")
    test = data.load(pages["ball"].path.parent / "data").test.window(0, 14)
    latents = world.filter(test.observations.numpy(), test.actions.numpy())[:, 1:].reshape(-1, 4)
    traces = pages["ball"].plot["data"]
    points = np.stack([numbers(traces[0][axis]) for axis in "xyz"], 1)
    centred = latents - latents.mean(0)
    spread = np.linalg.svd(centred, compute_uv=False)[:3]
    np.testing.assert_allclose(np.linalg.norm(points, axis=0), spread, rtol=1e-3)
    picked = np.arange(0, len(points), 97)
    near = np.linalg.norm(centred[:, None] - centred[picked], axis=2)
    shown = np.linalg.norm(points[:, None] - points[picked], axis=2)
    assert len(points) == len(latents) and (shown <= near + 1e-3).all(), "a projection"
    colours = {t["hovertemplate"].partition(":")[0]: numbers(t["marker"]["color"]) for t in traces}
    states = test.states[:, 1:].reshape(-1, 4).numpy()
    np.testing.assert_allclose(colours["position x (half-widths)"], states[:, 0])
    np.testing.assert_allclose(colours["reward"], test.rewards.reshape(-1).numpy())
    assert colours["empowerment (nats)"].min() > 0
    assert [trace["visible"] for trace in traces] == [True] + [False] * 5


def test_a_pendulums_points_hold_the_angle_that_colours_them(pages):
    """And an angle's colours meet at its ends."""
    traces = pages["bundled"].plot["data"]
    points = np.stack([numbers(traces[0][axis]) for axis in "xyz"], 1)
    angle, velocity = (numbers(traces[i]["marker"]["color"]) for i in (0, 1))
    truth = np.stack([np.sin(angle), np.cos(angle), velocity], 1)
    assert regress(points, truth).r2.min() > 0.95
    scale = traces[0]["marker"]["colorscale"]
    assert scale[0][1] == scale[-1][1] and traces[0]["marker"]["cmax"] == pytest.approx(np.pi)


def test_each_button_shows_one_colouring(pages):
    layout = pages["pendulum"].plot["layout"]
    buttons = layout["updatemenus"][0]["buttons"]
    assert [b["label"] for b in buttons] == ["angle φ", "velocity φ̇", "reward", "empowerment"]
    shown = np.array([b["args"][0]["visible"] for b in buttons])
    assert np.array_equal(shown, np.eye(4, dtype=bool))


@pytest.mark.parametrize(("name", "films"), [("pendulum", [41, 75]), ("bundled", [75])])
def test_films_run(name, films, pages):
    """Of random actions as long as the data, and of the agent if there is one."""
    assert [count for count in pages[name].frames if count > 1] == films


def test_figures_that_an_evaluation_left_are_kept(pages):
    sizes = [picture.size for picture in pages["pendulum"].pictures]
    assert (40, 30) in sizes
    assert (40, 30) not in [picture.size for picture in pages["bundled"].pictures]


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_whatever_there_is_of_other_runs(env_id, tmp_path):
    """Vectors have curves and no film; discrete actions no empowerment; nobody has measured."""
    recorded, run = str(tmp_path / "data"), str(tmp_path / "run")
    main(["collect", env_id, "--out", recorded, "--episodes", "20", "--test-steps", "30"])
    tiny = ["--updates", "2", "--batch-size", "2", "--no-tensorboard", "--model.codec.hidden", "8"]
    main(["train", recorded, "--run", run, *tiny])
    main(["report", run, "--dataset", recorded])
    page = Page(Path(run) / "report.html")
    assert "Not measured yet" in page.text
    assert page.frames == [1, 1], "curves of the imagination and of training"
    labels = [b["label"] for b in page.plot["layout"]["updatemenus"][0]["buttons"]]
    assert labels == (["reward", "empowerment"] if env_id == "Pendulum-v1" else ["reward"])


REFUSED = {
    "no run": (["<new>"], "no checkpoint"),
    "no data": (["pendulum", "--dataset", "<new>"], "no dataset at"),
    "other data": (["ball", "--dataset", "<pendulum>"], "Pendulum-v0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_clear_line_and_no_file(case, pages, tmp_path, capsys):
    words, told = REFUSED[case]
    places = {"<new>": str(tmp_path / "new")}
    places["<pendulum>"] = str(pages["pendulum"].path.parent / "data")
    out = tmp_path / "report.html"
    with pytest.raises(SystemExit) as exit:
        main(["report", *(places.get(word, word) for word in words), "--out", str(out)])
    said = capsys.readouterr().err
    assert exit.value.code == 1 and told in said
    assert not out.exists()


def test_without_plotly_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["report", "pendulum", "--out", str(tmp_path / "report.html")])
    assert "worldmodel[report]" in capsys.readouterr().err


# What the page would load, and what its policy had to stop, is written where the dump shows it.
WATCH = """<script>
const stopped = [];
document.addEventListener("securitypolicyviolation", (event) => stopped.push(event.blockedURI));
setInterval(() => {
  const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  document.body.dataset.asked = JSON.stringify([...loaded, ...stopped]);
}, 100);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("name", ("pendulum", "ball"))
def test_a_browser_draws_it_and_asks_nobody_for_anything(name, pages, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(pages[name].text.replace("<body>", "<body>" + WATCH))
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
    ]
    flags += ["--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"]
    flags += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=30000",
        "--dump-dom",
    ]
    done = subprocess.run(
        [str(CHROMIUM), *flags, page.as_uri()], capture_output=True, timeout=120, check=True
    )
    dom = done.stdout.decode()
    assert 'data-drawn="yes"' in dom and "gl-container" in dom
    assert 'data-asked="[]"' in dom

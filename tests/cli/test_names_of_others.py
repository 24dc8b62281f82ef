"""What files of strangers name is told as text: nothing in it commands the terminal."""

import io
import re

import gymnasium as gym
import numpy as np
import pytest

from worldmodel import data
from worldmodel.cli import main
from worldmodel.data.provenance import Provenance
from worldmodel.terminal import Terminal

TITLE = "\x1b]2;owned\x07"  # sets the window's title
CLEAR = "\x1b[2J"
CODES = TITLE + CLEAR + "\x9b2J\x7f\u202e"
# All that a terminal takes for anything but text, or that turns text around.
COMMANDING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
TINY = ["--model.recurrent", "4", "--model.head-hidden", "4", "--updates", "2", "--window", "5"]
TINY += ["--batch-size", "4", "--validate-every", "2", "--denoise", "0", "--no-tensorboard"]


@pytest.fixture
def said(capsys):
    """Runs a command line; all that it says, and its exit status."""

    def run(*words) -> tuple[str, int]:
        status = 0
        try:
            main([str(word) for word in words])
        except SystemExit as exit:
            status = exit.code
        printed = capsys.readouterr()
        text = printed.out + printed.err
        assert not COMMANDING.search(text), ascii(text)
        return text, status

    return run


def test_a_datasets_names_are_text_in_every_command(tmp_path, said):
    rng = np.random.default_rng(0)
    space = gym.spaces.Dict({f"joint{CODES}": gym.spaces.Box(-9, 9, (2,), np.float32)})
    told = Provenance(env_id=f"{CODES}Arm-v0", notes=[f"beware{CODES}"], process={"name": CODES})
    with data.DatasetWriter(
        tmp_path / "data", space, gym.spaces.Box(-1, 1, (1,), np.float32), told
    ) as writer:
        for i in range(12):
            actions = rng.uniform(-1, 1, (30, 1)).astype(np.float32)
            joint = np.cumsum(np.concatenate([rng.normal(size=(1, 2)), 0.1 * actions * [1, 2]]), 0)
            episode = {"observations": {f"joint{CODES}": joint.astype(np.float32)}}
            split = ["train", "train", "validation", "test"][i % 4]
            writer.write(
                episode | {"actions": actions, "rewards": -(joint[1:, 0] ** 2)},
                split,
                actor=f"she{CODES}",
                origin=f"here{CODES}",
            )
    shown, status = said("data", "show", tmp_path / "data")
    assert status == 0 and r"joint\x1b]2;owned\x1b[2J\x9b2J\x7f\u202e" in shown
    run = tmp_path / f"run{TITLE}"
    assert said("train", tmp_path / "data", "--run", run, *TINY)[1] == 0
    text, status = said("evaluate", run)
    assert status == 0 and r"\x1b" in text
    for words in (
        ["agent", run, "--episodes", "2", "--steps", "3", "--out", tmp_path],
        ["imagine", run, "--out", tmp_path / "film"],
        ["report", run, "--out", tmp_path / "page.html"],
    ):
        text, status = said(*words)
        assert r"\x1b" in text or status == 0, text


def test_names_in_recordings_and_in_errors_are_text(tmp_path, said):
    name = f"v{CODES.replace(CLEAR, '')}"
    rows = "\n".join(f"{t},{np.sin(t)},{t % 3}" for t in range(12))
    for i in range(6):
        (tmp_path / "tables").mkdir(exist_ok=True)
        (tmp_path / "tables" / f"{i}{TITLE}.csv").write_text(f"seconds,x,{name}\n{rows}\n")
    words = ["import", tmp_path / "tables", "--out", tmp_path / "data", "--map", "observations=x"]
    assert said(*words, f"actions={name}")[1] == 0
    text, status = said(*words, "actions=nothing")
    assert status == 1 and r"\x1b" in text
    (tmp_path / "tables" / f"3{TITLE}.csv").write_text(f"seconds,x,{name}\n0,{CLEAR},1\n")
    assert said(*words[:3], tmp_path / "other", *words[4:6], f"actions={name}")[1] == 1
    for command in ("evaluate", "train", "data show", "report"):
        assert said(*command.split(), tmp_path / f"gone{TITLE}\udcff")[1] == 1
    assert said("evaluate", tmp_path, CODES)[1] == 2
    assert said("collect", f"{TITLE}-v0", "--out", tmp_path / "new")[1] == 1


def test_text_styles_and_lines_stay(capsys):
    Terminal().print("a [b]\n\tc äöü 漢 ±", soft_wrap=True)
    assert capsys.readouterr().out == "a [b]\n        c äöü 漢 ±\n"
    terminal = Terminal(force_terminal=True, color_system="standard")
    terminal.print("red\x1b[0m", style="red")
    assert capsys.readouterr().out == "\x1b[31mred\\x1b[0m\x1b[0m\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_an_encoding_lacks_is_a_question_mark(encoding, monkeypatch):
    """As where output goes to a file on Windows."""
    written = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", written)
    Terminal().print("a ▆ b")
    written.flush()
    assert written.buffer.getvalue() == b"a ? b\n"

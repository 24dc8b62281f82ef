"""What training says of itself, the time it is given, and the verdict in a report."""

import json
import sys

import pytest

from worldmodel.cli import main
from worldmodel.cli.report import _verdict
from worldmodel.training.settings import read_settings

TINY = ["--batch-size", "4", "--validate-every", "3", "--no-tensorboard", "--window", "4"]
SIZES = ["--model.codec.hidden", "8", "--model.recurrent", "4", "--model.latent-size", "2"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("said") / "data"
    counts = ["--episodes", "6", "--held-out", "4", "--num-envs", "2"]
    main(["collect", "CartPole-v1", "--out", str(folder), *counts, "--steps", "12"])
    return str(folder)


def test_minutes_choose_the_updates_once(recorded, tmp_path, monkeypatch, capsys):
    asked = []

    def within(model, dataset, config, seconds):
        asked.append(seconds)
        return 6

    monkeypatch.setattr(sys.modules["worldmodel.cli.train"], "updates_within", within)
    words = ["train", recorded, "--run", str(tmp_path), "--minutes", "2", *TINY, *SIZES]
    main(words)
    assert asked == [120.0] and read_settings(tmp_path)["train"]["updates"] == 6
    main(words)
    said = capsys.readouterr().out
    assert len(asked) == 1 and "going on at update 6 of 6" in said
    # Nothing can be learned in six updates, and that is said.
    assert said.count("learning: prediction") == 1 and "WARNING: " in said
    with pytest.raises(SystemExit):
        main([*words[:4], "--minutes", "-1", *TINY, *SIZES])
    assert "minutes must be finite and more than 0, got -1" in capsys.readouterr().err


def test_a_report_has_the_verdict_where_there_is_one(tmp_path):
    assert _verdict(tmp_path) == []
    numbers = {
        "episodes": 3,
        "returns": dict.fromkeys(("dream", "real", "random", "random_dream"), -3.0),
        "deviations": dict.fromkeys(("dream", "real", "random", "random_dream"), 0.5),
        "lengths": {"dream": 7.0, "real": 8.0},
        "models": 5,
        "interval": [-4.0, -2.0],
        "length_interval": [6.0, 9.0],
        "reference": 475.0,
        "outside_dream": 0.25,
        "outside_real": 0.0,
        "ends_foreseen": 0.12,
        "reward_error": None,
        "filter_error": 0.01,
        "said": ["The dream was <right>."],
    }
    (tmp_path / "verdict.json").write_text(json.dumps(numbers))
    (section,) = _verdict(tmp_path)
    assert "The dream was &lt;right&gt;." in section and "-4 to -2" in section
    assert "nine of ten dreamt lengths, 5 models" in section and "6 to 9" in section
    assert "475" in section and "12%" in section and "error of the reward" not in section

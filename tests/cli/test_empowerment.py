import json

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from worldmodel.cli import main
from worldmodel.cli.empowerment import rank_correlation


def test_the_map_of_a_model_beside_the_true_one(tmp_path, capsys):
    main(["empowerment", "--run", "pendulum", "--out", str(tmp_path), "--states", "60"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["spearman"] > 0.8
    assert metrics["states"] == 60 and metrics["steps"] == 10
    assert 0 < metrics["true_nats"]["least"] < metrics["true_nats"]["greatest"] < 6
    with Image.open(tmp_path / "empowerment.png") as picture:
        assert picture.width > 800
    assert "empowerment.png" in capsys.readouterr().out


def test_the_fitted_channel_of_a_ball(tmp_path):
    words = ["empowerment", "--run", "ball", "--out", str(tmp_path), "--states", "40"]
    words += ["--estimator", "sampled", "--steps", "8", "--noise.sensor", "0.3"]
    main(words)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["spearman"] > 0.7


def test_rank_correlation_is_spearmans():
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    assert rank_correlation(a, b + a) == pytest.approx(spearmanr(a, b + a).statistic)


def test_too_few_states_are_refused(tmp_path):
    with pytest.raises(SystemExit):
        main(["empowerment", "--run", "pendulum", "--out", str(tmp_path), "--states", "1"])

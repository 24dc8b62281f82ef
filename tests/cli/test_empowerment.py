import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

from agents.empowerment.maps import rank_correlation
from agents.policy import Policy
from agents.rollout import Acting
from worldmodel.cli import main
from worldmodel.cli.runs import policy_of
from worldmodel.data import Source
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.plots.acting import film_acting
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.world.world import World, load


def test_the_map_of_a_model_beside_the_true_one(tmp_path, capsys):
    words = ["empowerment", "pendulum", "--out", str(tmp_path), "--states", "60"]
    main([*words, "--episodes", "0"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["empowerment"]["spearman"] > 0.8
    assert metrics["empowerment"]["states"] == 60 and metrics["agent_config"]["steps"] == 10
    least, greatest = metrics["empowerment"]["true_nats"].values()
    assert 0 < least < greatest < 6
    with Image.open(tmp_path / "empowerment.png") as picture:
        assert picture.width > 800
    assert "Look at empowerment.png in" in capsys.readouterr().out
    assert not (tmp_path / "agent.gif").exists() and "agent" not in metrics


def test_a_ball_is_mapped_as_its_demo_maps_it_and_the_agent_acts_and_is_filmed(tmp_path, capsys):
    words = ["empowerment", "ball", "--out", str(tmp_path), "--states", "40"]
    words += ["--episodes", "6", "--agent.rounds", "1", "--agent.updates", "50"]
    main([*words, "--agent.states", "128", "--seed", "3"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["empowerment"]["spearman"] > 0.7
    assert (
        metrics["agent_config"]["estimator"] == "sampled" and metrics["agent_config"]["seed"] == 3
    )
    assert metrics["agent"]["episodes"] == 6 and 0 <= metrics["agent"]["in_middle_fraction"] <= 1
    policy = policy_of(tmp_path, load("ball"))
    assert policy.predict(np.zeros((6, 4)))[0].shape == (6, 2)
    with Image.open(tmp_path / "agent.gif") as film:
        assert getattr(film, "n_frames", 1) > 20
    assert "Look at empowerment.png and agent.gif in" in capsys.readouterr().out


def test_an_environment_without_images_is_filmed_as_its_scene(tmp_path):
    env_id, actions = "Pendulum-v1", ActionSpace.from_space(gym.spaces.Box(-2, 2, (1,)))
    spec = ObservationSpace.from_space(gym.spaces.Box(-8, 8, (3,)))
    model = DVBF(DVBFConfig(latent_size=3, recurrent=4), spec, actions)
    world = World(model)
    world.support.fit(*torch.randn(2, 100, 3))
    low, high = torch.tensor([-2.0]), torch.tensor([2.0])
    policy = Policy(torch.zeros(3), torch.ones(3), actions, low, high, 4)
    path = film_acting(Acting(policy), world, Source(env_id), tmp_path / "film.gif")
    with Image.open(path) as film:
        assert film.width > 500 and film.height > 500


def test_rank_correlation_is_spearmans():
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    assert rank_correlation(a, b + a) == pytest.approx(spearmanr(a, b + a).statistic)


def test_too_few_states_are_refused(tmp_path):
    with pytest.raises(SystemExit):
        main(["empowerment", "pendulum", "--out", str(tmp_path), "--states", "1"])

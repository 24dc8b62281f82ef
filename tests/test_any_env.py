"""Environments from elsewhere, by their ids alone: record, train, measure, act."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest

import worldmodel
from worldmodel import data
from worldmodel.cli import main
from worldmodel.data import Source, Wrapping
from worldmodel.errors import SpecError
from worldmodel.evaluation.evaluate import evaluate

COUNTS = ["--episodes", "6", "--held-out", "3", "--num-envs", "3", "--test-steps", "20"]
TRAIN = ["--updates", "24", "--batch-size", "4", "--validate-every", "24", "--no-tensorboard"]
SIZES = ["--model.codec.hidden", "16", "--model.recurrent", "8", "--model.codec.channels", "4"]
AGENT = ["--pathwise.updates", "3", "--pathwise.batch-size", "8", "--pathwise.horizon", "5"]
AGENT += ["--models", "1"]
CASES = {
    "pendulum-state": ("Pendulum-v1", [], (3,)),
    "pendulum-pixels": ("Pendulum-v1", ["--pixels", "--resize", "16", "--grayscale"], (16, 16, 1)),
    "cartpole": ("CartPole-v1", [], (4,)),
    "acrobot": ("Acrobot-v1", ["--frame-skip", "2"], (6,)),
    "acrobot-pixels": ("Acrobot-v1", ["--pixels"], (32, 32, 3)),
    "reacher": ("Reacher-v5", [], (10,)),
    "reacher-pixels": ("Reacher-v5", ["--pixels"], (32, 32, 3)),
}


def missing(env_id: str, wrapping: Wrapping) -> str | None:
    """Why this environment cannot be made here, or None if it can."""
    if env_id.startswith("Reacher") and find_spec("mujoco") is None:
        return "mujoco is not installed"
    try:
        Source(env_id, {}, wrapping).make().close()
    except SpecError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("env_id", "wrapping", "shape"), CASES.values(), ids=CASES)
def test_an_id_is_enough(env_id, wrapping, shape, tmp_path):
    """Collect, train and agent as they are typed; the id is given once, to the first."""
    # Only MuJoCo is an extra, and only it needs a driver to draw.
    if "Reacher" in env_id and (why := missing(env_id, Wrapping(pixels="--pixels" in wrapping))):
        pytest.skip(why)
    recorded, run, acted = tmp_path / "data", tmp_path / "run", tmp_path / "agent"
    main(["collect", env_id, "--out", str(recorded), *COUNTS, *wrapping])
    main(["train", str(recorded), "--run", str(run), *TRAIN, *SIZES])
    brief = ["--episodes", "2", "--steps", "20", *AGENT]
    main(["agent", str(run), "--out", str(acted), *brief])
    dataset, world = data.load(recorded), worldmodel.load(run)
    assert dataset.observation_spec.streams[0].shape == shape
    assert dataset.observation_spec.agrees(world.model.observation_spec)
    assert world.source == dataset.provenance.source and world.source.env_id == env_id
    judged = json.loads((acted / "metrics.json").read_text())
    assert judged["episodes"] == 2 and np.isfinite(judged["return_real"])
    assert 0 < judged["length_real"] <= 20
    filtered = worldmodel.FilterObservation(world.source.make(), world)
    assert filtered.reset(seed=0)[0].shape == (world.model.latent_size,)
    filtered.close()
    measured = evaluate(world, dataset).metrics
    assert np.isfinite(measured["prediction_mse"]).all()
    # Vectors that pictures replaced are the ground truth that the latent state is held against.
    assert ("r2" in measured) == ("--pixels" in wrapping)
    assert ("termination" in measured) == (env_id == "CartPole-v1")

"""The software sensor's parts against independent truth, and the whole of it with a tiny budget."""

from __future__ import annotations

import dataclasses
import json
import warnings
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from small import batches

from envs.pendulum import rk4_step
from worldmodel import data

EXAMPLE = Path(__file__).parents[2] / "examples" / "software_sensor"
MODULES = ("cheap_sensor", "physics_filters", "comparison", "learning", "software_sensor")


@pytest.fixture(scope="module")
def parts():
    """The example's modules, which lie in no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield SimpleNamespace(**{name: import_module(name) for name in MODULES})


@pytest.fixture(scope="module")
def dataset(parts):
    splits = data.default_splits(12, steps=40, test_steps=40, held_out=12)
    return data.collect(parts.cheap_sensor.ENV_ID, None, data.Held(), splits, 0, num_envs=12)


def arrays(batch):
    readings, actions, states = batch.observations, batch.actions, batch.states
    return readings.numpy(), actions.numpy(), states.numpy().astype(np.float64)


def test_the_sensor_is_an_environment(parts):
    with warnings.catch_warnings():
        # The action is a torque in its physical unit; the checker recommends [-1, 1].
        warnings.filterwarnings("ignore", ".*symmetric and normalized space.*")
        # It is a wrapper, and what is to be checked is the wrapper.
        warnings.filterwarnings("ignore", ".*different from the unwrapped version.*")
        check_env(parts.cheap_sensor.cheap_pendulum(), skip_render_check=True)


def test_noise_drift_and_motor_are_what_they_are_said_to_be(parts):
    cheap = parts.cheap_sensor
    env = gym.make_vec(cheap.ENV_ID, num_envs=50, vectorization_mode="sync")
    batch = data.record(env, 100, 50, data.Uniform(), 0)
    env.close()
    readings, actions, states = arrays(batch)
    angle, velocity = states[..., 0], states[..., 1]
    rest = readings - np.stack([np.tanh(2 * np.sin(angle)), 2 * np.exp(np.cos(angle) - 1) - 1], -1)
    # Stationary from the first reading on; noise counts at lag 0 only, drift at lag k by its decay.
    for lag in (0, 1, 10, 40):
        covariance = (rest[:, lag:] * rest[:, : 51 - lag]).mean()
        expected = 0.3**2 * np.exp(-0.1 * lag / 10) + 0.2**2 * (lag == 0)
        assert covariance == pytest.approx(expected, abs=0.02)
    # What the motor added is found again by the velocity it led to, which depends on it nearly
    # linearly.
    told = rk4_step(angle[:, :-1], velocity[:, :-1], actions[..., 0].astype(np.float64))[1]
    pushed = rk4_step(angle[:, :-1], velocity[:, :-1], actions[..., 0].astype(np.float64) + 1)[1]
    added = (velocity[:, 1:] - told) / (pushed - told)
    assert added.std() == pytest.approx(0.5, rel=0.03) and abs(added.mean()) < 0.02


def test_the_optimum_is_bayes_rule(parts, dataset):
    """Two readings by brute force: a grid of first states, and quadrature over the torque noise."""
    readings, actions, _ = arrays(dataset.test)
    readings, actions = readings[:4, :2].astype(np.float64), actions[:4, :1].astype(np.float64)
    rng = np.random.default_rng(0)
    found = parts.physics_filters.particle_filter(readings, actions, 20_000, rng)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    angle, velocity, noise = np.meshgrid(
        np.linspace(-np.pi, np.pi, 180, endpoint=False), np.linspace(-6, 6, 81), 0.5 * nodes
    )
    decay = np.exp(-0.01)
    drift = 0.09 * np.array([[1, decay], [decay, 1]])
    precision = np.linalg.inv(drift + 0.04 * np.eye(2))
    for episode in range(4):
        moved, faster = rk4_step(angle, velocity, actions[episode, 0, 0] + noise)
        clean = np.stack([parts.cheap_sensor.response(a) for a in (angle, moved)], -2)
        off = readings[episode] - clean
        score = -0.5 * np.einsum("...tc,ts,...sc->...", off, precision, off)
        posterior = weights * np.exp(score - score.max())
        known = np.stack([np.sin(moved), np.cos(moved), faster], -1)
        exact = (posterior[..., None] * known).sum((0, 1, 2)) / posterior.sum()
        np.testing.assert_allclose(found[episode, 1], exact, atol=0.06)


def test_the_extended_filter_agrees_with_a_public_one(parts, dataset):
    from filterpy.kalman import ExtendedKalmanFilter

    readings, actions, _ = arrays(dataset.test)
    found = parts.physics_filters.extended_kalman_filter(readings[:1], actions[:1])[0]
    first = parts.physics_filters._first_belief(readings[:1, 0])
    public = ExtendedKalmanFilter(dim_x=4, dim_z=2)
    public.x, public.P = first.mean[0].numpy(), first.covariance[0].numpy()
    public.R = 0.04 * np.eye(2)
    decay = np.exp(-0.01)

    def move(state, torque):
        return np.array([*rk4_step(state[0], state[1], torque), *(decay * state[2:])])

    def read(state):
        angle = state[0]
        clean = [np.tanh(2 * np.sin(angle)), 2 * np.exp(np.cos(angle) - 1) - 1]
        return np.array(clean) + state[2:]

    def slope(function, point):
        """Central differences, where the example takes a complex step."""
        steps = 1e-6 * np.eye(len(point))
        return np.stack([(function(point + h) - function(point - h)) / 2e-6 for h in steps], -1)

    for t in range(30):
        torque = float(actions[0, t, 0])
        by_noise = slope(lambda u, x=public.x: move(x, u[0]), np.array([torque]))[:, 0]
        wander = np.diag([0, 0, *[0.09 * (1 - decay**2)] * 2])
        public.Q = 0.25 * np.outer(by_noise, by_noise) + wander
        public.F = slope(lambda x, u=torque: move(x, u), public.x)
        public.x = move(public.x, torque)
        public.P = public.F @ public.P @ public.F.T + public.Q
        public.update(readings[0, t + 1].astype(np.float64), lambda x: slope(read, x), read)
        length = np.exp(-0.5 * public.P[0, 0])
        expected = [length * np.sin(public.x[0]), length * np.cos(public.x[0]), public.x[1]]
        np.testing.assert_allclose(found[t + 1], expected, atol=1e-5)


def test_the_model_learns_without_ground_truth(parts, dataset, tmp_path):
    """Training on states that are all wrong gives the same weights."""
    wrong = {
        name: dataclasses.replace(batch, states=torch.full_like(batch.states, 7.0))
        for name, batch in batches(dataset).items()
    }
    lied_to = dataclasses.replace(dataset, splits=wrong)
    worlds = [
        parts.learning.learn(which, tmp_path / str(i), 0, updates=3, progress=False)
        for i, which in enumerate((dataset, lied_to))
    ]
    for ours, theirs in zip(*(world.model.state_dict().values() for world in worlds), strict=True):
        assert torch.equal(ours, theirs)


def test_errors_are_measured_on_the_circle(parts):
    known = np.array([[[np.sin(3.1), np.cos(3.1), 1.0]]])
    guess = np.array([[[2 * np.sin(-3.1), 2 * np.cos(-3.1), 3.0]]])
    errors = parts.comparison.squared_errors(guess, known)
    assert errors["angle"].item() == pytest.approx(np.rad2deg(2 * np.pi - 6.2) ** 2)
    assert errors["velocity"].item() == pytest.approx(4.0)


def test_the_whole_of_it(parts, tmp_path):
    """Two updates teach nothing; what knows the physics is good all the same."""
    measured = parts.software_sensor.main(
        tmp_path, episodes=20, held_out=6, updates=2, particles=200
    )
    assert json.loads((tmp_path / "metrics.json").read_text())["rmse"] == measured["rmse"]
    assert (tmp_path / "software_sensor.png").stat().st_size > 50_000
    for variable in ("sin", "cos", "angle", "velocity"):
        error = {name: each[variable] for name, each in measured["rmse"].items()}
        assert error["optimum"] < 0.5 * min(error["raw"], error["window"], error["learned"])
        # After the warm-up every step counts, and no other.
        course = np.array(measured["course"]["raw"][variable])
        assert np.sqrt((course[30:] ** 2).mean()) == pytest.approx(error["raw"])


def test_the_median_episode_forgives_one_that_was_lost(parts):
    known = np.zeros((5, 40, 3))
    known[..., 1] = 1.0
    guess = known.copy()
    guess[..., 2] = 0.2
    guess[0, :, 2] = 100.0
    measured = parts.comparison.measure({"a": guess}, known)
    assert measured["typical"]["a"]["velocity"] == pytest.approx(0.2)
    assert measured["rmse"]["a"]["velocity"] == pytest.approx(np.sqrt((100**2 + 4 * 0.04) / 5))

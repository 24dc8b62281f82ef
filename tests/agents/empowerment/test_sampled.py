import gymnasium as gym
import numpy as np
import pytest
import torch
from test_gaussian import B, F, H, linear

import envs  # noqa: F401 (registers the environments)
from agents.empowerment import Dynamics, GaussianEmpowerment, Noise, SampledEmpowerment
from agents.empowerment.measured import measured_sampled
from worldmodel.errors import ConfigError

PUSH, INTERVAL, FASTEST = 0.25, 0.1, 1.25


def ball():
    """The shipped ball's physics along both axes, sensed as it is."""

    def step(state, action, noise):
        position, velocity = state[:, :2], (state[:, 2:] + action).clamp(-FASTEST, FASTEST)
        straight = position + INTERVAL * velocity
        bounced = straight.abs() > 1
        position = torch.where(bounced, straight.sign() * 2 - straight, straight)
        return torch.cat([position, torch.where(bounced, -velocity, velocity)], 1)

    limit = torch.full((2,), PUSH)
    return Dynamics(step, lambda state: state, -limit, limit)


@pytest.mark.parametrize("frames", [1, 2])
def test_a_linear_system_has_the_information_of_its_channel(frames):
    """Half the log-determinant of I + C C^T, with the channel C written out."""
    steps, sensor, spread = 3, 0.5, np.diag(linear().scale.numpy().astype(float))
    f, b, h = (m.numpy().astype(float).T for m in (F, B, H))
    rows = []
    for end in range(steps - frames + 1, steps + 1):
        power = [np.linalg.matrix_power(f, end - 1 - t) if t < end else 0 * f for t in range(steps)]
        rows.append(np.hstack([h @ p @ b @ spread for p in power]))
    channel = np.vstack(rows) / sensor
    expected = 0.5 * np.linalg.slogdet(np.eye(len(channel)) + channel @ channel.T)[1]
    estimator = SampledEmpowerment(linear(), steps, Noise(sensor, frames), samples=2000)
    states = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(estimator(states), expected, rtol=0.03)
    capacity = GaussianEmpowerment(linear(), steps, Noise(sensor, frames))(states)
    assert (estimator(states) < 1.03 * capacity).all()


def test_process_noise_hides_actions():
    quiet, loud = (
        SampledEmpowerment(linear(), 3, Noise(0.5, 2, process), samples=400)(torch.zeros(1, 2))
        for process in (0.0, 2.0)
    )
    assert loud < quiet - 0.3


def test_a_wall_that_reflects_takes_choice_away_as_a_jacobian_cannot_see():
    at = torch.tensor([[0.0, 0, 0, 0], [0.5, 0, 0, 0], [0.999, 0, 0, 0], [0.999, 0.999, 0, 0]])
    fitted = SampledEmpowerment(ball(), 10, Noise(0.1))(at)
    assert fitted[0] > fitted[1] > fitted[2] > fitted[3] + 0.3
    linearised = GaussianEmpowerment(ball(), 10, Noise(0.1))(at)
    assert (linearised - linearised[0]).abs().max() < 0.05


def test_the_true_ball_measures_the_same():
    states = np.array([[0.0, 0.0, 0.0, 0.0], [0.9, 0.2, 0.0, 0.3], [-0.4, -0.8, 0.5, 0.0]])
    expected = SampledEmpowerment(ball(), 8, Noise(0.2))(torch.tensor(states).float())
    done = []
    actual = measured_sampled(
        lambda n: gym.make_vec("worldmodel/BouncingBall-v0", num_envs=n, observation="state"),
        states,
        8,
        Noise(0.2),
        progress=done.append,
    )
    np.testing.assert_allclose(actual, expected, atol=1e-3, rtol=1e-3)
    assert done == [3]


def test_states_are_judged_alone_and_by_the_same_draws():
    estimator = SampledEmpowerment(ball(), 4, Noise(0.1), samples=32)
    states = torch.rand(70, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    alone = torch.cat([estimator(row) for row in states.split(1)])
    torch.testing.assert_close(estimator(states), alone, atol=1e-4, rtol=1e-4)
    other = SampledEmpowerment(ball(), 4, Noise(0.1), samples=32, seed=1)
    assert not torch.allclose(estimator(states), other(states), atol=1e-3)


@pytest.mark.parametrize("samples", [33, 16])
def test_too_few_sequences_are_refused(samples):
    with pytest.raises(ConfigError, match=f"above 16, got {samples}"):
        SampledEmpowerment(ball(), 4, Noise(0.1), samples=samples)

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from linear_model import PIXELS, LinearModel
from small import DISCRETE, generator, small_model, tiny_model

from agents.empowerment import Dynamics, GaussianEmpowerment, Noise, dynamics_of, water_filling
from worldmodel.errors import ConfigError, SpecError
from worldmodel.world.world import World

F = torch.tensor([[0.9, 0.3], [-0.2, 1.1]])
B = torch.tensor([[0.5, 0.0], [0.2, 1.0]])
C = torch.tensor([[0.3, 0.0], [0.1, 0.2]])
H = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])


def linear(low=(-1.0, -2.0), high=(3.0, 2.0)):
    """z' = z F + u B + w C; x = z H."""
    return Dynamics(
        lambda z, u, w: z @ F + u @ B + w @ C,
        lambda z: z @ H,
        torch.tensor(low),
        torch.tensor(high),
        noise_size=2,
    )


def brute_force(steps, frames, sensor, process):
    """Channel matrix and noise covariance written out, capacity by numerical water-filling."""
    spread = np.diag((linear().scale).numpy().astype(float))
    f, b, c, h = (m.numpy().astype(float).T for m in (F, B, C, H))
    rows, noise = [], []
    for end in range(steps - frames + 1, steps + 1):
        power = [np.linalg.matrix_power(f, end - 1 - t) if t < end else 0 * f for t in range(steps)]
        rows.append(np.hstack([h @ p @ b @ spread for p in power]))
        noise.append(np.hstack([h @ p @ c * process for p in power]))
    channel, noise = np.vstack(rows), np.vstack(noise)
    covariance = sensor**2 * np.eye(len(channel)) + noise @ noise.T
    gains = np.linalg.eigvalsh(channel.T @ np.linalg.solve(covariance, channel)).clip(1e-12)
    low, high = 0.0, 1e12
    for _ in range(300):
        level = (low + high) / 2
        filled = (level - 1 / gains).clip(0).sum()
        low, high = (level, high) if filled < 2 * steps else (low, level)
    return 0.5 * np.log((low * gains).clip(1)).sum()


@pytest.mark.parametrize("process", [0.0, 0.5])
def test_a_state_of_many_dimensions_has_the_capacity_of_those_that_count(process):
    """Then derivatives are taken along the few columns of the channel, not along all axes."""
    narrow, more = linear(), torch.zeros(60)

    def step(z, u, w):
        return torch.cat([narrow.step(z[:, :2], u, w), z[:, 2:] + more], 1)

    wide = replace(narrow, step=step, observe=lambda z: narrow.observe(z[:, :2]))
    noise = Noise(0.7, 2, process)
    found = GaussianEmpowerment(wide, 3, noise)(torch.zeros(4, 62))
    expected = brute_force(3, 2, 0.7, process)
    torch.testing.assert_close(found, torch.full((4,), expected).float(), atol=1e-3, rtol=1e-3)


def test_a_model_that_chooses_its_states_has_no_channel():
    world = World(small_model("rssm", stochastic="categorical"))
    with pytest.raises(SpecError, match="categorical latents"):
        dynamics_of(world)
    assert dynamics_of(World(small_model("rssm"))).noise_size == 8


def test_the_known_case_of_water_filling():
    assert water_filling(torch.tensor([2.0, 0.5]), 1.0) / math.log(2) == pytest.approx(
        1.161, abs=5e-4
    )


def test_water_filling_of_equal_and_of_drowned_channels():
    assert water_filling(torch.ones(4), 8.0) == pytest.approx(4 * 0.5 * math.log(3), abs=1e-5)
    assert water_filling(torch.tensor([1.0, 0.0, 0.0]), 3.0) == pytest.approx(math.log(2), abs=1e-5)
    assert water_filling(torch.zeros(3), 1.0) == pytest.approx(0.0, abs=1e-6)


def test_water_filling_is_batched_and_differentiable():
    gains = 0.2 + torch.rand(6, 5, generator=generator(), dtype=torch.float64)
    power = torch.linspace(0.1, 9, 6, dtype=torch.float64)
    alone = torch.stack([water_filling(g, p) for g, p in zip(gains, power, strict=True)])
    torch.testing.assert_close(water_filling(gains, power), alone)
    assert torch.autograd.gradcheck(water_filling, (gains.requires_grad_(), power.requires_grad_()))


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("process", [0.0, 0.7])
def test_a_linear_system_has_the_capacity_of_its_channel(steps, frames, process):
    estimator = GaussianEmpowerment(linear(), steps, Noise(0.5, frames, process))
    states = torch.randn(7, 2, generator=generator())
    expected = brute_force(steps, frames, 0.5, process)
    torch.testing.assert_close(
        estimator(states), torch.full((7,), expected, dtype=torch.float32), atol=1e-4, rtol=1e-4
    )


def pendulum(steps_per_action=20, seconds=0.1):
    """The shipped pendulum's equation of motion, sensed as (sin, cos, velocity)."""

    def step(state, action, noise):
        angle, velocity = state.unbind(1)
        h = seconds / steps_per_action
        for _ in range(steps_per_action):
            middle = velocity + h / 2 * (9.81 * angle.sin() - 0.5 * velocity + action[:, 0])
            half = angle + h / 2 * velocity
            angle = angle + h * middle
            velocity = velocity + h * (9.81 * half.sin() - 0.5 * middle + action[:, 0])
        return torch.stack([angle, velocity], 1)

    def observe(state):
        return torch.stack([state[:, 0].sin(), state[:, 0].cos(), state[:, 1]], 1)

    return Dynamics(step, observe, torch.tensor([-5.0]), torch.tensor([5.0]))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (5, (0.79, 0.68, 0.37, 0.33, 0.32)),
        (10, (2.37, 0.79, 0.73, 0.71, 0.72)),
        (15, (4.00, 1.37, 0.95, 1.01, 1.01)),
    ],
)
def test_the_true_pendulum_prefers_upright(steps, expected):
    """Known values: sensor noise 1 on the last (sin, cos, velocity), power 8.3 per step."""
    states = torch.zeros(5, 2)
    states[:, 0] = torch.tensor([0.0, 0.5, math.pi / 2, 2.6, math.pi])
    nats = GaussianEmpowerment(pendulum(), steps, Noise(1.0, frames=1))(states)
    torch.testing.assert_close(nats, torch.tensor(expected), atol=0.03, rtol=0.02)


def test_rows_do_not_see_each_other():
    estimator = GaussianEmpowerment(pendulum(4), 6, Noise(1.0))
    states = torch.randn(5, 2, generator=generator())
    alone = torch.cat([estimator(row) for row in states.split(1)])
    torch.testing.assert_close(estimator(states), alone, atol=1e-5, rtol=1e-5)


def test_it_is_differentiable_in_the_state():
    system = pendulum(2)
    system = replace(system, low=system.low.double(), high=system.high.double())
    estimator = GaussianEmpowerment(system, 4, Noise(1.0))
    states = torch.tensor([[0.3, 0.5], [2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(estimator, (states,), atol=1e-5)


def test_a_model_is_a_system_too():
    world = World(tiny_model().requires_grad_(False))
    states = torch.randn(4, 3, generator=generator())
    nats = GaussianEmpowerment(dynamics_of(world), 4, Noise(0.1, process=1.0))(states)
    assert nats.shape == (4,) and (nats > 0).all()
    louder = GaussianEmpowerment(dynamics_of(world), 4, Noise(0.2, process=1.0))(states)
    assert (louder < nats).all()


def test_pixels_count_as_shares_of_full_brightness():
    world = World(LinearModel(PIXELS).requires_grad_(False))
    estimator = GaussianEmpowerment(dynamics_of(world), 3, Noise(0.1))
    with torch.no_grad():
        nats = estimator(torch.zeros(1, 2))
        world.model.C.mul_(2)
        assert estimator(torch.zeros(1, 2)) > nats


def test_what_cannot_be_is_refused():
    for bad in ({"sensor": 0.0}, {"sensor": math.inf}, {"process": -1.0}, {"frames": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            Noise(**bad)
    with pytest.raises(ConfigError, match="steps must be at least 2"):
        GaussianEmpowerment(linear(), 1, Noise(frames=2))
    with pytest.raises(SpecError, match="Box"):
        dynamics_of(World(tiny_model(actions=DISCRETE)))

from dataclasses import FrozenInstanceError

import gymnasium as gym
import numpy as np
import pytest

from worldmodel.data import PROCESSES, Held, OrnsteinUhlenbeck, Uniform, Zero
from worldmodel.data.babble import describe
from worldmodel.errors import ConfigError, SpecError
from worldmodel.spaces import ActionSpace

REAL = gym.spaces.Box(np.float32([-5, 0]), np.float32([5, 1]))
BOX = ActionSpace.from_space(REAL)


def of(space: gym.Space) -> ActionSpace:
    return ActionSpace.from_space(space)


@pytest.mark.parametrize("process", [kind() for kind in PROCESSES.values()], ids=list(PROCESSES))
def test_actions_lie_in_the_box_with_its_shape_and_dtype(process):
    actions = process.sample(BOX, 50, 40, np.random.default_rng(0))
    assert actions.shape == (50, 40, 2) and actions.dtype == np.float32
    assert (actions >= REAL.low).all() and (actions <= REAL.high).all()
    assert REAL.contains(actions[3, 7])
    # Neither constant nor timid: each process uses most of the range.
    assert (np.ptp(actions, axis=(0, 1)) > 0.9 * (REAL.high - REAL.low)).all()


@pytest.mark.parametrize("process", [kind() for kind in PROCESSES.values()], ids=list(PROCESSES))
def test_the_generator_decides(process):
    first, again, other = (
        process.sample(BOX, 4, 9, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("process", [Uniform(), Held(3)])
def test_discrete_actions_cover_the_space_from_its_start(process):
    actions = process.sample(of(gym.spaces.Discrete(3, start=2)), 60, 10, np.random.default_rng(0))
    assert actions.shape == (60, 10) and np.issubdtype(actions.dtype, np.integer)
    counts = np.bincount(actions.ravel())
    assert len(counts) == 5 and counts[:2].sum() == 0 and (counts[2:] > 100).all()


def test_uniform_moments():
    actions = Uniform().sample(BOX, 400, 100, np.random.default_rng(3))
    width = REAL.high - REAL.low
    # Five standard errors of 40,000 independent draws.
    assert np.allclose(actions.mean((0, 1)), (REAL.low + REAL.high) / 2, atol=5 * width / 693)
    assert np.allclose(actions.std((0, 1)), width / np.sqrt(12), rtol=0.02)


def test_held_actions_change_every_so_many_steps_and_at_any_phase():
    actions = Held(5).sample(BOX, 2000, 23, np.random.default_rng(0))[..., 0]
    changed = actions[:, 1:] != actions[:, :-1]
    assert np.allclose(changed.mean(0), 1 / 5, atol=0.05)  # 5.6 standard errors
    for row in changed[:200]:
        times = np.flatnonzero(row)
        assert times[0] < 5 and (np.diff(times) == 5).all() and times[-1] >= 22 - 5


def test_held_for_one_step_is_never_held():
    actions = Held(1).sample(BOX, 20, 50, np.random.default_rng(0))
    assert (actions[:, 1:] != actions[:, :-1]).all()


def test_ornstein_uhlenbeck_is_stationary_from_the_start():
    process = OrnsteinUhlenbeck(theta=0.3, sigma=0.1)  # far from the bounds: nothing is clipped
    actions = process.sample(BOX, 20000, 12, np.random.default_rng(0)).astype(np.float64)
    unit = (actions - (REAL.low + REAL.high) / 2) / ((REAL.high - REAL.low) / 2)
    assert np.allclose(unit.std(0), 0.1 / np.sqrt(0.6), rtol=0.03)
    assert np.allclose(unit.mean(0), 0, atol=0.005)
    for lag in (1, 4):
        correlation = (unit[:, 6] * unit[:, 6 + lag]).mean(0) / unit[:, 6].var(0)
        assert np.allclose(correlation, np.exp(-0.3 * lag), atol=0.03)


def test_ornstein_uhlenbeck_is_stable_at_any_rate():
    actions = OrnsteinUhlenbeck(theta=50.0, sigma=1.0).sample(
        BOX, 10, 200, np.random.default_rng(0)
    )
    assert np.abs(actions[..., 0]).max() < 5


@pytest.mark.parametrize(
    ("process", "space", "named"),
    [
        (OrnsteinUhlenbeck(), gym.spaces.Discrete(2), r"OrnsteinUhlenbeck.*Discrete\(2\)"),
        (OrnsteinUhlenbeck(), gym.spaces.MultiBinary(3), "OrnsteinUhlenbeck.*MultiBinary"),
        (Zero(), gym.spaces.Discrete(3), r"Zero.*Discrete\(3\).*no control"),
        (Zero(), gym.spaces.Dict({"a": REAL, "b": gym.spaces.MultiDiscrete([2])}), "Zero.*'b'"),
    ],
)
def test_spaces_without_meaning_are_refused(process, space, named):
    with pytest.raises(SpecError, match=named):
        process.sample(of(space), 1, 1, np.random.default_rng(0))


def plain_uniform(space, lead, rng):
    """What was drawn before there were other spaces: recordings of a seed must not change."""
    if isinstance(space, gym.spaces.Discrete):
        return space.start + rng.integers(space.n, size=lead)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return rng.uniform(low, high, (*lead, *low.shape)).astype(space.dtype)


@pytest.mark.parametrize(
    "space", [REAL, gym.spaces.Discrete(4), gym.spaces.Box(-0.1, 0.1, (3,), float)]
)
def test_a_seed_draws_the_same_actions_as_ever(space):
    drawn = Uniform().sample(of(space), 7, 9, np.random.default_rng(5))
    np.testing.assert_array_equal(drawn, plain_uniform(space, (7, 9), np.random.default_rng(5)))
    rng = np.random.default_rng(5)
    blocks = plain_uniform(space, (7, 3 + 1), rng)
    block = (np.arange(9) + rng.integers(4, size=(7, 1))) // 4
    drawn = Held(4).sample(of(space), 7, 9, np.random.default_rng(5))
    np.testing.assert_array_equal(drawn, blocks[np.arange(7)[:, None], block])


def test_smooth_noise_of_a_seed_is_the_same_as_ever():
    drawn = OrnsteinUhlenbeck(0.3, 0.8).sample(BOX, 7, 9, np.random.default_rng(5))
    noise = np.random.default_rng(5).standard_normal((7, 9, 2))
    unit, decay = noise[:, 0], np.exp(-0.3)
    low, high = REAL.low.astype(np.float64), REAL.high.astype(np.float64)
    for t in range(9):
        unit = decay * unit + np.sqrt(1 - decay**2) * noise[:, t] if t else unit
        actions = (low + high) / 2 + (high - low) / 2 * 0.8 / np.sqrt(0.6) * unit
        np.testing.assert_array_equal(drawn[:, t], np.clip(actions, low, high).astype(np.float32))


def test_smooth_noise_beside_choices_and_without_bounds():
    """Each number in a unit of its own; what is no float is drawn afresh at every step."""
    space = gym.spaces.Dict(
        {
            "free": gym.spaces.Box(-np.inf, np.inf, (1,)),
            "from": gym.spaces.Box(3, np.inf, (1,)),
            "gear": gym.spaces.Discrete(3, start=-1),
            "level": gym.spaces.Box(0, 9, (1,), np.int32),
            "wheel": gym.spaces.Box(-2, 2, (1,)),
        }
    )
    process = OrnsteinUhlenbeck(theta=0.3, sigma=0.1)
    actions = process.sample(of(space), 2000, 12, np.random.default_rng(0))
    scale = 0.1 / np.sqrt(0.6)
    for name, centre, unit in (("free", 0, 1), ("from", 4, 1), ("wheel", 0, 2)):
        drawn = actions[name][..., 0].astype(np.float64)
        assert drawn.mean() == pytest.approx(centre, abs=0.02 * unit)
        assert drawn.std() == pytest.approx(scale * unit, rel=0.05)
        lagged = np.corrcoef(drawn[:, 5], drawn[:, 6])[0, 1]
        assert lagged == pytest.approx(np.exp(-0.3), abs=0.05)
    for name, values in (("gear", (-1, 0, 1)), ("level", range(10))):
        drawn = actions[name].reshape(2000, 12)
        assert set(np.unique(drawn)) == set(values)
        assert abs(np.corrcoef(drawn[:, 5], drawn[:, 6])[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Held(0), "Held.steps.*0"),
        (lambda: OrnsteinUhlenbeck(theta=-1.0), "theta.*-1"),
        (lambda: OrnsteinUhlenbeck(sigma=float("nan")), "sigma.*nan"),
    ],
)
def test_settings_out_of_range_are_named(make, named):
    with pytest.raises(ConfigError, match=named):
        make()


def test_description_names_process_and_settings():
    assert describe(Held(7)) == {"name": "held", "steps": 7}
    assert describe(Uniform()) == {"name": "uniform"}

    class Own(Uniform):
        pass

    assert describe(Own())["name"].endswith("Own")
    with pytest.raises(FrozenInstanceError):
        Held(7).steps = 3  # pyright: ignore[reportAttributeAccessIssue] - the point of the test


def test_zero_is_no_control_or_the_nearest_to_it():
    box = gym.spaces.Box(np.float32([-5, 1]), np.float32([5, 2]))
    actions = Zero().sample(of(box), 3, 4, np.random.default_rng(0))
    assert actions.dtype == np.float32 and (actions == np.float32([0, 1])).all()
    switches = Zero().sample(of(gym.spaces.MultiBinary(2)), 3, 4, np.random.default_rng(0))
    assert switches.shape == (3, 4, 2) and (switches == 0).all()

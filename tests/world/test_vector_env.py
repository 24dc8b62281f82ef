import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from small import discrete, vector

from worldmodel.errors import DivergenceError, ResetNeeded, ShapeError, SpecError
from worldmodel.world.dynamics import Dynamics
from worldmodel.world.env import LatentEnv
from worldmodel.world.vector_env import LatentVectorEnv

STARTS = np.float32([[0.2, 0.1], [1.45, -0.2], [-0.4, 0.6], [-1.9, 0.4]])


def same(left, right, path="infos"):
    """Assert that two (nested) infos are equal."""
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            same(left[key], right[key], f"{path}[{key}]")
    elif left.dtype == object:
        for a, b in zip(left, right, strict=True):
            assert (a is None) == (b is None), path
            if a is not None:
                np.testing.assert_allclose(a, b, atol=1e-5, err_msg=path)
    else:
        close = {"rtol": 1e-4, "atol": 1e-5} if left.dtype.kind == "f" else {"rtol": 0}
        np.testing.assert_allclose(left, right, err_msg=path, **close)


@pytest.fixture
def pair(linear):
    """The native vector env and Gymnasium's loop over single ones.

    All first states are the same and the dream has no noise, so that the two must agree whatever
    they draw.
    """

    def make(mode, **kwargs):
        world = linear(alike=True)
        native = LatentVectorEnv(
            world, 4, max_episode_steps=6, autoreset_mode=mode, noise=False, **kwargs
        )

        def single():
            return gym.wrappers.TimeLimit(LatentEnv(world, noise=False, **kwargs), 6)

        return native, SyncVectorEnv([single] * 4, autoreset_mode=mode)

    return make


def reset_each(native, loop):
    """Start the four environments apart from each other."""
    observation, info = native.reset(seed=0, options={"state": STARTS})
    loop.reset(seed=0)
    for i, start in enumerate(STARTS):
        mask = np.arange(4) == i
        expected, _ = loop.reset(options={"state": start, "reset_mask": mask})
    np.testing.assert_array_equal(observation, expected)
    assert not info["outside_support"].any()


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("truncate_outside", [True, False])
def test_vector_equals_single_through_resets(pair, mode, truncate_outside):
    native, loop = pair(mode, truncate_outside=truncate_outside)
    reset_each(native, loop)
    rng = np.random.default_rng(0)
    ends, alone = 0, 0
    for _ in range(40):
        actions = rng.uniform(-1.5, 1.5, (4, 1)).astype(np.float32)
        got, expected = native.step(actions), loop.step(actions)
        for a, b in zip(got[:4], expected[:4], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        same(got[4], expected[4])
        done = got[2] | got[3]
        ends, alone = ends + done.sum(), alone + (done.any() and not done.all())
        if mode is AutoresetMode.DISABLED and done.any():
            got = native.reset(options={"reset_mask": done})
            expected = loop.reset(options={"reset_mask": done.copy()})
            np.testing.assert_allclose(got[0], expected[0], atol=1e-5)
            same(got[1], expected[1])
    assert ends > 12 and alone > 5


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_reset_of_one_does_not_disturb_the_others(world, mode):
    env = LatentVectorEnv(world, 3, max_episode_steps=50, autoreset_mode=mode, noise=False)
    starts = np.float32([[0.2, 0.1], [1.6, 0.0], [-0.3, 0.3]])
    env.reset(seed=0, options={"state": starts})
    actions = np.float32([[0.1], [0.0], [-0.1]])
    states = world.imagine(starts, np.repeat(actions[:, None], 5, 1))
    for t in range(5):
        observations, _, terminations, _, _ = env.step(actions)
        assert terminations.tolist() == [False, t == 0, False]
        np.testing.assert_allclose(observations[[0, 2]], states[[0, 2], t + 1], atol=1e-5)
        if t == 0 and mode is AutoresetMode.DISABLED:
            env.reset(options={"reset_mask": terminations})


@pytest.mark.parametrize(("seed", "ends"), [(1, False), (11, True)])
def test_with_noise_it_is_the_core_under_the_same_draws(world, seed, ends):
    """For as long as an episode lasts: whether one ends is drawn, too, and the next begins anew."""
    env = LatentVectorEnv(world, 5)
    env.reset(seed=seed, options={"state": np.zeros(2)})
    generator = torch.Generator().manual_seed(
        int(np.random.Generator(np.random.PCG64(seed)).integers(2**63 - 1))
    )
    dynamics, state, lasts = Dynamics(world), torch.zeros(5, 2), np.ones(5, np.bool_)
    # Drawn ahead, at least four steps.
    draws = iter(dynamics.draw(env._ahead, 5, generator))
    for _ in range(4):
        action = torch.full((5, 1), 0.2)
        with torch.no_grad():
            step = dynamics.step(state, action, next(draws).T)
        observations, rewards, terminations, *_ = env.step(action.numpy())
        for seen, core in (
            (observations, step.next_state),
            (rewards, step.reward),
            (terminations, step.terminated),
        ):
            np.testing.assert_array_equal(seen[lasts], core.numpy()[lasts])
        lasts &= ~terminations
        state = step.next_state
    assert lasts.all() != ends


def test_dreams_under_one_seed_have_their_own_noise_and_starts(world):
    env = LatentVectorEnv(world, 6)
    observations, _ = env.reset(seed=0)
    assert len(np.unique(observations[:, 0])) == 6
    env.reset(seed=0, options={"state": np.zeros(2)})
    assert len(np.unique(env.step(np.zeros((6, 1), np.float32))[0][:, 0])) == 6


def play(env, seed, steps=30):
    trace = [env.reset(seed=seed)[0]]
    for t in range(steps):
        actions = np.full((env.num_envs, 1), np.sin(t), np.float32)
        trace.append(np.column_stack(env.step(actions)[:4]))
    return np.concatenate([a.ravel() for a in trace])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_seeds_repeat_and_differ(world, mode):
    def make():
        return LatentVectorEnv(world, 8, max_episode_steps=9, autoreset_mode=mode)

    one = make()
    np.testing.assert_array_equal(play(one, 1), play(make(), 1))
    np.testing.assert_array_equal(play(one, 1), play(one, 1))
    assert not np.array_equal(play(one, 1), play(one, 2))


def copies(result):
    """Deep copies of every array in a result, to compare with later."""
    if isinstance(result, dict):
        return {key: copies(value) for key, value in result.items()}
    if isinstance(result, tuple):
        return tuple(copies(value) for value in result)
    return (
        np.array([None if a is None else a.copy() for a in result], object)
        if (result.dtype == object)
        else result.copy()
    )


def arrays(result):
    """Every array in a result."""
    if isinstance(result, np.ndarray):
        return (
            [result, *(a for a in result if a is not None)] if result.dtype == object else [result]
        )
    values = result.values() if isinstance(result, dict) else result
    return [array for value in values for array in arrays(value)]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_returned_arrays_are_never_written_again(world, mode):
    env = LatentVectorEnv(world, 4, max_episode_steps=3, autoreset_mode=mode)
    results = [env.reset(seed=0)]
    kept = [copies(results[0])]
    for _ in range(8):
        results.append(env.step(np.ones((4, 1), np.float32)))
        kept.append(copies(results[-1]))
        done = results[-1][2] | results[-1][3]
        if mode is AutoresetMode.DISABLED and done.any():
            results.append(env.reset(options={"reset_mask": done}))
            kept.append(copies(results[-1]))
    for result, before in zip(results, kept, strict=True):
        for a, b in zip(arrays(result), arrays(before), strict=True):
            if a.dtype != object:
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_what_callers_write_into_results_has_no_effect(world, mode):
    def run(vandal):
        env = LatentVectorEnv(world, 4, max_episode_steps=3, autoreset_mode=mode)
        trace, result = [], env.reset(seed=0)
        for _ in range(8):
            done = np.zeros(4, bool) if len(result) == 2 else result[2] | result[3]
            if vandal:
                for array in arrays(result):
                    array[...] = None if array.dtype == object else 1
            if mode is AutoresetMode.DISABLED and done.any():
                env.reset(options={"reset_mask": done})
            result = env.step(np.zeros((4, 1), np.float32))
            trace.append(np.column_stack(copies(result[:4])))
        return np.stack(trace)

    np.testing.assert_array_equal(run(True), run(False))


def test_callers_actions_and_options_are_left_alone(world):
    env = LatentVectorEnv(world, 2)
    mask, start = np.array([True, True]), np.zeros((2, 2), np.float32)
    options = {"reset_mask": mask, "state": start}
    env.reset(options=options)
    assert set(options) == {"reset_mask", "state"} and (start == 0).all()
    actions = np.full((2, 1), 5.0, np.float32)
    actions.flags.writeable = False
    env.step(actions)
    assert (start == 0).all()


def test_outside_the_support_truncates_and_says_so(world):
    env = LatentVectorEnv(world, 3, noise=False)
    start = np.float32([[0.1, 0.1], [-30, 0], [0.2, 0]])
    _, infos = env.reset(options={"state": start})
    assert infos["outside_support"].tolist() == [False, True, False]
    observations, rewards, _, truncations, infos = env.step(np.zeros((3, 1), np.float32))
    assert truncations.tolist() == infos["outside_support"].tolist() == [False, True, False]
    assert rewards[1] == -4.0 and (rewards[[0, 2]] > -1).all()
    assert observations in env.observation_space


def test_time_limit_counts_from_each_ones_own_reset(world):
    env = LatentVectorEnv(world, 2, max_episode_steps=4, autoreset_mode="Disabled", noise=False)
    env.reset(options={"state": np.zeros(2)})
    zeros, ends = np.zeros((2, 1), np.float32), []
    for t in range(6):
        if t == 2:
            mask = np.array([False, True])
            env.reset(options={"reset_mask": mask, "state": np.zeros(2)})
        ends.append(env.step(zeros)[3])
        if ends[-1].any() and t < 5:
            env.reset(options={"reset_mask": ends[-1], "state": np.zeros(2)})
    assert np.array(ends).T.tolist() == [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]]


def test_disabled_refuses_to_go_on_with_ended_episodes(world):
    env = LatentVectorEnv(world, 2, max_episode_steps=1, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.step(np.zeros((2, 1), np.float32))
    with pytest.raises(ResetNeeded, match=r"\[0, 1\]"):
        env.step(np.zeros((2, 1), np.float32))
    env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=r"\[1\]"):
        env.step(np.zeros((2, 1), np.float32))


@pytest.mark.parametrize(
    "mask",
    [[True, False], np.array([1, 0]), np.array([True]), np.array([False, False])],
    ids=["list", "int", "short", "empty"],
)
def test_unusable_reset_masks_are_refused(world, mask):
    env = LatentVectorEnv(world, 2)
    env.reset(seed=0)
    with pytest.raises(ShapeError, match="reset_mask"):
        env.reset(options={"reset_mask": mask})


@pytest.mark.parametrize(
    "actions",
    [
        np.zeros((2, 1), np.float32),
        np.zeros(3, np.float32),
        np.float32([[0], [np.nan], [0]]),
        np.array([["a"]] * 3),
        None,
    ],
    ids=["few", "flat", "nan", "text", "none"],
)
def test_unusable_actions_are_refused(world, actions):
    env = LatentVectorEnv(world, 3)
    env.reset(seed=0)
    with pytest.raises(InvalidAction):
        env.step(actions)


def test_discrete_actions(linear):
    env = LatentVectorEnv(linear(action_spec=discrete(3)), 3, noise=False)
    env.reset(options={"state": np.zeros(2)})
    observations, *_ = env.step(np.array([0, 1, 2]))
    np.testing.assert_allclose(observations[:, 0], [0.3, 0.6, 0.9], atol=1e-6)
    assert env.action_space == gym.spaces.MultiDiscrete([3, 3, 3])
    with pytest.raises(InvalidAction):
        env.step(np.array([0, 1, 3]))


def test_frames_start_dreams_one_for_all_or_one_for_each(world):
    env = LatentVectorEnv(world, 3)
    latents = np.float32([[0.5, 0.0], [0.0, 0.5], [-0.5, 0.2]])
    frames, none = world.decode(latents)[:, None], np.zeros((3, 0, 1), np.float32)
    observations, _ = env.reset(options={"observations": frames, "actions": none})
    np.testing.assert_allclose(observations, latents, atol=0.02)
    observations, _ = env.reset(options={"observations": frames[1]})
    np.testing.assert_allclose(observations, latents[[1, 1, 1]], atol=0.02)
    with pytest.raises(ShapeError, match="observations must have"):
        env.reset(options={"observations": frames[:2]})


def test_using_it_before_reset_is_refused(world):
    env = LatentVectorEnv(world, 2, render_mode="rgb_array")
    some = {"reset_mask": np.array([True, False])}
    zeros = np.zeros((2, 1), np.float32)
    for use in (lambda: env.step(zeros), env.render, lambda: env.reset(options=some)):
        with pytest.raises(ResetNeeded):
            use()


def test_a_diverged_model_raises(world):
    env = LatentVectorEnv(world, 2)
    env.reset(seed=0)
    world.model.reward = lambda state, action, next_state: torch.tensor([0.0, torch.nan])
    with pytest.raises(DivergenceError, match=r"\[1\]"):
        env.step(np.zeros((2, 1), np.float32))


@pytest.mark.parametrize("rewards", [[3e38, 3e38], [-3e38, -3e38]])
def test_what_is_finite_may_have_a_sum_that_is_not(world, rewards):
    world.model.reward = lambda state, action, next_state: torch.tensor(rewards)
    world.model.reward_range = -torch.inf, torch.inf
    env = LatentVectorEnv(world, 2)
    env.reset(seed=0)
    assert env.step(np.zeros((2, 1), np.float32))[1].tolist() == pytest.approx(rewards)


@pytest.mark.parametrize("bad", [[torch.nan, 0.0], [torch.inf, 0.0], [torch.inf, -torch.inf]])
def test_a_state_that_diverged_raises_whatever_its_reward(world, bad):
    env = LatentVectorEnv(world, 3)
    env.reset(seed=0)
    env.model.transition = lambda state, action, noise: torch.tensor([[0.0, 0.0], bad, [0.1, 0.1]])
    env.model.reward = lambda state, action, next_state: -torch.ones(3)
    with pytest.raises(DivergenceError, match=r"\[1\]"):
        env.step(np.zeros((3, 1), np.float32))


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
        ({"autoreset_mode": "sometimes"}, "NextStep.*sometimes"),
        ({"render_mode": "human"}, "rgb_array"),
    ],
)
def test_unusable_arguments_are_refused(world, kwargs, match):
    with pytest.raises(SpecError, match=match):
        LatentVectorEnv(world, **kwargs)


def test_vectors_are_drawn_as_bars(linear):
    world = linear(observation_spec=vector(6))
    env = LatentVectorEnv(world, 2, render_mode="rgb_array")
    env.reset(options={"state": np.float32([[0.8, -0.8], [-0.8, 0.8]])})
    left, right = env.render()
    assert left.shape == right.shape and (left != right).any()
    alone = LatentEnv(world, render_mode="rgb_array")
    alone.reset(options={"state": np.float32([0.8, -0.8])})
    np.testing.assert_array_equal(left, alone.render())


def test_an_unfitted_support_is_refused(linear):
    with pytest.raises(SpecError, match="fit it first"):
        LatentVectorEnv(linear(support=None))


def test_made_by_id_with_its_spec_as_json(checkpoint):
    env = gym.make_vec(
        "worldmodel/Latent-v0", num_envs=3, checkpoint=checkpoint, autoreset_mode="SameStep"
    )
    assert isinstance(env, LatentVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert "autoreset_mode" not in LatentVectorEnv.metadata
    text = env.spec.to_json()
    assert json.loads(text)["kwargs"]["max_episode_steps"] == 200
    again = gym.make_vec(gym.envs.registration.EnvSpec.from_json(text))
    assert again.num_envs == 3
    np.testing.assert_array_equal(play(env, 4, 5), play(again, 4, 5))
    single = gym.make("worldmodel/Latent-v0", checkpoint=checkpoint)
    assert single.observation_space == env.single_observation_space
    assert single.action_space == env.single_action_space


def test_rendering_shows_every_dream(world):
    env = LatentVectorEnv(world, 2, render_mode="rgb_array")
    env.reset(options={"state": np.float32([[0.8, 0], [-0.8, 0]])})
    left, right = env.render()
    assert left.shape == (256, 256, 3) and left[0, 0, 0] > right[0, 0, 0] + 50
    assert LatentVectorEnv(world).render() is None


@pytest.mark.parametrize("name", ["pendulum", "ball"])
def test_how_actions_lie_in_memory_does_not_matter(name):
    results = []
    env = LatentVectorEnv(name, 40, noise=False)
    env.action_space.seed(0)
    actions = env.action_space.sample()
    spaced = np.repeat(actions, 2, 0)[::2]
    for given in (actions, np.asfortranarray(actions), spaced, actions.astype(np.float64)):
        env.reset(seed=0)
        results.append(env.step(given)[0])
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])

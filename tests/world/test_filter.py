import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from worldmodel.errors import SpecError
from worldmodel.types import ActionSpec, ObservationSpec
from worldmodel.world.env import LatentEnv
from worldmodel.world.filter import FilterObservation, VectorFilterObservation
from worldmodel.world.vector_env import LatentVectorEnv


def test_reality_has_the_dreams_spaces(world, real, real_vector):
    seen, dream = FilterObservation(real(), world), LatentEnv(world)
    assert seen.observation_space == dream.observation_space
    assert seen.action_space == dream.action_space
    vector = VectorFilterObservation(real_vector(3, AutoresetMode.NEXT_STEP), world)
    dreams = LatentVectorEnv(world, 3)
    assert vector.observation_space == dreams.observation_space
    assert vector.single_observation_space == dream.observation_space
    assert vector.action_space == dreams.action_space


def test_single_is_the_models_filter_from_one_frame_on(world, real):
    world, twin = FilterObservation(real(), world), real()
    actions = np.float32([[0.3], [-0.6], [2.0]])
    means, scales = [], []
    observation, info = world.reset(seed=2)
    frames = [twin.reset(seed=2)[0]]
    means.append(observation), scales.append(info["belief_scale"])
    for action in actions:
        observation, _, terminated, _, info = world.step(action)
        frames.append(twin.step(action)[0])
        means.append(observation), scales.append(info["belief_scale"])
        assert not terminated and "state" in info
    frames = np.stack(frames)
    expected = world.filter(frames[None], actions.clip(-1, 1)[None])[0]
    np.testing.assert_allclose(means, expected, atol=1e-6)
    np.testing.assert_allclose(means[-1], twin.unwrapped.state, atol=0.03)
    np.testing.assert_allclose(scales[:2], [[0.5, 0.5], [0.35, 0.35]], atol=1e-6)


def test_beliefs_outside_are_clipped_into_the_box(linear, real):
    narrow = linear(support=0.02)
    world = FilterObservation(real(), narrow)
    observation, _ = world.reset(seed=0)
    assert observation in world.observation_space
    assert np.abs(world.unwrapped.state).max() > np.abs(world.observation_space.high).max()


class Reference:
    """N single filters and the bookkeeping of one autoreset mode, written as a plain loop."""

    def __init__(self, real, world, n, mode):
        self.envs = [FilterObservation(real(), world) for _ in range(n)]
        self.mode, self.done = mode, [False] * n

    def reset(self, seed, mask=None):
        return [
            env.reset(seed=None if seed is None else seed + i) if mask is None or mask[i] else None
            for i, env in enumerate(self.envs)
        ]

    def step(self, actions):
        results = []
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            if self.mode is AutoresetMode.NEXT_STEP and self.done[i]:
                results.append((*env.reset(), None))
                self.done[i] = False
                continue
            observation, _, terminated, truncated, info = env.step(action)
            self.done[i] = terminated or truncated
            final = None
            if self.mode is AutoresetMode.SAME_STEP and self.done[i]:
                final = (observation, info)
                observation, info = env.reset()
            results.append((observation, info, final))
        return results


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_vector_equals_single_through_resets(world, real, real_vector, mode):
    vector = VectorFilterObservation(real_vector(4, mode), world)
    loop = Reference(real, world, 4, mode)
    observations, infos = vector.reset(seed=7)
    expected = loop.reset(7)
    np.testing.assert_allclose(observations, [o for o, _ in expected], atol=1e-6)
    assert infos["belief_scale"].shape == (4, 2) and infos["_belief_scale"].all()
    rng, ends, alone = np.random.default_rng(1), 0, 0
    for _ in range(20):
        actions = rng.uniform(-1, 1, (4, 1)).astype(np.float32)
        observations, _, terminations, truncations, infos = vector.step(actions)
        expected = loop.step(actions)
        np.testing.assert_allclose(observations, [r[0] for r in expected], atol=1e-5)
        scales = [r[1]["belief_scale"] for r in expected]
        np.testing.assert_allclose(infos["belief_scale"], scales, atol=1e-6)
        done = terminations | truncations
        ends, alone = ends + done.sum(), alone + (done.any() and not done.all())
        for i in np.flatnonzero(done) if mode is AutoresetMode.SAME_STEP else ():
            np.testing.assert_allclose(infos["final_obs"][i], expected[i][2][0], atol=1e-5)
            np.testing.assert_allclose(
                infos["final_info"]["belief_scale"][i], expected[i][2][1]["belief_scale"]
            )
            assert infos["_final_info"][i] and infos["final_info"]["_belief_scale"][i]
        if mode is AutoresetMode.DISABLED and done.any():
            observations, infos = vector.reset(options={"reset_mask": done.copy()})
            for i, result in enumerate(loop.reset(None, done)):
                if result is not None:
                    np.testing.assert_allclose(observations[i], result[0], atol=1e-6)
            np.testing.assert_array_equal(infos["_belief_scale"], done)
    assert ends > 6 and alone > 2


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_pendulums_seen_through_the_filter(linear, mode):
    spec, actions = ObservationSpec((16, 16, 1), True), ActionSpec("box", (-5.0,), (5.0,))
    world = linear(observation_spec=spec, action_spec=actions)

    def make():
        return gym.make("envs:worldmodel/Pendulum-v0", max_episode_steps=3)

    native = gym.make_vec(
        "envs:worldmodel/Pendulum-v0", num_envs=3, max_episode_steps=3, autoreset_mode=mode
    )
    vector, loop = VectorFilterObservation(native, world), Reference(make, world, 3, mode)
    observations, _ = vector.reset(seed=0)
    np.testing.assert_allclose(observations, [o for o, _ in loop.reset(0)], atol=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(9):
        torques = rng.uniform(-6, 6, (3, 1)).astype(np.float32)
        observations, _, _, truncations, infos = vector.step(torques)
        expected = loop.step(torques)
        np.testing.assert_allclose(observations, [r[0] for r in expected], atol=1e-5)
        if truncations.any() and mode is AutoresetMode.SAME_STEP:
            finals = [result[2][0] for result in expected]
            np.testing.assert_allclose(np.stack(infos["final_obs"]), finals, atol=1e-5)
        if truncations.any() and mode is AutoresetMode.DISABLED:
            observations, _ = vector.reset(options={"reset_mask": truncations.copy()})
            again = loop.reset(None, truncations)
            np.testing.assert_allclose(observations, [o for o, _ in again], atol=1e-5)


def test_vector_results_are_the_callers(world, real_vector):
    def run(vandal):
        env = VectorFilterObservation(real_vector(2, AutoresetMode.SAME_STEP), world)
        result, trace = env.reset(seed=0), []
        for _ in range(6):
            trace.append(result[0].copy())
            if vandal:
                result[0][:] = 9
                result[-1]["belief_scale"][:] = 9
            result = env.step(np.full((2, 1), 0.1, np.float32))
        return np.stack(trace)

    np.testing.assert_array_equal(run(True), run(False))


def test_the_vector_filter_serves_a_masked_reset_in_next_step_mode(world, real_vector):
    env = VectorFilterObservation(real_vector(2, AutoresetMode.NEXT_STEP), world)
    env.reset(seed=0)
    for _ in range(4):
        _, _, terminations, truncations, _ = env.step(np.zeros((2, 1), np.float32))
    assert (terminations | truncations).all()
    env.reset(options={"reset_mask": np.array([True, False])})
    _, _, _, _, infos = env.step(np.zeros((2, 1), np.float32))
    np.testing.assert_allclose(infos["belief_scale"], [[0.35, 0.35], [0.5, 0.5]], atol=1e-6)


def test_an_agent_made_in_the_dream_runs_in_reality(world, real):
    dream, world = LatentEnv(world), FilterObservation(real(), world)
    for env in (dream, world):
        observation, _ = env.reset(seed=0)
        action = np.clip(-observation[:1], -1, 1)
        assert env.step(action)[0].shape == observation.shape


def test_a_checkpoint_name_serves_and_the_spec_keeps_it(checkpoint, real, world):
    gym.register(id="test/Real-v0", entry_point=lambda: real().unwrapped)
    try:
        env = FilterObservation(gym.make("test/Real-v0"), checkpoint)
        assert env.spec.additional_wrappers[-1].kwargs == {"model": checkpoint}
        assert env.reset(seed=0)[0] in env.observation_space
    finally:
        del gym.registry["test/Real-v0"]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"observation_spec": ObservationSpec((5, 5, 1), True)}, r"\(4, 4, 1\).*\(5, 5, 1\)"),
        ({"observation_spec": ObservationSpec((6,), False)}, r"\(4, 4, 1\).*\(6,\)"),
        ({"action_spec": ActionSpec("box", (-2.0,), (2.0,))}, r"1\.0.*2\.0"),
        ({"action_spec": ActionSpec("discrete", (0.0,) * 2, (1.0,) * 2)}, "box.*discrete"),
        ({"support": None}, "fit it first"),
    ],
)
def test_a_model_of_another_world_is_refused(linear, real, real_vector, changed, match):
    with pytest.raises(SpecError, match=match):
        FilterObservation(real(), linear(**changed))
    with pytest.raises(SpecError, match=match):
        VectorFilterObservation(real_vector(2, AutoresetMode.NEXT_STEP), linear(**changed))


def test_an_unmodelled_space_and_an_undeclared_mode_are_refused(world, real, real_vector):
    with pytest.raises(SpecError, match="cannot model"):
        FilterObservation(gym.wrappers.FrameStackObservation(real(), 2), world)
    env = real_vector(2, AutoresetMode.NEXT_STEP)
    env.metadata = {}
    with pytest.raises(SpecError, match="autoreset_mode"):
        VectorFilterObservation(env, world)


def test_refused_actions_leave_the_belief_alone(linear):
    spec, actions = ObservationSpec((16, 16, 1), True), ActionSpec("box", (-5.0,), (5.0,))
    world = linear(observation_spec=spec, action_spec=actions)
    results = []
    for disturbed in (True, False):
        world = FilterObservation(gym.make("envs:worldmodel/Pendulum-v0"), world)
        world.reset(seed=0)
        for action in (np.float32([np.nan]), np.zeros((3, 3), np.float32)) if disturbed else ():
            with pytest.raises(gym.error.InvalidAction):
                world.unwrapped.step(action)
            with pytest.raises((gym.error.InvalidAction, AssertionError)):
                world.step(action)
        results.append(world.step(np.float32([1.0]))[0])
    np.testing.assert_array_equal(*results)

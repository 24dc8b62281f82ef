import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from small import (
    BOX,
    DISCRETE,
    PIXELS,
    SEVERAL,
    VECTOR,
    box,
    discrete,
    generator,
    pixels,
    random_batch,
    small_model,
    vector,
)
from test_trust import trusting

from worldmodel.errors import ResetNeeded, ShapeError, SpecError
from worldmodel.models.codec import CodecConfig
from worldmodel.models.dvbf_config import RecognitionConfig, TransitionConfig
from worldmodel.spaces import ObservationSpace, map_arrays
from worldmodel.spaces.observations import ROOT
from worldmodel.types import to_numpy
from worldmodel.world.beliefs import Filter
from worldmodel.world.consistency import innovations
from worldmodel.world.env import LatentEnv
from worldmodel.world.filter import FilterObservation, VectorFilterObservation
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World, load


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
    env, twin = FilterObservation(real(), world), real()
    actions = np.float32([[0.3], [-0.6], [2.0]])
    means, scales = [], []
    observation, info = env.reset(seed=2)
    frames = [twin.reset(seed=2)[0]]
    means.append(observation), scales.append(info["belief_scale"])
    for action in actions:
        observation, _, terminated, _, info = env.step(action)
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
    env = FilterObservation(real(), narrow)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    assert np.abs(env.unwrapped.state).max() > np.abs(env.observation_space.high).max()


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
    world = linear(observation_spec=pixels(16, 16), action_spec=box(-5.0, 5.0))

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


@pytest.mark.parametrize("mask", ["abc", [True, False], np.array([1, 0]), np.zeros(2, np.bool_)])
def test_an_unusable_reset_mask_is_refused(world, real_vector, mask):
    env = VectorFilterObservation(real_vector(2, AutoresetMode.DISABLED), world)
    env.reset(seed=0)
    with pytest.raises(ShapeError, match="reset_mask"):
        env.reset(options={"reset_mask": mask})


def test_an_agent_made_in_the_dream_runs_in_reality(world, real):
    dream, filtered = LatentEnv(world), FilterObservation(real(), world)
    for env in (dream, filtered):
        observation, _ = env.reset(seed=0)
        action = np.clip(-observation[:1], -1, 1)
        assert env.step(action)[0].shape == observation.shape


def test_a_checkpoint_name_serves_and_the_spec_keeps_it(checkpoint, real, world):
    gym.register(id="test/Real-v0", entry_point=lambda: real().unwrapped)
    try:
        env = FilterObservation(gym.make("test/Real-v0"), checkpoint)
        assert env.spec.additional_wrappers[-1].kwargs == {"world": checkpoint}
        for named in (Path(checkpoint), load(checkpoint)):
            plain = FilterObservation(gym.make("test/Real-v0"), named).spec.additional_wrappers
            assert json.loads(json.dumps(plain[-1].kwargs)) == {"world": checkpoint}
        made_here = FilterObservation(gym.make("test/Real-v0"), world).spec.additional_wrappers
        assert made_here[-1].kwargs == {"world": world}
        assert env.reset(seed=0)[0] in env.observation_space
    finally:
        del gym.registry["test/Real-v0"]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"observation_spec": pixels(5, 5)}, "4 . 4 . 1 pixels.*5 . 5 . 1 pixels"),
        ({"observation_spec": vector(6)}, "4 . 4 . 1 pixels.*6 numbers"),
        ({"action_spec": box(-2.0, 2.0)}, r"1\.0.*2\.0"),
        ({"action_spec": discrete(2)}, r"Box.*Discrete\(2\)"),
        ({"support": None}, "fit it first"),
    ],
)
def test_a_model_of_another_world_is_refused(linear, real, real_vector, changed, match):
    with pytest.raises(SpecError, match=match):
        FilterObservation(real(), linear(**changed))
    with pytest.raises(SpecError, match=match):
        VectorFilterObservation(real_vector(2, AutoresetMode.NEXT_STEP), linear(**changed))


def test_an_unmodelled_space_and_an_undeclared_mode_are_refused(world, real, real_vector):
    with pytest.raises(SpecError, match=r"4 . 4 . 2 pixels.*4 . 4 . 1 pixels"):
        FilterObservation(gym.wrappers.FrameStackObservation(real(), 2), world)
    spoken = gym.wrappers.TransformObservation(real(), str, gym.spaces.Text(9))
    with pytest.raises(SpecError, match="Text"):
        FilterObservation(spoken, world)
    env = real_vector(2, AutoresetMode.NEXT_STEP)
    env.metadata = {}
    with pytest.raises(SpecError, match="autoreset_mode"):
        VectorFilterObservation(env, world)


def test_refused_actions_leave_the_belief_alone(linear):
    world = linear(observation_spec=pixels(16, 16), action_spec=box(-5.0, 5.0))
    results = []
    for disturbed in (True, False):
        env = FilterObservation(gym.make("envs:worldmodel/Pendulum-v0"), world)
        env.reset(seed=0)
        for action in (np.float32([np.nan]), np.zeros((3, 3), np.float32)) if disturbed else ():
            with pytest.raises(gym.error.InvalidAction):
                env.unwrapped.step(action)
            with pytest.raises((gym.error.InvalidAction, AssertionError)):
                env.step(action)
        results.append(env.step(np.float32([1.0]))[0])
    np.testing.assert_array_equal(*results)


class Shows(gym.Env):
    """Shows first one thing and then another."""

    def __init__(self, space, first, then):
        self.observation_space, self.action_space = space, BOX.space()
        self.first, self.then = first, then

    def reset(self, *, seed=None, options=None):
        return self.first, {}

    def step(self, action):
        return self.then, 0.0, False, False, {}


SHOWN = {
    "int for int8": (gym.spaces.Discrete(4, dtype=np.int8), np.int8(2), 2),
    "float for float32": (gym.spaces.Box(-5, 5, (), np.float32), np.float32(0.5), 0.5),
    "double for float32": (gym.spaces.Box(-5, 5, ()), np.float32(0.5), np.float64(0.5)),
    "list": (gym.spaces.Box(-5, 5, (2,)), np.float32([1, 2]), [1.0, 2.0]),
    "switches": (gym.spaces.MultiBinary(2), np.int8([0, 1]), [False, True]),
    "tuple": (
        gym.spaces.Tuple((gym.spaces.Discrete(3), gym.spaces.Box(-1, 1, (2,)))),
        (np.int64(1), np.float32([0, 1])),
        [1, (0.0, 1.0)],
    ),
}


def one_and_two(space, first, then, world):
    """A filter's means of one environment, and of two at once."""
    one = FilterObservation(Shows(space, first, then), world)
    two = VectorFilterObservation(SyncVectorEnv([lambda: Shows(space, first, then)] * 2), world)
    action = np.float32([0.5, 0.5])
    return (
        lambda: (one.reset()[0], one.step(action)[0]),
        lambda: (two.reset()[0][0], two.step(np.stack([action] * 2))[0][0]),
    )


@pytest.mark.filterwarnings("ignore:.*Casting input x")
@pytest.mark.parametrize(("space", "plain", "shown"), SHOWN.values(), ids=SHOWN)
def test_a_filter_takes_what_is_in_the_space_as_a_recorder_does(space, plain, shown):
    assert space.contains(shown)
    world = covered(small_model("dvbf", ObservationSpace.from_space(space), BOX))
    for other, usual in zip(
        one_and_two(space, shown, shown, world),
        one_and_two(space, plain, plain, world),
        strict=True,
    ):
        np.testing.assert_array_equal(other(), usual())


REFUSED_FRAMES = {
    "double": (np.zeros(3), "float32, got float64"),
    "integers": (np.zeros(3, np.int64), "float32, got int64"),
    "shape": (np.zeros(2, np.float32), r"of shape \(3,\), got \(2,\)"),
    "batch": (np.zeros((1, 3), np.float32), r"of shape \(3,\), got \(1, 3\)"),
    "text": ("here", "float32, got"),
    "nothing": (None, "float32, got object"),
    "dictionary": ({"a": 1}, "float32, got object"),
    "NaN": (np.full(3, np.nan, np.float32), "finite, got nan"),
}


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("frame", "match"), REFUSED_FRAMES.values(), ids=REFUSED_FRAMES)
def test_what_breaks_the_space_is_believed_by_no_filter(frame, match, later):
    space, world = VECTOR.space(), covered(small_model("dvbf", VECTOR, BOX))
    first = np.zeros(3, np.float32) if later else frame
    for use in one_and_two(space, first, frame, world):
        with pytest.raises(ShapeError, match=match):
            use()


class Ends(gym.vector.VectorEnv):
    """A native vector environment whose episodes end at once, and what it gives of their ends."""

    def __init__(self, infos):
        self.num_envs, self.infos = 2, infos
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = VECTOR.space(), BOX.space()
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, 2)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, 2)

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 3), np.float32), {}

    def step(self, actions):
        ended = np.array([True, False])
        return np.zeros((2, 3), np.float32), np.zeros(2), ended, ~ended & False, self.infos


@pytest.mark.parametrize(
    ("infos", "error", "match"),
    [
        ({}, SpecError, "final_obs"),
        ({"final_obs": np.array([None, None])}, ShapeError, "float32, got object"),
        ({"final_obs": [np.zeros(3), None]}, ShapeError, "float32, got float64"),
    ],
)
def test_last_frames_that_are_missing_or_broken_are_refused(infos, error, match):
    env = VectorFilterObservation(Ends(infos), covered(small_model("dvbf", VECTOR, BOX)))
    env.reset()
    with pytest.raises(error, match=match):
        env.step(np.zeros((2, 2), np.float32))


def test_both_filters_say_whether_they_are_compiled(world, real, real_vector):
    vector = VectorFilterObservation(real_vector(2, AutoresetMode.NEXT_STEP), world)
    assert vector.compiled == FilterObservation(real(), world).compiled
    assert "LinearModel offers no compiled form" in vector.compiled


FUSION = RecognitionConfig("fusion")
FILTERS = [
    ("dvbf", {}),
    ("dvbf", {"recognition": FUSION}),
    (
        "dvbf",
        {
            "recognition": FUSION,
            "transition": TransitionConfig(noise_floor=0.1, bound=1.0, gate="factorial"),
        },
    ),
    ("dvbf", {"transition": TransitionConfig("mlp"), "recognition": FUSION}),
    ("dvbf", {"codec": CodecConfig(depth=3), "transition": TransitionConfig("mlp", bound=0.5)}),
    ("dkf", {}),
    ("rssm", {}),
    ("e2c", {}),
]


@pytest.mark.parametrize("observations", [PIXELS, VECTOR], ids=["pixels", "vector"])
@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize(("name", "changes"), FILTERS, ids=str)
def test_a_compiled_filter_is_the_models(name, changes, observations, actions):
    model = small_model(name, observations, actions, **changes).requires_grad_(False)
    batch = random_batch(observations, actions, size=2, steps=12)
    compare_filters(model, batch)


# Map coordinates: single precision resolves an eighth of them.
FAR = ObservationSpace.from_space(gym.spaces.Box(-np.inf, np.inf, (3,), np.float64))


@pytest.mark.parametrize(
    ("observations", "codec"),
    [
        (SEVERAL, CodecConfig("dense", waves=4)),
        (SEVERAL, CodecConfig(encoder="components", components=5)),
        (PIXELS, CodecConfig("dense", emission="bernoulli", depth=2)),
        (FAR, CodecConfig()),
    ],
    ids=["several", "components", "bernoulli", "far"],
)
@pytest.mark.parametrize("changes", [{}, {"recognition": FUSION, "visible_size": 2}], ids=str)
def test_filters_of_every_stream_are_compiled(observations, codec, changes):
    kind = {"codec": codec, **changes}
    model = small_model("dvbf", observations, BOX, **kind).requires_grad_(False)
    batch = random_batch(observations, BOX, size=2, steps=12)
    if observations is FAR:
        batch = replace(batch, observations=batch.observations + 1e6)
    compare_filters(model, batch)


def compare_filters(model, batch):
    """Compiled filters of one environment and of many against the model's own, step by step."""
    observations, actions = model.observation_spec, model.action_spec
    model.calibrate(batch)
    world = trusting(covered(model, margin=9.0))
    world.trust.surprise.fill_(torch.inf)  # or beliefs would begin anew
    world.trust.variance.abs_().add_(0.1)
    spaces = observations.space(), actions.space()
    one, many = Filter(world, *spaces, ()), Filter(world, *spaces, (2,))
    assert one.compiled is True and many.compiled is True
    expected = model.filter_beliefs(batch.observations, batch.actions)
    close = dict(rtol=2e-3, atol=2e-4)
    for t in range(13):
        recorded = to_numpy(batch.observations[:, t])
        frames = observations.write(recorded if isinstance(recorded, dict) else {ROOT: recorded})
        first = map_arrays(lambda array: array[0], frames)
        if t:
            taken = actions.decode(batch.actions[:, t - 1].numpy())
            one.advance(taken[0], first)
            many.advance(taken, frames)
            before = expected.mean[:, t - 1], batch.actions[:, t - 1], batch.observations[:, t]
            for kept, n in ((one, 1), (many, 2)):
                told = kept.many_infos()["innovation"]
                np.testing.assert_allclose(told, innovations(world, *before)[:n], **close)
        else:
            one.begin(first)
            many.begin(frames)
        mean = expected.mean[:, t].numpy().clip(one.box.low, one.box.high)
        for kept, n in ((one, 1), (many, 2)):
            np.testing.assert_allclose(kept.means(), mean[:n], **close)
            np.testing.assert_allclose(kept.scales(), expected.scale[:n, t], **close)


def covered(model, margin=1.25) -> World:
    world = World(model)
    states = torch.randn(2000, model.latent_size, generator=generator())
    world.support.fit(states, states[:200], margin=margin)
    return world


def test_why_a_filter_is_not_compiled_is_said(world, real):
    assert "LinearModel offers no compiled form" in FilterObservation(real(), world).compiled
    spaces = PIXELS.space(), BOX.space()
    for encoder, reason in (("conv", "FrameEncoder has no compiled form"), ("dense", None)):
        dvbf = covered(small_model("dvbf", PIXELS, BOX, codec=CodecConfig(encoder=encoder)))
        compiled = Filter(dvbf, *spaces, ()).compiled
        assert compiled is True if reason is None else reason in compiled
        assert Filter(dvbf, *spaces, (3,)).compiled == compiled
    smooth = covered(small_model("ekvae", PIXELS, BOX))
    assert "offers no compiled form of its filter" in Filter(smooth, *spaces, ()).compiled


def test_a_compiled_filter_refuses_what_it_cannot_take_and_goes_on():
    model = small_model("dvbf", VECTOR, BOX).requires_grad_(False)
    belief = Filter(covered(model), VECTOR.space(), BOX.space(), ())
    frame, action = np.zeros(3, np.float32), np.zeros(2, np.float32)
    with pytest.raises(ResetNeeded):
        belief.advance(action, frame)
    with pytest.raises(ResetNeeded):
        belief.means()
    belief.begin(frame)
    before = belief.means(), belief.scales()
    for wrong in (np.float32([0, np.nan]), np.zeros(3), "left"):
        with pytest.raises(InvalidAction):
            belief.advance(wrong, frame)
    with pytest.raises(ShapeError, match="must be finite"):
        belief.advance(action, np.full(3, np.nan, np.float32))
    np.testing.assert_array_equal(before, (belief.means(), belief.scales()))
    belief.advance(action, frame)
    assert not np.array_equal(before[0], belief.means())


@pytest.mark.parametrize("lead", [(), (3,)], ids=["one", "many"])
def test_copies_of_compiled_filters_go_their_own_way(lead):
    model = small_model("dvbf", VECTOR, BOX).requires_grad_(False)
    kept = Filter(covered(model), VECTOR.space(), BOX.space(), lead)
    frame, action = np.ones((*lead, 3), np.float32), np.zeros((*lead, 2), np.float32)
    kept.begin(frame)
    kept.advance(action, frame)
    before = kept.means()
    others = [pickle.loads(pickle.dumps(kept)), copy.deepcopy(kept)]
    for other in others:
        np.testing.assert_array_equal(other.means(), before)
        other.advance(action, frame + 1)
    np.testing.assert_array_equal(kept.means(), before)
    kept.advance(action, frame + 1)
    assert not np.array_equal(kept.means(), before)
    for other in others:
        np.testing.assert_array_equal(other.means(), kept.means())

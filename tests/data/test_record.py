import gc
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from worldmodel.data import (
    Held,
    OrnsteinUhlenbeck,
    SplitConfig,
    Uniform,
    collect,
    findings,
    load,
    record,
    save,
)
from worldmodel.errors import ConfigError, SpecError

MODES = list(AutoresetMode)


def same(a, b) -> bool:
    left, right = dict(a.items()), dict(b.items())
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def check_clock(batch, lengths) -> None:
    """The observation of a clock proves the index convention, and its state the padding."""
    time = torch.arange(batch.steps + 1)
    lengths = torch.as_tensor(lengths)[:, None]
    assert torch.equal(batch.mask, time[:-1] < lengths)
    assert torch.equal(batch.observations[..., 1], torch.minimum(time, lengths).float())
    assert torch.equal(batch.rewards, torch.where(batch.mask, time[1:].float(), 0.0))
    carried = batch.observations[:, 1:, 0]
    assert torch.equal(carried[batch.mask], batch.actions[..., 0][batch.mask])
    assert (batch.observations[:, 0, 0] == 0).all()
    assert batch.actions[batch.mask].std() > 0.5 and (batch.actions[~batch.mask] == 0).all()
    last = (time[1:] == lengths) & (lengths % 2 == 0)
    assert torch.equal(batch.terminated, last)
    assert torch.equal(batch.truncated, (time[1:] == lengths) & (lengths % 2 == 1))
    padded = ~batch.mask
    assert torch.equal(batch.observations[:, 1:][padded], batch.observations[:, :-1][padded])
    assert torch.equal(batch.states[..., 0], torch.minimum(time, lengths).float())


def test_a_single_environment_is_recorded_and_stays_open(clock):
    env = clock()
    batch = record(env, 40, 8, Uniform(), seed=0)
    lengths = batch.states[:, 0, 1].long()
    assert len(lengths.unique()) == 9  # 2 to 10: some end early, some on the last step, some later
    check_clock(batch, lengths)
    gc.collect()
    assert not env.closed
    assert {name: tensor.dtype for name, tensor in batch.items()} == {
        "observations": torch.float32,
        "actions": torch.float32,
        "rewards": torch.float32,
        "terminated": torch.bool,
        "mask": torch.bool,
        "states": torch.float32,
        "truncated": torch.bool,
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_envs", [1, 3, 10, 16])
def test_every_mode_and_number_of_environments_gives_the_same_batch(clock, mode, num_envs):
    expected = record(clock(), 10, 8, Held(2), seed=5)
    vector = SyncVectorEnv([clock] * num_envs, autoreset_mode=mode)
    assert same(record(vector, 10, 8, Held(2), seed=5), expected)
    vector.close()


def test_asynchronous_environments_give_the_same_batch(clock):
    vector = AsyncVectorEnv([clock] * 2)
    batch = record(vector, 4, 5, Uniform(), seed=5)
    vector.close()
    assert same(batch, record(clock(), 4, 5, Uniform(), seed=5))


@pytest.mark.parametrize("mode", MODES)
def test_native_vector_environments_without_info_masks(native_clock, mode):
    vector = native_clock(4, mode)
    batch = record(vector, 6, 7, Uniform(), seed=1)
    lengths = torch.tensor([2, 3, 4, 5, 2, 3])
    time = torch.arange(8)
    assert torch.equal(batch.mask, time[:-1] < lengths[:, None])
    expected = torch.minimum(time, lengths[:, None]).float()
    assert torch.equal(batch.observations[..., 1], expected)
    assert torch.equal(batch.states, expected[..., None])
    assert torch.equal(batch.terminated, time[1:] == lengths[:, None])
    sent, seen = batch.actions[..., 0][batch.mask], batch.observations[:, 1:, 0][batch.mask]
    assert torch.equal(sent, seen)
    assert len(set(vector.seeds)) == 2  # two rounds, each with a seed of its own
    assert vector.steps == 5 + 3  # a round stops when its episodes have ended


def test_seeds_decide_everything(clock):
    first, again, other = (record(clock(), 5, 6, Uniform(), seed=s) for s in (1, 1, 2))
    assert same(first, again)
    assert not torch.equal(first.actions, other.actions)
    assert not torch.equal(first.observations[:, 0], other.observations[:, 0])
    # No two episodes share their randomness either.
    assert len(first.observations[:, 0, 2].unique()) == 5


def test_more_episodes_do_not_change_the_resets_of_the_first(clock):
    few, many = (record(clock(), n, 3, Uniform(), seed=1) for n in (3, 6))
    assert torch.equal(few.observations[:, 0], many.observations[:3, 0])


@pytest.mark.parametrize("mode", MODES)
def test_options_reach_every_reset(clock, mode):
    options = {"length": 3}
    vector = SyncVectorEnv([clock] * 2, autoreset_mode=mode)
    batch = record(vector, 5, 4, Uniform(), seed=0, options=options)
    assert (batch.mask.sum(1) == 3).all() and options == {"length": 3}


def test_options_that_an_environment_takes_out_are_there_in_the_next_round(native_clock):
    class Greedy(native_clock):
        def reset(self, *, seed=None, options=None):
            assert options.pop("start") == "late"
            return super().reset(seed=seed, options=options)

    options = {"start": "late"}
    record(Greedy(2, AutoresetMode.DISABLED), 5, 4, Uniform(), seed=0, options=options)
    assert options == {"start": "late"}


def test_discrete_actions_become_one_hot():
    batch = record(gym.make("CartPole-v1"), 6, 30, Uniform(), seed=0)
    assert batch.actions.shape == (6, 30, 2) and batch.states is None
    assert (batch.actions[batch.mask].sum(1) == 1).all()
    assert set(batch.actions[batch.mask].unique().tolist()) == {0.0, 1.0}
    # Pushing right accelerates the cart: the second component is the push to the right.
    pushed = batch.observations[:, 1:, 1] - batch.observations[:, :-1, 1]
    assert torch.equal((pushed > 0)[batch.mask], batch.actions[..., 1][batch.mask] > 0)
    assert batch.terminated.any() and not batch.terminated[~batch.mask].any()


def test_gymnasium_pendulum_agrees_with_playing_it_by_hand():
    env = gym.make("Pendulum-v1", max_episode_steps=7)
    batch = record(env, 2, 9, OrnsteinUhlenbeck(), seed=0)
    assert (batch.mask.sum(1) == 7).all() and not batch.terminated.any()
    env.reset()
    cos, sin, velocity = batch.observations[1, 0].double().tolist()
    env.unwrapped.state = np.array([np.arctan2(sin, cos), velocity])
    for t in range(7):
        observation, reward, *_ = env.step(batch.actions[1, t].numpy())
        assert np.allclose(observation, batch.observations[1, t + 1], atol=1e-5)
        assert np.isclose(reward, batch.rewards[1, t], atol=1e-4)


class Screen(gym.Wrapper):
    """A clock seen as pixels, with its ground truth as the test wants it."""

    def __init__(self, env: gym.Env, state: Any = None) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 255, (3, 3, 1), np.uint8)
        self.state = state

    def _see(self, info):
        time = info.pop("state")[0]
        if self.state is not None and (given := self.state(int(time))) is not None:
            info["state"] = given
        return np.full((3, 3, 1), 10 * time, np.uint8), info

    def reset(self, **kwargs):
        return self._see(self.env.reset(**kwargs)[1])

    def step(self, action):
        _, reward, terminated, truncated, info = self.env.step(action)
        observation, info = self._see(info)
        return observation, reward, terminated, truncated, info


def test_pixels_stay_bytes(clock):
    batch = record(Screen(clock()), 2, 3, Uniform(), seed=0, options={"length": 9})
    assert batch.observations.dtype == torch.uint8
    assert batch.observations[:, :, 0, 0, 0].tolist() == [[0, 10, 20, 30]] * 2
    assert batch.states is None


@pytest.mark.parametrize("state", [lambda t: (float(t), 0), lambda t: [float(t), 0.0]])
def test_ground_truth_may_be_any_sequence(clock, state):
    batch = record(Screen(clock(), state), 2, 3, Uniform(), seed=0, options={"length": 9})
    assert batch.states.tolist() == [[[0, 0], [1, 0], [2, 0], [3, 0]]] * 2


def test_ground_truth_may_be_a_number(clock):
    batch = record(Screen(clock(), float), 1, 3, Uniform(), seed=0, options={"length": 9})
    assert batch.states.tolist() == [[[0], [1], [2], [3]]]


@pytest.mark.parametrize(
    ("state", "named"),
    [
        (lambda t: np.zeros(2) if t < 2 else None, "step 2.*None"),
        (lambda t: [0.0, 1.0] if t < 2 else ["a", "b"], "step 2.*None"),
        (lambda t: (0,) * (t + 1), r"1 numbers.*step 1.*\(1, 2\)"),
        (lambda t: np.array([np.nan if t == 2 else 0.0]), "states.*finite.*time 2"),
    ],
)
def test_a_broken_ground_truth_is_told(clock, state, named):
    with pytest.raises(SpecError, match=named):
        record(Screen(clock(), state), 1, 3, Uniform(), seed=0, options={"length": 9})


@pytest.mark.parametrize(
    "state",
    [
        lambda t: {"angle": 1.0},
        lambda t: ["a", "b"],
        lambda t: "upright",
        lambda t: object(),
        lambda t: [[1.0], [2.0, 3.0]],
        lambda t: np.array(["a"]),
        lambda t: np.array([1j]),
    ],
    ids=["dict", "texts", "text", "object", "ragged", "array of text", "complex"],
)
def test_a_state_that_is_no_numbers_is_left_out_and_said(clock, state):
    def play():
        return record(Screen(clock(), state), 2, 3, Uniform(), seed=0, options={"length": 9})

    with pytest.warns(UserWarning, match=r'info\["state"\] is ignored.*no array of numbers'):
        batch = play()
    assert batch.states is None and batch.mask.all()


def test_a_dataset_notes_that_the_state_was_left_out(clock, tmp_path):
    gym.register(
        "test/Told-v0",
        entry_point=lambda: Screen(clock(), lambda t: "upright"),
        disable_env_checker=True,
    )
    try:
        dataset = collect("test/Told-v0", splits={"train": SplitConfig(2, 3)}, num_envs=2)
    finally:
        del gym.registry["test/Told-v0"]
    assert len(dataset.provenance.notes) == 1
    assert load(save(dataset, tmp_path / "d")).provenance == dataset.provenance
    assert findings(dataset)[0] == dataset.provenance.notes[0]
    assert "upright" in findings(dataset)[0]


def test_a_reward_that_is_not_finite_is_told(clock):
    class Broken(clock):
        def step(self, action):
            observation, _, terminated, truncated, info = super().step(action)
            return observation, float("inf"), terminated, truncated, info

    with pytest.raises(SpecError, match="rewards must be finite, got inf in episode 0 at time 0"):
        record(Broken(), 1, 2, Uniform(), seed=0)


def paying(clock, reward):
    class Paying(clock):
        def step(self, action):
            observation, _, terminated, truncated, info = super().step(action)
            return observation, reward(self.time), terminated, truncated, info

    return record(Paying(), 2, 3, Uniform(), seed=0, options={"length": 9}).rewards[0].tolist()


def test_rewards_that_vary_beyond_single_precision_are_refused_with_what_mends_it(clock):
    told = r"float32 does not hold how rewards vary.*100000000.*TransformReward"
    with pytest.raises(SpecError, match=told):
        paying(clock, lambda t: 1e8 + 0.1 * t)
    # What float32 holds, or what does not vary but by rounding, is no fault.
    assert paying(clock, lambda t: 1e3 + t) == [1001, 1002, 1003]
    assert paying(clock, lambda t: 1e8 + 1000 * t) == [1e8 + 1000, 1e8 + 2000, 1e8 + 3000]
    assert paying(clock, lambda t: 0.1 + 0.2) == [np.float32(0.3)] * 3
    assert paying(clock, lambda t: 1e-30 * t) == [np.float32(1e-30 * t) for t in (1, 2, 3)]


def test_a_state_that_varies_beyond_single_precision_is_left_out_and_said(clock):
    env = Screen(clock(), lambda t: np.array([t, 1.7e9 + 0.05 * t]))
    told = r"ignored as ground truth.*component 1 varies by 0.05\d* about 1700000000"
    with pytest.warns(UserWarning, match=told):
        batch = record(env, 1, 3, Uniform(), seed=0, options={"length": 9})
    assert batch.states is None and batch.mask.all()


def test_broken_promises_of_a_vector_environment_are_told(native_clock):
    vector = native_clock(2, AutoresetMode.SAME_STEP)
    vector.metadata = {"autoreset_mode": "SameStep"}
    with pytest.raises(SpecError, match="autoreset mode 'SameStep'"):
        record(vector, 1, 2, Uniform(), seed=0)

    class Forgetful(native_clock):
        def step(self, actions):
            *rest, infos = super().step(actions)
            infos.pop("final_obs", None)
            return *rest, infos

    with pytest.raises(SpecError, match="final_obs"):
        record(Forgetful(2, AutoresetMode.SAME_STEP), 1, 2, Uniform(), seed=0)


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"episodes": 0}, ConfigError, "episodes.*0"),
        ({"steps": -1}, ConfigError, "steps.*-1"),
        ({"seed": -3}, ConfigError, "seed.*-3"),
    ],
)
def test_arguments_out_of_range_are_named(clock, changed, error, named):
    arguments = {"episodes": 1, "steps": 1, "process": Uniform(), "seed": 0} | changed
    with pytest.raises(error, match=named):
        record(clock(), **arguments)


def test_spaces_that_cannot_be_modelled_are_refused(clock):
    with pytest.raises(SpecError, match="OrnsteinUhlenbeck"):
        record(gym.make("CartPole-v1"), 1, 1, OrnsteinUhlenbeck(), seed=0)
    env = clock()
    env.observation_space = gym.spaces.Box(0, 255, (2, 3, 4, 5, 6), np.uint8)
    with pytest.raises(SpecError, match=r"observation: uint8 \(2, 3, 4, 5, 6\) is no picture"):
        record(env, 1, 1, Uniform(), seed=0)
    env = clock()
    env.action_space = gym.spaces.Text(3)
    with pytest.raises(SpecError, match="action: Text"):
        record(env, 1, 1, Uniform(), seed=0)


def test_progress_is_shown_only_if_asked_for(clock, capsys, monkeypatch):
    monkeypatch.setattr("worldmodel.progress.EVERY", 0.0)
    record(clock(), 2, 20, Uniform(), seed=0)
    assert capsys.readouterr().out.strip() == ""
    record(clock(), 2, 20, Uniform(), seed=0, progress=True)
    assert "recorded 2 of 2 episodes, " in capsys.readouterr().out

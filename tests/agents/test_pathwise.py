import copy
import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from linear_model import LinearModel, fit_support
from safetensors.torch import save_file
from small import box, discrete, generator

from agents.pathwise import PathwiseConfig, imagined_rewards, train_policy
from agents.policy import Policy
from worldmodel.errors import FileFormatError, SpecError
from worldmodel.spaces import ActionSpace
from worldmodel.world.dynamics import Dynamics, recorded_reward
from worldmodel.world.world import World

LOW, HIGH = torch.tensor([-0.1, 3.0, -5.0]), torch.tensor([0.3, 3.7, 5.0])
SHORT = PathwiseConfig(
    updates=60, batch_size=64, horizon=12, learning_rate=1e-2, noise_scale=0.3, hidden=16
)


def policy(seed=0):
    torch.manual_seed(seed)
    shift, spread = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 4.0])
    return Policy(shift, spread, box(LOW, HIGH), LOW, HIGH, hidden=8)


def plain(actions, hidden: int) -> Policy:
    """Of a state that is as it should be, within the actions' bounds."""
    bounds = torch.tensor(actions.low), torch.tensor(actions.high)
    return Policy(torch.zeros(2), torch.ones(2), actions, *bounds, hidden)


@pytest.mark.parametrize("gain", [1.0, 1e3])
def test_actions_fill_the_box_and_never_leave_it(gain):
    agent = policy()
    with torch.no_grad():
        agent.network[-1].weight.mul_(gain)
    states = 10 * torch.randn(2000, 2, generator=generator())
    with torch.no_grad():
        actions = agent(states)
    assert (actions >= LOW).all() and (actions <= HIGH).all()
    if gain > 1:
        torch.testing.assert_close(actions.amin(0), LOW)
        torch.testing.assert_close(actions.amax(0), HIGH)


def test_a_range_that_float32_cannot_hold_is_learned_in():
    wide = box((-3e38, 0.0), (3e38, 3.3e38))
    model = LinearModel(action_spec=wide)
    model.B.mul_(1e-38)
    agent, history = train_policy(
        fit_support(model, 0.7),
        PathwiseConfig(updates=5, batch_size=8, horizon=4, hidden=8),
        progress=False,
    )
    assert np.isfinite(history).all()
    assert all(parameter.isfinite().all() for parameter in agent.parameters())
    for seen in (np.zeros(2), 10 * np.random.default_rng(0).normal(size=(50, 2))):
        actions, _ = agent.predict(seen)
        assert np.isfinite(actions).all()
        assert (actions >= np.float32(wide.low)).all() and (actions <= np.float32(wide.high)).all()


def test_predict_takes_one_state_or_many_of_either_width():
    agent = policy()
    states = np.random.default_rng(0).normal(size=(5, 2))
    many, nothing = agent.predict(states)
    assert many.shape == (5, 3) and many.dtype == np.float32 and nothing is None
    one, _ = agent.predict(states[2].astype(np.float32), deterministic=False)
    assert one.shape == (3,)
    np.testing.assert_allclose(one, many[2], atol=1e-6)


def test_a_saved_policy_acts_identically(tmp_path):
    agent = policy()
    agent.save(tmp_path / "deep" / "agent.safetensors")
    copy = Policy.load(tmp_path / "deep" / "agent.safetensors")
    states = torch.randn(20, 2, generator=generator())
    assert torch.equal(copy(states), agent(states)) and not copy.training
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["agent.safetensors"]


def test_a_missing_policy_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Policy.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "damage", ["empty", "half", "text", "foreign", "version", "sizes", "hidden", "actions", "part"]
)
def test_a_corrupt_policy_is_said(tmp_path, damage):
    path = tmp_path / "agent.safetensors"
    agent = policy()
    agent.save(path)
    weights, whole = agent.state_dict(), path.read_bytes()
    actions = json.dumps(agent.actions.to_json())
    ours = {"format": "worldmodel-policy-2", "hidden": "8", "actions": actions}
    if damage == "foreign":
        save_file(weights, path)
    elif damage == "sizes":
        save_file(weights | {"shift": torch.zeros(5)}, path, ours)
    elif damage == "hidden":
        save_file(weights, path, ours | {"hidden": "eight"})
    elif damage == "version":
        save_file(weights, path, ours | {"format": "worldmodel-policy"})
    elif damage == "actions":
        save_file(weights, path, ours | {"actions": "{}"})
    elif damage == "part":
        del weights["network.0.weight"]
        save_file(weights, path, ours)
    else:
        path.write_bytes(
            {"empty": b"", "half": whole[: len(whole) // 2], "text": b"{}" * 50}[damage]
        )
    with pytest.raises(FileFormatError, match=r"agent\.safetensors is"):
        Policy.load(path)


def test_training_in_the_dream_finds_the_target(world):
    agent, history = train_policy(world, SHORT, progress=False)
    assert len(history) == SHORT.updates
    assert np.mean(history[-5:]) > 0.5 * np.mean(history[:5])  # rewards are negative
    dynamics = Dynamics(world)
    state = idle = world.support.states[:200]
    with torch.no_grad():
        for _ in range(20):
            state = dynamics.step(state, agent(state), None).next_state
            idle = dynamics.step(idle, torch.zeros(200, 1), None).next_state
    assert state.norm(dim=1).mean() < 0.35 * idle.norm(dim=1).mean()
    assert state.norm(dim=1).max() < 0.6


def test_training_repeats_under_its_seed_and_leaves_the_rest_alone(world):
    config = PathwiseConfig(updates=3, batch_size=16, horizon=4, hidden=8, seed=3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    weights = {name: value.clone() for name, value in world.model.state_dict().items()}
    first, history = train_policy(world, config, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(
        torch.equal(value, weights[name]) for name, value in world.model.state_dict().items()
    )
    torch.manual_seed(2)
    second, again = train_policy(world, config, progress=False)
    assert history == again
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    other = PathwiseConfig(updates=3, batch_size=16, horizon=4, hidden=8, seed=4)
    assert train_policy(world, other, progress=False)[1] != history


def ending(world, chance: float, reward: float) -> torch.Tensor:
    """Imagined rewards where every arrival ends the episode with the same chance."""
    logit = math.log(chance) - math.log1p(-chance)
    world.model.termination = lambda next_state: torch.full((len(next_state),), logit)
    world.model.reward = lambda state, action, next_state: torch.full((len(state),), reward)
    config = PathwiseConfig(batch_size=32, horizon=5, ood_penalty=0.0, ood_radius=1e3)
    agent = plain(box(-1.0, 1.0), 4)
    return imagined_rewards(world, agent, config, generator(), recorded_reward(world))


def test_rewards_count_while_the_imagined_episode_goes_on(world):
    world.model.can_terminate = True
    rewards = ending(world, 0.25, -1.0)
    expected = -(0.75 ** torch.arange(5.0)).expand(32, 5)
    torch.testing.assert_close(rewards, expected)


def test_a_model_that_saw_no_end_imagines_none(world):
    assert (ending(world, 0.99, -1.0) == -1).all()


def test_leaving_the_support_earns_no_more_than_the_worst(world):
    with torch.no_grad():
        world.model.F.mul_(40)
    world.model.reward = lambda state, action, next_state: torch.full((len(state),), 1e6)
    config = PathwiseConfig(batch_size=64, horizon=3)
    agent = plain(box(-1.0, 1.0), 4)
    rewards = imagined_rewards(world, agent, config, generator(), recorded_reward(world))
    assert (rewards[:, 1:] <= world.model.reward_range[0]).float().mean() > 0.95
    rewards.mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in agent.parameters())


def discrete_world() -> World:
    """Two buttons that push the state either way."""
    model = LinearModel(action_spec=discrete(2))
    with torch.no_grad():
        model.B.copy_(torch.stack([-model.B[0], model.B[0]]) / 2)
    return fit_support(model, 0.7)


def test_discrete_actions_are_one_hot_with_the_gradient_of_their_chances():
    torch.manual_seed(0)
    agent = plain(discrete(3), 8)
    states = torch.randn(500, 2, generator=generator())
    actions = agent(states)
    assert ((actions == 0) | (actions == 1)).all() and (actions.sum(1) == 1).all()
    assert torch.equal(actions.argmax(1), agent.network(states).argmax(1))
    value = torch.randn(500, 3, generator=generator(1))
    passed = torch.autograd.grad((actions * value).sum(), agent.network[0].weight)[0]
    chances = agent.network(states).softmax(1)
    true = torch.autograd.grad((chances * value).sum(), agent.network[0].weight)[0]
    torch.testing.assert_close(passed, true)


def test_gumbel_noise_draws_actions_by_their_chances():
    agent = plain(discrete(3), 8)
    state = torch.tensor([[0.3, -2.0]])
    uniform = torch.rand(20_000, 3, generator=generator())
    drawn = agent(state.expand(20_000, 2), -(-uniform.log()).log()).mean(0)
    torch.testing.assert_close(drawn, agent.network(state).softmax(1)[0], atol=0.015, rtol=0)


def test_buttons_are_learned_and_remembered(tmp_path):
    world = discrete_world()
    agent, history = train_policy(world, SHORT, progress=False)
    assert np.mean(history[-5:]) > np.mean(history[:5])
    agent.save(tmp_path / "agent.safetensors")
    indices, _ = Policy.load(tmp_path / "agent.safetensors").predict(world.support.states.numpy())
    assert indices.shape == (len(world.support.states),) and set(indices) == {0, 1}
    assert agent.predict(world.support.states[0].numpy())[0] in (0, 1)


def test_an_unfitted_support_is_refused():
    with pytest.raises(SpecError, match="support is not fitted"):
        train_policy(World(LinearModel()), SHORT, progress=False)


@pytest.mark.parametrize("kind", ["box", "discrete", "mixed"])
def test_one_observation_is_acted_on_as_many_are(kind):
    torch.manual_seed(0)
    spaces = {"box": gym.spaces.Box(-2, 3, (3,)), "discrete": gym.spaces.Discrete(3)}
    spaces["mixed"] = gym.spaces.MultiBinary(3)
    actions = ActionSpace.from_space(spaces[kind])
    low, high = torch.tensor(actions.low), torch.tensor(actions.high)
    policy = Policy(torch.randn(4), torch.rand(4) + 0.5, actions, low, high, 8)
    seen = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)

    def agree(policy):
        many, _ = policy.predict(seen)
        for observation, expected in zip(seen, many, strict=True):
            action, _ = policy.predict(observation)
            assert action.shape == expected.shape and action.dtype == expected.dtype
            np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-6)
        return many

    first = agree(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    assert not np.array_equal(first, agree(policy))
    twin = copy.deepcopy(policy)
    twin.network[0].weight.data.mul_(-1.0)
    assert not np.array_equal(agree(twin), agree(policy))
    twin.double()
    twin.load_state_dict(policy.double().state_dict())
    np.testing.assert_array_equal(agree(twin), agree(policy))


def test_switches_and_spread_numbers_are_drawn_by_their_chances():
    spaces = {"a": gym.spaces.Box(-1, 1, (1,)), "b": gym.spaces.MultiBinary(2)}
    actions = ActionSpace.from_space(gym.spaces.Dict(spaces))
    bounds = torch.tensor(actions.low), torch.tensor(actions.high)
    policy = Policy(torch.zeros(2), torch.ones(2), actions, *bounds, 8, stochastic=True)
    state = torch.tensor([[0.3, -2.0]]).expand(40_000, 2)
    with torch.no_grad():
        drawn = policy(state, policy.noise(40_000, generator()))
        logits = policy.network(state[:1])[0]
    number = [part.name for part in actions.parts].index("a") * 2
    switches = [k for k in range(3) if k != number]
    chances = logits[switches].sigmoid()
    torch.testing.assert_close(drawn[:, switches].mean(0), chances, atol=0.01, rtol=0)
    place = drawn[:, number].atanh()
    expected = (-4 + 5 * logits[3].sigmoid()).exp()
    torch.testing.assert_close(place.mean(), logits[number], atol=0.01, rtol=0)
    torch.testing.assert_close(place.std(), expected, atol=0.01, rtol=0)


def test_a_stochastic_policy_is_remembered_with_its_spread(tmp_path):
    agent = Policy(torch.zeros(2), torch.ones(2), box(LOW, HIGH), LOW, HIGH, 8, stochastic=True)
    agent.save(tmp_path / "agent.safetensors")
    again = Policy.load(tmp_path / "agent.safetensors")
    states = torch.randn(20, 2, generator=generator())
    noise = agent.noise(20, generator())
    assert again.stochastic and torch.equal(again(states, noise), agent(states, noise))
    for seen in (states.numpy(), states[0].numpy()):
        steady, drawn = (agent.predict(seen, deterministic=d)[0] for d in (True, False))
        assert steady.shape == drawn.shape and not np.array_equal(steady, drawn)

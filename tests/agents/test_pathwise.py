import math

import numpy as np
import pytest
import torch
from linear_model import LinearModel, fit_support
from safetensors.torch import save_file
from small import generator

from agents.pathwise import PathwiseConfig, Policy, imagined_rewards, task_of, train_policy
from worldmodel.errors import FileFormatError, SpecError
from worldmodel.types import ActionSpec
from worldmodel.world.dynamics import Dynamics

LOW, HIGH = torch.tensor([-0.1, 3.0, -5.0]), torch.tensor([0.3, 3.7, 5.0])
SHORT = PathwiseConfig(
    updates=60, batch_size=64, horizon=12, learning_rate=1e-2, noise_scale=0.3, hidden=16
)


def policy(seed=0):
    torch.manual_seed(seed)
    return Policy(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 4.0]), LOW, HIGH, hidden=8)


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


@pytest.mark.parametrize("damage", ["empty", "half", "text", "foreign", "sizes", "hidden", "part"])
def test_a_corrupt_policy_is_said(tmp_path, damage):
    path = tmp_path / "agent.safetensors"
    agent = policy()
    agent.save(path)
    weights, whole = agent.state_dict(), path.read_bytes()
    ours = {"format": "worldmodel-policy", "hidden": "8", "kind": "box"}
    if damage == "foreign":
        save_file(weights, path)
    elif damage == "sizes":
        save_file(weights | {"shift": torch.zeros(5)}, path, ours)
    elif damage == "hidden":
        save_file(weights, path, ours | {"hidden": "eight"})
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
    config = PathwiseConfig(batch_size=32, horizon=5, astray_cost=0.0, give_up=1e3)
    agent = Policy(torch.zeros(2), torch.ones(2), -torch.ones(1), torch.ones(1), 4)
    return imagined_rewards(world, agent, config, generator(), task_of(world))


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
    agent = Policy(torch.zeros(2), torch.ones(2), -torch.ones(1), torch.ones(1), 4)
    rewards = imagined_rewards(world, agent, config, generator(), task_of(world))
    assert (rewards[:, 1:] <= world.model.reward_range[0]).float().mean() > 0.95
    rewards.mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in agent.parameters())


def discrete_model() -> LinearModel:
    """Two buttons that push the state either way."""
    world = LinearModel(action_spec=ActionSpec("discrete", (0.0, 0.0), (1.0, 1.0)))
    with torch.no_grad():
        world.model.B.copy_(torch.stack([-world.model.B[0], world.model.B[0]]) / 2)
    return fit_support(world, 0.7)


def test_discrete_actions_are_one_hot_with_the_gradient_of_their_chances():
    torch.manual_seed(0)
    agent = Policy(torch.zeros(2), torch.ones(2), torch.zeros(3), torch.ones(3), 8, "discrete")
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
    agent = Policy(torch.zeros(2), torch.ones(2), torch.zeros(3), torch.ones(3), 8, "discrete")
    state = torch.tensor([[0.3, -2.0]])
    uniform = torch.rand(20_000, 3, generator=generator())
    drawn = agent(state.expand(20_000, 2), -(-uniform.log()).log()).mean(0)
    torch.testing.assert_close(drawn, agent.network(state).softmax(1)[0], atol=0.015, rtol=0)


def test_buttons_are_learned_and_remembered(tmp_path):
    world = discrete_model()
    agent, history = train_policy(world, SHORT, progress=False)
    assert np.mean(history[-5:]) > np.mean(history[:5])
    agent.save(tmp_path / "agent.safetensors")
    indices, _ = Policy.load(tmp_path / "agent.safetensors").predict(world.support.states.numpy())
    assert indices.shape == (len(world.support.states),) and set(indices) == {0, 1}
    assert agent.predict(world.support.states[0].numpy())[0] in (0, 1)


def test_an_unfitted_support_is_refused():
    with pytest.raises(SpecError, match="support is not fitted"):
        train_policy(LinearModel(), SHORT, progress=False)

import copy
import dataclasses
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from linear_model import LinearModel, fit_support
from small import discrete, generator

from agents.actor_critic import (
    ActorCriticConfig,
    imagine,
    lambda_returns,
    train_actor_critic,
)
from agents.learner import ActorCritic
from agents.starts import known_states
from worldmodel.errors import ConfigError, DivergenceError, FileFormatError, SpecError
from worldmodel.spaces import ActionSpace
from worldmodel.world.dynamics import Dynamics, Goal, SupportRule
from worldmodel.world.world import World

SHORT = ActorCriticConfig(updates=60, batch_size=32, horizon=5, hidden=16, noise_scale=0.3)
TINY = ActorCriticConfig(updates=3, batch_size=8, horizon=3, hidden=8)


def test_lambda_returns_are_the_mean_of_returns_of_every_length():
    """The definition: n-step returns weighted by (1 - trace) trace^(n - 1), the rest last."""
    g, steps, discount, trace = generator(), 5, 0.9, 0.7
    rewards, values = (torch.randn(3, steps, generator=g, dtype=torch.float64) for _ in range(2))
    goes_on = torch.rand(3, steps, generator=g, dtype=torch.float64)

    def n_step(t: int, n: int) -> torch.Tensor:
        total, factor = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
        for k in range(t, t + n):
            total = total + factor * rewards[:, k]
            factor = factor * discount * goes_on[:, k]
        return total + factor * values[:, t + n - 1]

    found = lambda_returns(rewards, goes_on, values, discount, trace)
    for t in range(steps):
        left = steps - t
        expected = sum((1 - trace) * trace ** (n - 1) * n_step(t, n) for n in range(1, left))
        expected = expected + trace ** (left - 1) * n_step(t, left)
        torch.testing.assert_close(found[:, t], expected)


def reached(world, policy, steps=20) -> torch.Tensor:
    state = world.support.states[:200]
    with torch.no_grad():
        for _ in range(steps):
            state = Dynamics(world).step(state, policy(state), None).next_state
    return state.norm(dim=1)


def test_training_in_the_dream_finds_the_target(world):
    learner, history = train_actor_critic(world, SHORT, progress=False)
    assert len(history) == 60 and np.mean(history[-5:]) > np.mean(history[:5])
    idle = reached(world, lambda state: torch.zeros(len(state), 1))
    assert reached(world, learner.policy).mean() < 0.35 * idle.mean()


def test_the_critic_knows_what_the_policy_collects(world):
    """Against the discounted rewards of long dreams of the same policy."""
    config = dataclasses.replace(
        SHORT, updates=110, discount=0.8, entropy=0.0, slow=0.1, critic_learning_rate=1e-2
    )
    learner, _ = train_actor_critic(world, config, progress=False)
    start = world.support.states[:100]
    state, paid = start.repeat_interleave(20, 0), torch.zeros(2000)
    dynamics = Dynamics(world, SupportRule(config.ood_penalty, config.ood_radius))
    g = generator()
    with torch.no_grad():
        for t in range(30):
            action = learner.policy(state, learner.policy.noise(2000, g))
            noise = config.noise_scale * torch.randn(2000, 2, generator=g)
            step = dynamics.step(state, action, noise)
            state, paid = step.next_state, paid + config.discount**t * step.reward
    truth = paid.reshape(100, 20).mean(1).numpy()
    believed = learner.value(start.numpy())
    assert np.corrcoef(truth, believed)[0, 1] > 0.95
    assert np.abs(truth - believed).mean() < 0.25 * truth.std() + 0.1


def test_it_repeats_under_its_seed_and_leaves_the_rest_alone(world):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    weights = {name: value.clone() for name, value in world.model.state_dict().items()}
    first, history = train_actor_critic(world, TINY, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    kept = world.model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in weights.items())
    second, again = train_actor_critic(world, TINY, progress=False)
    assert history == again and same(first, second)
    other = dataclasses.replace(TINY, seed=1)
    assert train_actor_critic(world, other, progress=False)[1] != history


def same(ours: ActorCritic, theirs: ActorCritic) -> bool:
    pairs = [(ours.policy, theirs.policy), (ours.critic, theirs.critic), (ours.slow, theirs.slow)]
    return all(
        torch.equal(a, b)
        for one, other in pairs
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("saved", [False, True])
def test_training_in_two_parts_is_training_in_one(world, tmp_path, saved):
    """Bit for bit: also from a file."""
    whole, history = train_actor_critic(world, dataclasses.replace(TINY, updates=7), progress=False)
    learner, first = train_actor_critic(world, dataclasses.replace(TINY, updates=3), progress=False)
    if saved:
        learner.save(tmp_path / "learner.safetensors")
        learner = ActorCritic.load(tmp_path / "learner.safetensors")
    rest = dataclasses.replace(TINY, updates=4)
    learner, second = train_actor_critic(world, rest, learner=learner, progress=False)
    assert first + second == history and same(learner, whole)
    assert torch.equal(learner.range, whole.range)


def test_what_was_learned_serves_a_refitted_world(world):
    learner, _ = train_actor_critic(world, SHORT, progress=False)
    with torch.no_grad():
        world.model.B.mul_(0.8)
    few = dataclasses.replace(SHORT, updates=5)
    warm, history = train_actor_critic(world, few, learner=copy.deepcopy(learner), progress=False)
    _, cold = train_actor_critic(world, few, progress=False)
    assert np.mean(history) > np.mean(cold)
    assert reached(world, warm.policy).mean() < 0.7


def test_choices_are_learned_and_drawn(tmp_path):
    model = LinearModel(action_spec=discrete(2))
    with torch.no_grad():
        model.B.copy_(torch.stack([-model.B[0], model.B[0]]) / 2)
    model.can_terminate = False
    world = fit_support(model, 0.7)
    learner, history = train_actor_critic(world, SHORT, progress=False)
    assert np.mean(history[-5:]) > np.mean(history[:5])
    states = world.support.states[:300].numpy()
    steady, _ = learner.policy.predict(states)
    drawn, _ = learner.policy.predict(states, deterministic=False)
    assert set(steady) == {0, 1} and (steady != drawn).any()
    learner.policy.save(tmp_path / "policy.safetensors")
    again = type(learner.policy).load(tmp_path / "policy.safetensors")
    np.testing.assert_array_equal(again.predict(states)[0], steady)


def test_any_space_is_learned_in():
    parts = {"a": gym.spaces.Box(-2, 3, (2,)), "b": gym.spaces.Discrete(3)}
    space = gym.spaces.Dict(parts | {"c": gym.spaces.MultiBinary(2)})
    world = fit_support(LinearModel(action_spec=ActionSpace.from_space(space)), 0.7)
    learner, history = train_actor_critic(world, TINY, progress=False)
    assert np.isfinite(history).all()
    for deterministic in (True, False):
        action, _ = learner.policy.predict(np.zeros(2, np.float32), deterministic=deterministic)
        assert space.contains(action)


def test_entropy_is_that_of_the_actions_drawn(world):
    """Of numbers against a histogram of 200,000 draws, in half ranges."""
    policy = ActorCritic.begin(world, 8, 0).policy
    state = torch.tensor([[0.3, -0.2]]).expand(200_000, 2)
    with torch.no_grad():
        drawn, entropy, *_ = policy.sample(state, policy.noise(200_000, generator()))
    density, edges = np.histogram(drawn[:, 0].numpy(), 200, density=True)
    filled = density > 0
    expected = -(density * np.log(np.where(filled, density, 1)) * np.diff(edges))[filled].sum()
    assert entropy.mean().item() == pytest.approx(expected, abs=0.02)


def test_the_likelihood_is_that_of_what_was_chosen():
    """Against how often it is drawn, of 200,000; numbers do not count."""
    parts = {"a": gym.spaces.Discrete(3), "b": gym.spaces.Box(-2, 3, (2,))}
    space = gym.spaces.Dict(parts | {"c": gym.spaces.MultiBinary(2)})
    world = fit_support(LinearModel(action_spec=ActionSpace.from_space(space)), 0.7)
    policy = ActorCritic.begin(world, 8, 0).policy
    with torch.no_grad():
        policy.network[-1].bias[:3] = torch.tensor([0.5, -0.3, 0.0])
        policy.network[-1].bias[-2:] = torch.tensor([0.7, -0.4])
        drawn = policy.sample(
            torch.tensor([[0.3, -0.2]]).expand(200_000, 2), policy.noise(200_000, generator())
        )
    chosen = drawn.controls[:, policy.chooses]
    kinds, which, counts = chosen.unique(dim=0, return_inverse=True, return_counts=True)
    assert len(kinds) == 12
    for k, count in enumerate(counts.tolist()):
        of_kind = drawn.likelihood[which == k].exp()
        assert of_kind.std() < 1e-6
        assert of_kind[0].item() == pytest.approx(count / 200_000, abs=4e-3)


def test_choices_are_weighed_by_what_comes_of_them():
    """Where what is paid has no gradient."""
    model = LinearModel(action_spec=discrete(3))
    model.can_terminate = False
    world = fit_support(model, 0.7)
    goal = Goal(lambda state, action, next_state: (action[:, 1] > 0.5).float(), 0.0, 1.0)
    config = dataclasses.replace(SHORT, ood_radius=1e6, ood_penalty=0.0)
    learner, _ = train_actor_critic(world, config, progress=False, goal=goal)
    chosen, _ = learner.policy.predict(world.support.states[:300].numpy())
    assert (chosen == 1).mean() > 0.95


def test_how_far_numbers_are_beyond_where_tanh_is_flat():
    parts = {"a": gym.spaces.Box(-2, 3, (2,)), "b": gym.spaces.Discrete(3)}
    world = fit_support(
        LinearModel(action_spec=ActionSpace.from_space(gym.spaces.Dict(parts))), 0.7
    )
    policy = ActorCritic.begin(world, 8, 0).policy
    with torch.no_grad():
        policy.network[-1].weight.zero_()
        policy.network[-1].bias[:5] = torch.tensor([3.0, -2.5, 9.0, 9.0, 9.0])
    drawn = policy.sample(torch.zeros(1, 2), None)
    assert drawn.beyond.item() == pytest.approx(1.0 + 0.25), "choices have no bound"


def test_extremes_that_a_wrong_dream_taught_are_left_again(world):
    """Where tanh is flat nothing of the returns' gradient is left: 9 is 3e-8 of its slope at 0."""

    def unlearned(saturation: float) -> float:
        config = dataclasses.replace(SHORT, saturation=saturation, learning_rate=0.02)
        learner = ActorCritic.begin(world, config.hidden, 0)
        with torch.no_grad():
            learner.policy.network[-1].weight[0].zero_()
            learner.policy.network[-1].bias[0] = 9.0
        train_actor_critic(world, config, learner=learner, progress=False)
        with torch.no_grad():
            return learner.policy.network(torch.zeros(50, 2))[:, 0].abs().mean().item()

    assert unlearned(SHORT.saturation) < 1.5 < 2.5 < unlearned(0.0)


def test_an_entropy_bonus_keeps_actions_apart(world):
    def spread(entropy: float) -> float:
        config = dataclasses.replace(SHORT, updates=25, entropy=entropy)
        policy = train_actor_critic(world, config, progress=False)[0].policy
        state = torch.zeros(2000, 2)
        with torch.no_grad():
            return policy(state, policy.noise(2000, generator())).std().item()

    assert spread(1.0) > 1.5 * spread(0.0)


def test_an_imagined_end_ends_what_is_paid(world):
    world.model.can_terminate = True
    logit = math.log(0.25) - math.log(0.75)
    world.model.termination = lambda next_state: torch.full((len(next_state),), logit)
    config = dataclasses.replace(TINY, ood_radius=1e6)
    dreamt = imagine(
        ActorCritic.begin(world, 8, 0), Dynamics(world), world.support.states[:8], config
    )
    torch.testing.assert_close(dreamt.goes_on, torch.full((8, 3), 0.75))


def test_who_leaves_the_support_is_paid_the_least_for_ever(world):
    with torch.no_grad():
        world.model.F.mul_(40)
    config = dataclasses.replace(TINY, discount=0.9)
    learner = ActorCritic.begin(world, 8, 0)
    dreamt = imagine(learner, Dynamics(world), world.support.states[:64], config)
    assert (dreamt.rewards[:, 1:] == -40).float().mean() > 0.95
    assert (dreamt.goes_on[:, 1:] == 0).float().mean() > 0.95
    dreamt.rewards.mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in learner.policy.parameters())


def test_what_diverges_is_said(world):
    nothing = Goal(
        lambda state, action, next_state: torch.full((len(state),), torch.nan), -1.0, 0.0
    )
    with pytest.raises(DivergenceError, match="returns are not finite"):
        train_actor_critic(world, TINY, known_states(world), progress=False, goal=nothing)


@pytest.mark.parametrize("damage", ["empty", "half", "policy"])
def test_a_corrupt_learner_is_said(world, tmp_path, damage):
    path = tmp_path / "learner.safetensors"
    learner, _ = train_actor_critic(world, TINY, progress=False)
    learner.save(path)
    whole = path.read_bytes()
    if damage == "policy":
        learner.policy.save(path)
    else:
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2]}[damage])
    with pytest.raises(FileFormatError, match=r"learner\.safetensors is"):
        ActorCritic.load(path)


def test_what_does_not_fit_is_refused(world):
    with pytest.raises(SpecError, match="support is not fitted"):
        train_actor_critic(World(LinearModel()), TINY, progress=False)
    learner = ActorCritic.begin(fit_support(LinearModel(action_spec=discrete(2)), 0.7), 8, 0)
    with pytest.raises(SpecError, match="2 numbers on 2 latent dimensions"):
        train_actor_critic(world, TINY, learner=learner, progress=False)
    for wrong in ({"trace": 1.5}, {"discount": 1.0}, {"horizon": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ActorCriticConfig(**wrong)

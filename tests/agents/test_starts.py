import torch
from linear_model import LinearModel, fit_support
from small import generator

from agents.starts import known_states, recorded_beliefs, sample_states
from worldmodel.types import Batch, Belief


def episodes(world, lengths=(6, 3)) -> Batch:
    """Padded to the longest; frames are the model's own pictures of random states."""
    count = max(lengths)
    states = 0.5 * torch.randn(len(lengths), count + 1, 2, generator=generator())
    frames = torch.from_numpy(world.decode(states.numpy()))
    mask = torch.arange(count) < torch.tensor(lengths)[:, None]
    ended = torch.zeros(len(lengths), count, dtype=torch.bool)
    zeros = torch.zeros(len(lengths), count)
    return Batch(frames, torch.rand(len(lengths), count, 1) - 0.5, zeros, ended, mask)


def test_beliefs_are_the_filters_at_frames_from_which_an_episode_went_on(world):
    recorded = episodes(world)
    beliefs = recorded_beliefs(world, recorded)
    expected = world.filter(recorded.observations.numpy(), recorded.actions.numpy())
    rows = torch.cat([torch.from_numpy(expected[0, :6]), torch.from_numpy(expected[1, :3])])
    torch.testing.assert_close(beliefs.mean, rows)
    assert beliefs.scale.shape == (9, 2) and (beliefs.scale > 0).all()


def test_states_are_drawn_from_their_beliefs():
    means = torch.tensor([[0.0, 10.0], [100.0, -10.0]])
    drawn = sample_states(
        Belief(means, torch.tensor([[1.0, 2.0], [0.5, 0.0]])), 40_000, generator()
    )
    second = drawn[:, 0] > 50
    assert abs(second.float().mean().item() - 0.5) < 0.02
    torch.testing.assert_close(drawn[~second].mean(0), means[0], atol=0.05, rtol=0)
    torch.testing.assert_close(drawn[~second].std(0), torch.tensor([1.0, 2.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(drawn[second].std(0), torch.tensor([0.5, 0.0]), atol=0.05, rtol=0)


def test_without_episodes_it_is_the_supports_states():
    world = fit_support(LinearModel(), 0.7)
    drawn = sample_states(known_states(world), 50, generator())
    known = {tuple(state) for state in world.support.states.tolist()}
    assert {tuple(state) for state in drawn.tolist()} <= known

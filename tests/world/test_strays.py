import torch

from worldmodel.world.strays import strays


def cloud(n, seed=0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


def test_few_states_far_off_are_strays_and_nothing_else_is():
    scale = torch.tensor([0.5, 1.0, 1.5])
    lost = 300 * cloud(20, 1)
    states = torch.cat([scale * cloud(4000), lost])
    found = strays(states, states)
    assert not found[:4000].any() and found[4000:].float().mean() > 0.9
    assert not strays(scale * cloud(4000), 2 * scale * cloud(1000, 2)).any()


def test_any_leading_shape_will_do():
    others = 20 * cloud(60, 1)
    flat = strays(cloud(500), others)
    assert flat.any() and torch.equal(strays(cloud(500), others.view(5, 12, 3)), flat.view(5, 12))


def test_what_is_not_finite_is_one():
    others = torch.tensor([[0.0, 0.0, torch.nan], [torch.inf, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert strays(cloud(500), others).tolist() == [True, True, False]
    assert strays(torch.cat([cloud(500), others]), others).tolist() == [True, True, False]
    assert strays(others[:2], others).tolist() == [True, True, False]


def test_a_dimension_that_seldom_moves_counts_where_it_does():
    states = cloud(4000)
    states[:, 1] = (torch.arange(4000) % 200 == 0).float()
    assert not strays(states, states).any()

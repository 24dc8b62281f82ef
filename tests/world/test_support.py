import pytest
import torch

from worldmodel.world.support import Support


def cloud(n, seed, latent=3):
    spread = torch.tensor([0.1, 1.0, 10.0])[:latent]
    return torch.randn(n, latent, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.fixture
def support():
    fitted = Support(3, centres=128)
    fitted.fit(cloud(4000, 0), cloud(1000, 1))
    return fitted


def test_unfitted_knows_no_outside():
    support = Support(3)
    assert not support.fitted
    assert support.inside(cloud(10, 0) * 1e6).all()
    assert not torch.isfinite(support.bounds()[0]).any()


def test_honest_data_is_inside_and_far_states_are_not(support):
    assert support.fitted
    assert support.inside(cloud(2000, 2)).float().mean() >= 0.998
    assert not support.inside(cloud(100, 3) + torch.tensor([3.0, 0, 0])).any()


def test_inside_means_distance_up_to_one_radius(support):
    states = 1.6 * cloud(20000, 4)
    distance = support.distance(states)
    clear = (distance - 1).abs() > 1e-4
    assert clear.float().mean() > 0.99
    assert 0.01 < (distance > 1).float().mean() < 0.9
    assert torch.equal(support.inside(states)[clear], (distance <= 1)[clear])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_values_that_are_not_finite_are_outside(support, bad):
    states = torch.zeros(3, 3)
    states[0, 0] = bad
    states[1, :] = bad
    assert support.inside(states).tolist() == [False, False, True]


def test_bounds_hold_everything_inside(support):
    low, high = support.bounds()
    states = 3 * cloud(20000, 5)
    within = states[support.inside(states)]
    assert (within >= low).all() and (within <= high).all()


def test_a_loaded_support_equals_the_saved(support):
    states = 1.6 * cloud(500, 6)
    copy = Support(3, centres=128)
    copy.load_state_dict(support.state_dict())
    assert torch.equal(copy.inside(states), support.inside(states))
    assert 0 < support.inside(states).sum() < 500
    support.fit(cloud(4000, 0) + 1000, cloud(1000, 1) + 1000)
    assert copy.inside(cloud(100, 7)).any() and not support.inside(cloud(100, 7)).any()


def test_states_of_a_filter_that_lost_itself_do_not_count(support):
    """Some far off stretch neither units nor radius, of the data or of held-out episodes."""
    lost, mixed = 300 * cloud(20, 5), Support(3, centres=128)
    mixed.fit(torch.cat([cloud(4000, 0), lost]), torch.cat([cloud(1000, 1), lost + 5]))
    torch.testing.assert_close(mixed.scale, support.scale, rtol=0.05, atol=0)
    torch.testing.assert_close(mixed.radius, support.radius, rtol=0.1, atol=0)
    assert not mixed.inside(lost).any()


def test_a_dimension_that_seldom_moves_counts_where_it_does():
    states = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    states[:, 1] = (torch.arange(4000) % 200 == 0).float()
    support = Support(2)
    support.fit(states, states)
    torch.testing.assert_close(support.scale, states.std(0))

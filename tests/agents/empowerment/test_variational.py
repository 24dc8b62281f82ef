import torch
from small import generator

from agents.empowerment import (
    Dynamics,
    GaussianEmpowerment,
    Noise,
    VariationalConfig,
    VariationalEmpowerment,
)


def random_linear(seed):
    g = generator(seed)
    size, act = 2 + seed % 2, 1 + seed % 2
    f = torch.randn(size, size, generator=g)
    f = 0.9 * f / torch.linalg.matrix_norm(f, 2)
    b, c = torch.randn(act, size, generator=g), 0.3 * torch.randn(size, size, generator=g)
    low = -1 - torch.rand(act, generator=g)
    return Dynamics(lambda z, u, w: z @ f + u @ b + w @ c, lambda z: z, low, -low, size), size


def bounds(seed, updates):
    dynamics, size = random_linear(seed)
    noise = Noise(0.4, frames=1, process=1.0)
    states = torch.randn(200, size, generator=generator(seed))
    exact = GaussianEmpowerment(dynamics, 3, noise)(states[:1]).item()
    config = VariationalConfig(updates=updates, samples=400, seed=seed)
    estimator = VariationalEmpowerment(dynamics, size, size, 3, noise, config)
    estimator.fit(states, progress=False)
    drawn = estimator.samples(states[:20]).flatten()
    return drawn.mean().item(), drawn.std().item() / len(drawn) ** 0.5, exact


def test_it_never_exceeds_the_capacity_of_a_linear_system():
    for seed in range(20):
        mean, error, exact = bounds(seed, updates=60)
        assert mean <= exact + 3 * error, (seed, mean, error, exact)


def test_trained_it_comes_close_to_the_capacity():
    for seed in range(3):
        mean, error, exact = bounds(seed, updates=1000)
        assert 0.95 * exact <= mean <= exact + 3 * error, (seed, mean, error, exact)


def test_the_same_seed_gives_the_same_bound():
    assert bounds(3, updates=20) == bounds(3, updates=20)

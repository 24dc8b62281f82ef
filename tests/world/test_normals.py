"""The dream's own normal numbers, against the generator as published and the distribution."""

import numpy as np
import pytest
import torch
from scipy import stats

from worldmodel.world import compiled
from worldmodel.world.vector_env import LatentVectorEnv


@pytest.fixture
def normal():
    steps = LatentVectorEnv("pendulum", 2)._steps
    assert isinstance(steps, compiled.CompiledSteps)
    return lambda size, seed: steps.normal(size, torch.Generator().manual_seed(seed)).numpy()


def _turned(words, by):
    return (words << np.uint32(by)) | (words >> np.uint32(32 - by))


def _published(words, count):
    """xoshiro128++, of Blackman and Vigna's C, its 24 highest bits; (count, 16)."""
    a, b, c, d = words.reshape(4, 16)
    for _ in range(count):
        yield ((_turned(a + d, 7) + a) >> np.uint32(8)).astype(float) / 2**24 + 2.0**-25
        moved = b << np.uint32(9)
        c, d = c ^ a, d ^ b
        b, a = b ^ c, a ^ d
        c, d = c ^ moved, _turned(d, 11)


def test_they_are_box_and_mullers_of_the_published_generator(normal):
    words = torch.randint(2**32, (64,), generator=torch.Generator().manual_seed(3))
    uniform = list(_published(words.numpy().astype(np.uint32), 6))
    expected = []
    for u, v in zip(uniform[::2], uniform[1::2], strict=True):
        radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * (v - 0.5)
        expected += [radius * np.sin(angle), radius * np.cos(angle)]
    found = normal((3, 4, 8), 3)
    np.testing.assert_allclose(found.ravel(), np.concatenate(expected), atol=3e-6)


def test_they_are_normal_and_independent(normal):
    numbers = normal((2_000_001,), 0).astype(float)
    assert stats.kstest(numbers, "norm").pvalue > 0.01
    assert 4.8 < np.abs(numbers).max() < 6
    for values in (numbers, numbers**2 - 1):
        scale = values.std() ** 2 / np.sqrt(len(values))
        for lag in (1, 2, 15, 16, 17, 32, 64):
            assert abs(np.mean(values[lag:] * values[:-lag])) < 4.5 * scale


def test_they_follow_from_the_seed_alone(normal):
    first = normal((3, 5), 7)
    np.testing.assert_array_equal(normal((3, 5), 7), first)
    assert not np.isin(normal((3, 5), 8), first).any()
    np.testing.assert_array_equal(normal((40, 5), 7).ravel()[:15], first.ravel())

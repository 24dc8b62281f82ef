"""Which episodes are learned from, and which are kept to choose and to judge by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from worldmodel.errors import ConfigError

USUAL = {"train": 0.8, "validation": 0.1, "test": 0.1}


class Shares:
    """Draws the split of one episode after the other, so that the shares hold all along.

    A split is drawn by how far it is behind its share; one that is behind by an episode is due. So
    shares hold to within an episode or so, and what is periodic in the recording is not in a
    split.

    Args:
        shares: By name, which add up to 1; by default ``USUAL``.
        seed: Of the draws.

    Raises:
        ConfigError: Shares are negative, or do not add up to 1.
    """

    def __init__(self, shares: Mapping[str, float] | None = None, seed: int = 0) -> None:
        self.shares = dict(USUAL if shares is None else shares)
        values = list(self.shares.values())
        if not values or not all(v >= 0 for v in values) or abs(sum(values) - 1) > 1e-6:
            raise ConfigError(f"shares of splits must add up to 1, got {self.shares}")
        self._seed, self._counts = seed, Counter()

    def count(self, split: str, episodes: int) -> None:
        """Take note of episodes that are in a split."""
        self._counts[split] += episodes

    def draw(self) -> str:
        """The split of the next episode."""
        total = sum(self._counts[name] for name in self.shares)
        behind = {
            name: share * (total + 1) - self._counts[name] for name, share in self.shares.items()
        }
        due = max(behind, key=lambda name: behind[name])
        if behind[due] >= 1:
            return due
        chances = np.array([max(value, 0.0) for value in behind.values()])
        rng = np.random.default_rng((self._seed, total))
        return list(behind)[int(rng.choice(len(chances), p=chances / chances.sum()))]

    def assign(self, episodes: int) -> list[str]:
        """The splits of so many episodes; each split has one, if there are enough."""
        names = [name for name, share in self.shares.items() if share > 0]
        counts = np.array([int(self.shares[name] * episodes + 1e-9) for name in names])
        if episodes >= len(names):
            counts = np.maximum(counts, 1)
        while counts.sum() != episodes:
            wanted = np.array([self.shares[name] * episodes for name in names]) - counts
            if counts.sum() < episodes:
                counts[int(wanted.argmax())] += 1
            else:
                counts[int(np.where(counts > 1, wanted, np.inf).argmin())] -= 1
        splits = np.repeat(names, counts)
        return np.random.default_rng(self._seed).permutation(splits).tolist()

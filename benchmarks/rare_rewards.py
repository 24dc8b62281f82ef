"""Ways to regress a reward that is rarely great: does a dream pay it where it is due?

A car on a hill, as Gymnasium's MountainCarContinuous but with a motor 1.6 times as strong, is
pushed about by held actions; the goal pays 100 and ends the episode. Heads of the size of
a model's, which see the true state with a little noise, are fitted as training fits them.

    python benchmarks/rare_rewards.py

Writes into docs/results.md, by head: what is paid at the goal, of 100; and what is paid too much
elsewhere, per goal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import tyro
from seeds import write_block
from torch import Tensor, nn

EPISODES, STEPS, WINDOW, BATCH, HIDDEN, NOISE = 300, 200, 14, 128, 32, 0.02


class Steps(NamedTuple):
    """Of all episodes, one after the other: inputs (n, 5), rewards (n,), lengths (episodes,)."""

    inputs: Tensor
    rewards: Tensor
    lengths: Tensor


def record(seed: int) -> Steps:
    """Drive about."""
    rng, inputs, rewards, lengths = np.random.default_rng(seed), [], [], []
    for _ in range(EPISODES):
        place, speed, force = rng.uniform(-0.6, -0.4), 0.0, 0.0
        for t in range(STEPS):
            if t == 0 or rng.random() > 0.95:
                force = rng.uniform(-1, 1)
            before = place, speed
            speed = np.clip(speed + 0.0024 * force - 0.0025 * np.cos(3 * place), -0.07, 0.07)
            place = np.clip(place + speed, -1.2, 0.6)
            speed = 0.0 if place == -1.2 and speed < 0 else speed
            inputs.append((*before, force, place, speed))
            rewards.append(-0.1 * force**2 + 100 * (place >= 0.45))
            if place >= 0.45:
                break
        lengths.append(len(rewards) - sum(lengths))
    acted = torch.tensor(np.array(inputs), dtype=torch.float32)
    return Steps(acted, torch.tensor(rewards, dtype=torch.float32), torch.tensor(lengths))


def symlog(x: Tensor) -> Tensor:
    """Hafner et al. 2023, "Mastering Diverse Domains through World Models", eq. 9."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """Its inverse."""
    return x.sign() * x.abs().expm1()


class Gaussian(nn.Module):
    """As the models have it: one learned deviation."""

    def __init__(self, rewards: Tensor, outputs: int = 1) -> None:
        super().__init__()
        self.last = nn.Linear(HIDDEN, outputs)
        self.net = nn.Sequential(nn.Linear(5, HIDDEN), nn.ReLU(), self.last)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.mean, self.std = rewards.mean(), rewards.std()

    def forward(self, inputs: Tensor) -> Tensor:
        """What is paid."""
        return self.net(inputs).squeeze(1) * self.std + self.mean

    def loss(self, inputs: Tensor, rewards: Tensor) -> Tensor:
        """Negative log-likelihood, a sequence."""
        error = (rewards - Gaussian.forward(self, inputs)) / (self.std * self.log_scale.exp())
        return (0.5 * error.square() + self.log_scale).sum() / BATCH


class Symlog(Gaussian):
    """The same of the symmetric logarithm."""

    def __init__(self, rewards: Tensor) -> None:
        super().__init__(symlog(rewards))

    def forward(self, inputs: Tensor) -> Tensor:
        """What is paid."""
        return symexp(super().forward(inputs))

    def loss(self, inputs: Tensor, rewards: Tensor) -> Tensor:
        """Negative log-likelihood, a sequence."""
        return super().loss(inputs, symlog(rewards))


class TwoHot(Gaussian):
    """Bins that are equally far apart in the symmetric logarithm; the same source, eq. 10."""

    def __init__(self, rewards: Tensor, bins: int = 41) -> None:
        super().__init__(rewards, bins)
        ends = symlog(rewards.min()).item(), symlog(rewards.max()).item()
        self.bins = symexp(torch.linspace(*ends, bins))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """What is paid."""
        return self.net(inputs).softmax(1) @ self.bins

    def loss(self, inputs: Tensor, rewards: Tensor) -> Tensor:
        """Negative log-likelihood, a sequence."""
        right = torch.searchsorted(self.bins, rewards, right=True).clamp(1, len(self.bins) - 1)
        low, high = self.bins[right - 1], self.bins[right]
        upper = ((rewards - low) / (high - low)).clamp(0, 1)
        logs = self.net(inputs).log_softmax(1)
        both = torch.stack([right - 1, right], 1)
        weights = torch.stack([1 - upper, upper], 1)
        return -(weights * logs.gather(1, both)).sum() / BATCH


HEADS = {
    "Gaussian, standardised": Gaussian,
    "Gaussian of the symmetric logarithm": Symlog,
    "two-hot, 41 bins": TwoHot,
}


def fitted(head: Gaussian, data: Steps, updates: int, even: bool, seed: int) -> Gaussian:
    """Train on windows; ``even``: of all steps alike, else as they are drawn."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates, 6e-5)
    first, beyond = data.lengths.cumsum(0) - data.lengths, (WINDOW - 1) * even
    for _ in range(updates):
        episode = torch.randint(len(first), (BATCH,), generator=generator)
        latest = (data.lengths[episode] - WINDOW).clamp_min(0)
        drawn = torch.rand(BATCH, generator=generator) * (latest + 1 + 2 * beyond)
        start = (drawn.long() - beyond).clamp_min(0).minimum(latest)
        time = start[:, None] + torch.arange(WINDOW)
        rows = (first[episode][:, None] + time)[time < data.lengths[episode][:, None]]
        loss = head.loss(blurred(data.inputs[rows], generator), data.rewards[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head


def blurred(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """States as a filter knows them; actions are known."""
    noise = NOISE * torch.randn(inputs.shape, generator=generator)
    noise[:, 2] = 0
    return inputs + noise


def paid(kind: type[Gaussian], even: bool, updates: int, seed: int) -> tuple[float, float]:
    """What a head pays at the goal, and too much elsewhere per goal."""
    train, test = record(seed), record(seed + 100)
    mean, std = train.inputs.mean(0), train.inputs.std(0)
    train, test = (d._replace(inputs=(d.inputs - mean) / std) for d in (train, test))
    torch.manual_seed(seed)
    head = fitted(kind(train.rewards), train, updates, even, seed)
    with torch.no_grad():
        told = head(blurred(test.inputs, torch.Generator().manual_seed(seed)))
    goal = test.rewards > 50
    much = (told - test.rewards)[~goal].clamp_min(0).sum() / goal.sum()
    return told[goal].mean().item(), much.item()


def main(seeds: tuple[int, ...] = (0, 1), updates: int = 1500) -> None:
    """Measure all heads.

    Args:
        seeds: Of data and heads.
        updates: Of each.
    """
    torch.set_num_threads(1)
    heading = "windows as they are drawn | ends as frequent as in episodes"
    lines = [f"| paid at the goal, and too much elsewhere | {heading} |", "|---|---|---|"]
    for name, kind in HEADS.items():
        cells = []
        for even in (False, True):
            found = [paid(kind, even, updates, seed) for seed in seeds]
            cells.append(", ".join(f"{at:.1f} and {much:.1f}" for at, much in found))
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    told = f"`python benchmarks/rare_rewards.py`, seeds {' '.join(map(str, seeds))}"
    write_block("rare-rewards", "\n".join([f"{told}; torch {torch.__version__}.\n", *lines]))


if __name__ == "__main__":
    tyro.cli(main)

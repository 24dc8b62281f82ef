"""An estimator distilled into a network.

An agent asks for the empowerment of a thousand states per update, and for its gradient. Every
answer of the linearised channel is a chain of n Jacobians; here it is one small network, fitted to
the estimator on states of the data.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.progress import track

Estimator = Callable[[Tensor], Tensor]


class Landscape(nn.Module):
    """States in, nats out, differentiable.

    Attributes:
        r2: Fraction of the estimator's variance over held-out states that it explains.
        minimum: Least value of the estimator over the states it was fitted to, nats.
        maximum: Greatest.
    """

    def __init__(self, mean: Tensor, std: Tensor, hidden: int) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.network = nn.Sequential(
            nn.Linear(len(mean), hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )
        self.r2, self.minimum, self.maximum = 0.0, 0.0, 0.0

    def forward(self, states: Float[Tensor, "n state"]) -> Float[Tensor, " n"]:
        """Approximate empowerment, nats."""
        return self.network((states - self.mean) / self.std).squeeze(1)


def fit_landscape(
    estimator: Estimator,
    states: Float[Tensor, "n state"],
    updates: int = 2000,
    hidden: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> Landscape:
    """Evaluate the estimator at ``states`` and fit a network to it; one tenth is held out.

    Args:
        estimator: States (m, state) in, nats (m,) out.
        states: Where the agent may come, a thousand or more.
        updates: Gradient updates.
        hidden: Units of each of two hidden layers.
        seed: Of initial weights and batches.
        progress: Whether to show a progress bar.
    """
    states = states.detach()
    with torch.no_grad():
        values = torch.cat([estimator(part) for part in states.split(1024)])
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(states), generator=generator).to(states.device)
    held_out, train = order[: len(states) // 10], order[len(states) // 10 :]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        landscape = Landscape(states.mean(0), states.std(0), hidden).to(states.device)
    centre, std = values.mean(), values.std()
    optimizer = torch.optim.Adam(landscape.network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in track(range(updates), "landscape", disable=not progress):
        rows = train[torch.randint(len(train), (256,), generator=generator).to(states.device)]
        loss = (landscape(states[rows]) - (values[rows] - centre) / std).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        last = landscape.network[-1]
        last.get_parameter("weight").mul_(std)
        last.get_parameter("bias").mul_(std).add_(centre)
        error = (landscape(states[held_out]) - values[held_out]).square().mean()
        landscape.r2 = 1 - (error / values[held_out].var()).item()
    landscape.minimum, landscape.maximum = values.min().item(), values.max().item()
    return landscape.requires_grad_(False).eval()

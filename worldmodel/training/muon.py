"""Muon: every update of a weight matrix moves all of its directions alike.

Adam scales each weight by itself. What a batch of neighbouring frames says of a matrix lies in few
directions, and those of what is rarely seen are lost beside them: pictures are learned place by
place. Orthogonalised, the gradient's momentum has all singular values near one.

It is for what draws. What reads learns as quickly by it, and then bends states into whatever draws
best before it is known how they move.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; step size as
in Liu et al. 2025, "Muon is Scalable for LLM Training", so that Adam's learning rate suits both.
Differs: everything is in 32 bits. ``torch.optim.Muon`` orthogonalises in 16, which takes processors
without instructions for them eighteen times as long as 32 do; and those with them no less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.models.learned import LearnedModel

# Of the source: the quintic polynomial, how often it is applied, and the momentum.
_POLYNOMIAL, _ITERATIONS, _MOMENTUM = (3.4445, -4.7750, 2.0315), 5, 0.95
# Root mean square of what weights move by, in learning rates: about that of Adam.
_PER_RATE = 0.2
# Fewer rows or columns have no directions to lose. More have layers that are as wide as a picture
# has components: orthogonalising those takes longer than all else of an update, and Reacher-v5
# diverged by it. Both are left to Adam.
_LEAST, _MOST = 64, 128


def orthogonalised(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The same singular vectors, with singular values of about one (0.7 to 1.2); zeros stay."""
    a, b, c = _POLYNOMIAL
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / x.norm().clamp_min(1e-20)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class _Matrices(torch.optim.Optimizer):
    """Muon of weight matrices.

    Args:
        matrices: Weights with two axes.
        learning_rate: As it would be of Adam.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], learning_rate: float) -> None:
        super().__init__(matrices, {"lr": learning_rate})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] (nobody asks for a loss)
        """One update from the gradients as they are."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"].lerp_(weight.grad, 1 - _MOMENTUM)
                ahead = weight.grad.lerp(momentum, _MOMENTUM)
                length = _PER_RATE * group["lr"] * math.sqrt(max(weight.shape))
                weight.add_(orthogonalised(ahead), alpha=-length)


class Muon:
    """Muon of some wide matrices, Adam of all else; used as torch's optimisers are.

    Args:
        weights: All that are to be trained.
        drawing: Those among them whose wide matrices Muon moves.
        learning_rate: Of both.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        drawing: Iterable[nn.Parameter],
        learning_rate: float,
    ) -> None:
        matrices = [w for w in drawing if w.ndim == 2 and _LEAST <= min(w.shape) <= _MOST]
        chosen = set(map(id, matrices))
        self._parts: dict[str, torch.optim.Optimizer] = {}
        if rest := [weight for weight in weights if id(weight) not in chosen]:
            self._parts["adam"] = torch.optim.Adam(rest, learning_rate, fused=True)
        if matrices:
            self._parts["muon"] = _Matrices(matrices, learning_rate)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of all weights."""
        return [group for part in self._parts.values() for group in part.param_groups]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self._parts.values():
            part.zero_grad()

    def step(self) -> None:
        """One update from the gradients as they are."""
        for part in self._parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """What going on needs."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of ``state_dict``."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])


def build_optimizer(
    model: LearnedModel, name: Literal["adam", "muon"], learning_rate: float
) -> torch.optim.Optimizer | Muon:
    """The optimiser of a model by its name; Muon is for its emissions."""
    if name == "adam":
        return torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    drawing = (weight for emission in model.emissions for weight in emission.parameters())
    return Muon(model.parameters(), drawing, learning_rate)

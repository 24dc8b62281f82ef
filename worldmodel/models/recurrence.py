"""Deterministic recurrence of a recurrent state-space model, and what is said of z from it.

    h_{t+1} = GRU(h_t, f(z_t, u_t)),   p(z_t | h_t),   q(z_t | h_t, x_t)

Source: Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels", section 3. Differs:
smooth units.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.models.networks import Linear, compiled, mlp, numbers
from worldmodel.models.program import Builder, Rows


class Recurrence(nn.Module):
    """Gated recurrent unit, prior and posterior, each of one hidden layer.

    The posterior's first layer is split so that what frames add is computed for all steps at once.

    Args:
        features: Numbers that describe one frame.
        action_size: Components of one action.
        size: Of h.
        stochastic_size: Numbers of z.
        raw_size: Numbers that say a distribution over z.
        hidden: Hidden units.
    """

    def __init__(
        self,
        features: int,
        action_size: int,
        size: int,
        stochastic_size: int,
        raw_size: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.into = Linear(stochastic_size + action_size, hidden)
        self.cell = nn.GRUCell(hidden, size)
        self.prior = mlp(size, hidden, raw_size, nn.SiLU)
        self.context = nn.Linear(features, hidden)
        self.beside = nn.Linear(size, hidden, bias=False)
        self.posterior = nn.Linear(hidden, raw_size)

    def step(
        self,
        h: Float[Tensor, "batch size"],
        z: Float[Tensor, "batch stochastic"],
        action: Float[Tensor, "batch act"],
    ) -> Float[Tensor, "batch size"]:
        """The next h; actions arrive scaled."""
        return self.cell(nn.functional.silu(self.into(torch.cat([z, action], 1))), h)

    def infer(
        self, context: Float[Tensor, "batch hidden"], h: Float[Tensor, "batch size"]
    ) -> Float[Tensor, "batch raw"]:
        """The posterior, from what the layer ``context`` made of the frame."""
        units = torch.addmm(context, h, self.beside.weight.T)
        return self.posterior(nn.functional.silu(units))

    def compiled_step(self, builder: Builder, h: Rows, z: Rows, action: Rows) -> Rows:
        """Instructions of ``step``."""
        x = builder.silu(compiled(self.into, builder, builder.join(z, action)))
        cell, size = self.cell, h.count
        both = torch.cat([cell.weight_ih[: 2 * size], cell.weight_hh[: 2 * size]], 1)
        bias = (cell.bias_ih + cell.bias_hh)[: 2 * size]
        gates = builder.linear(builder.join(x, h), numbers(both), numbers(bias))
        reset, keep = builder.sigmoid(gates).split(size, size)
        fresh = builder.linear(
            x, numbers(cell.weight_ih[2 * size :]), numbers(cell.bias_ih[2 * size :])
        )
        old = builder.linear(
            h, numbers(cell.weight_hh[2 * size :]), numbers(cell.bias_hh[2 * size :])
        )
        new = builder.tanh(builder.add(fresh, builder.multiply(reset, old)))
        change = builder.add(h, builder.affine(new, -1.0))
        return builder.add(new, builder.multiply(keep, change))

    def compiled_infer(self, builder: Builder, features: Rows, h: Rows) -> Rows:
        """Instructions of ``infer``, from the frame's features."""
        matrix = torch.cat([self.context.weight, self.beside.weight], 1)
        bias = numbers(self.context.bias)
        units = builder.linear(builder.join(features, h), numbers(matrix), bias)
        return compiled(self.posterior, builder, builder.silu(units))

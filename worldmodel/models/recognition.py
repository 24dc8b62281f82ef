"""Recognition network: the process noise that leads to the next frame.

Source: Karl et al. 2017, appendix B.3: q(w_t | z_t, x_{t+1}, u_t), diagonal Gaussian.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.models.networks import compiled_positive, numbers, positive
from worldmodel.models.program import Builder, Rows


class Recognition(nn.Module):
    """One hidden layer over (x_{t+1}, z_t, u_t).

    It is split so that all but what the state adds is computed for a whole sequence at once.

    Args:
        observation_size: Numbers that describe one frame: its scalars, or features of them.
        latent_size: Dimensions of the state.
        action_size: Components of one action.
        noise_size: Dimensions of the process noise.
        hidden: Hidden units.
    """

    def __init__(
        self,
        observation_size: int,
        latent_size: int,
        action_size: int,
        noise_size: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.context = nn.Linear(observation_size + action_size, hidden)
        self.state = nn.Linear(latent_size, hidden, bias=False)
        self.noise = nn.Linear(hidden, 2 * noise_size)

    def embed(
        self, frame: Float[Tensor, "*batch size"], action: Float[Tensor, "*batch act"]
    ) -> Float[Tensor, "*batch hidden"]:
        """What x_{t+1} and u_t add to the hidden layer, for all steps at once."""
        return self.context(torch.cat([frame, action], -1))

    def forward(
        self, context: Float[Tensor, "batch hidden"], state: Float[Tensor, "batch latent"]
    ) -> tuple[Float[Tensor, "batch noise"], Float[Tensor, "batch noise"]]:
        """Mean and scale of w_t, given what ``embed`` made of x_{t+1} and u_t."""
        hidden = torch.addmm(context, state, self.state.weight.T)
        mean, raw = self.noise(hidden.relu()).chunk(2, 1)
        return mean, positive(raw)

    def compiled(
        self, builder: Builder, frame: Rows, action: Rows, state: Rows
    ) -> tuple[Rows, Rows]:
        """Instructions of ``embed`` and ``forward``."""
        matrix = torch.cat([self.context.weight, self.state.weight], 1)
        inputs = builder.join(frame, action, state)
        hidden = builder.linear(inputs, numbers(matrix), numbers(self.context.bias), relu=True)
        out = builder.linear(hidden, numbers(self.noise.weight), numbers(self.noise.bias))
        mean, raw = out.split(out.count // 2, out.count // 2)
        return mean, compiled_positive(builder, raw)

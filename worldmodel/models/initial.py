"""Initial network: the belief over the first state from one or more leading frames.

Source: Karl et al. 2017, appendix B.3, a bidirectional recurrent network over the frames. Differs:
gated units over an embedding of each frame, actions as further inputs, and any number of frames
from one on, so that a filter can start on a live system. The paper's "initial transition", a
network from a code w_1 to z_1, is the identity here: the standard normal prior then holds for the
state itself and keeps the latent space round, where a network may bend it into any shape.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodel.models.networks import positive, raw_scale


class PrefixReader(nn.Module):
    """Bidirectional summary of leading frames and the actions between them.

    Args:
        observation_size: Numbers that describe one frame: its scalars, or features of them.
        action_size: Components of one action.
        recurrent: Hidden units of each direction.
    """

    def __init__(self, observation_size: int, action_size: int, recurrent: int) -> None:
        super().__init__()
        self.frame = nn.Linear(observation_size, recurrent)
        self.recurrent = nn.GRU(
            recurrent + action_size, recurrent, batch_first=True, bidirectional=True
        )

    def read(
        self,
        observations: Float[Tensor, "batch frames size"],
        actions: Float[Tensor, "batch steps act"],
        mask: Bool[Tensor, "batch frames"] | None = None,
        seen: Bool[Tensor, "batch frames"] | None = None,
    ) -> Float[Tensor, "batch both"]:
        """Both directions' last units. The last frame has no action yet: zeros stand in for it.

        ``mask`` is False on padding, which has no influence; actions must be zero there. Of a frame
        that was not ``seen`` nothing is read, but the action that follows it is.
        """
        features = self.frame(observations).relu()
        if seen is not None:
            features = features.masked_fill(~seen.unsqueeze(2), 0)
        inputs = torch.cat([features, nn.functional.pad(actions, (0, 0, 0, 1))], 2)
        if mask is not None and not mask.all():
            inputs = nn.utils.rnn.pack_padded_sequence(
                inputs, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False
            )
        _, last = self.recurrent(inputs)
        return torch.cat([last[0], last[1]], 1)


class InitialNetwork(PrefixReader):
    """q(z_1 | x_{1:K}, u_{1:K-1}), a diagonal Gaussian.

    Args:
        observation_size: Numbers that describe one frame: its scalars, or features of them.
        action_size: Components of one action.
        latent_size: Dimensions of the state.
        recurrent: Hidden units of each direction.
        scale: Of the state at first, above 1e-4. Where it is wide, frames say nothing yet, and
            what they show is learned later.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        latent_size: int,
        recurrent: int,
        scale: float | None = None,
    ) -> None:
        super().__init__(observation_size, action_size, recurrent)
        self.state = nn.Linear(2 * recurrent, 2 * latent_size)
        if scale is not None:
            with torch.no_grad():
                self.state.bias[latent_size:] = raw_scale(scale)

    def forward(
        self,
        observations: Float[Tensor, "batch frames size"],
        actions: Float[Tensor, "batch steps act"],
        mask: Bool[Tensor, "batch frames"] | None = None,
        seen: Bool[Tensor, "batch frames"] | None = None,
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and scale of z_1; see ``read``."""
        mean, raw = self.state(self.read(observations, actions, mask, seen)).chunk(2, 1)
        return mean, positive(raw)

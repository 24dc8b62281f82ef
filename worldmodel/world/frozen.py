"""A model's transition and reward with all that stays the same from step to step worked out once.

For a thousand small states most of a step is spent on moving numbers, not on multiplying them.
A frozen model works on (feature, batch) arrays wherever an operation runs over features, so that
long contiguous rows meet the vector units, and folds scalings and the leak into the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.models.dvbf import DVBF
from worldmodel.models.floored import FlooredNoise
from worldmodel.models.transition import LocallyLinear
from worldmodel.world.world import World


@runtime_checkable
class Frozen(Protocol):
    """What one step needs of a model; both are as in ``StateSpaceModel``, up to rounding."""

    def transition(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None,
    ) -> Float[Tensor, "batch latent"]:
        """Next state."""
        ...

    def reward(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        next_state: Float[Tensor, "batch latent"],
    ) -> Float[Tensor, " batch"]:
        """Mean reward on arrival."""
        ...


def freeze(world: World) -> Frozen:
    """The world as it is now, faster if there is a faster way."""
    model = world.model
    if isinstance(model, DVBF) and world.denoiser is None and world.dream_noise == 1:
        transition, scale = model.transition_model, None
        if isinstance(transition, FlooredNoise):
            transition, scale = transition.mean, transition.scale.detach()
        if isinstance(transition, LocallyLinear):
            return FrozenDVBF(model, transition, scale)
    # Looked up when called: what is changed afterwards counts.
    return Thawed(lambda *step: world.transition(*step), lambda *step: model.reward(*step))


class Thawed(NamedTuple):
    """A world's own transition and reward."""

    transition: Callable[..., Tensor]
    reward: Callable[..., Tensor]


class FrozenDVBF:
    """A locally linear DVBF, weights detached; gradients still reach state, action and noise.

    Since the mixing weights sum to one, the part of the state that does not leak is the same as
    that multiple of the identity on every base matrix; and the actions' affine scaling is one more
    affine map before the first layers and the base matrices.

    Args:
        model: What is done to its weights afterwards does not reach this object.
        transition: The model's.
        noise_scale: Standard deviation (latent,) of noise that is the same in every state and not
            in the base matrices, if there is such.
    """

    def __init__(
        self, model: DVBF, transition: LocallyLinear, noise_scale: Tensor | None = None
    ) -> None:
        latent, act = model.latent_size, model.action_spec.size
        self._actions = slice(latent, latent + act)
        # For the offset; kept from step to step, for its size hardly ever changes.
        self._ones = torch.ones(1, 0)
        self._action_scale, self._action_offset = model.action_scale, model.action_offset
        self.mix_in, self.mix_in_bias = self._scaled(transition.mixing[0])
        self.activation = transition.mixing[1]
        self.mix_out, bias = _affine(transition.mixing[-1])
        sharpness = torch.as_tensor(transition.sharpness).detach()
        self.mix_out *= sharpness
        self.mix_out_bias = (sharpness * bias).unsqueeze(1)
        self.weigh, self.factorial = transition.weigh, transition.factorial
        # What holds whatever the gate says: mixing weights add up to one, or the first is one.
        always = slice(1) if transition.factorial else slice(None)
        base = transition.mean.detach().clone()
        if noise_scale is not None:
            same = base.new_zeros(len(base), latent, latent)
            same[always] = noise_scale.diag()
            base = torch.cat([base[:, :-1], same, base[:, -1:]], 1)
        base[always, :latent].diagonal(dim1=1, dim2=2).add_(1 - transition.leak)
        base[:, -1] += torch.einsum("mal,a->ml", base[:, self._actions], self._action_offset)
        base[:, self._actions] *= self._action_scale.unsqueeze(1)
        self.base = base.flatten(1).T.contiguous()
        head = model.reward_head
        self.reward_in, self.reward_in_bias = self._scaled(head.mean[0])
        weight, bias = _affine(head.mean[-1])
        self.reward_out = weight[0] * head.spread
        self.reward_bias = bias * head.spread + head.shift

    def transition(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None,
    ) -> Float[Tensor, "batch latent"]:
        """Next state; its memory is (latent, batch)."""
        batch = state.shape[0]
        if self._ones.shape[1] != batch:
            self._ones = state.new_ones(1, batch)
        draws = torch.zeros_like(state) if noise is None else noise
        inputs = torch.cat([state.T, action.T, draws.T, self._ones])
        known = inputs[: self._actions.stop].T
        hidden = self.activation(nn.functional.linear(known, self.mix_in, self.mix_in_bias))
        mixing = self.weigh(torch.addmm(self.mix_out_bias, self.mix_out, hidden.T), 0)
        mixed = (self.base @ mixing).view(inputs.shape[0], -1, batch)
        return (mixed * inputs.unsqueeze(1)).sum(0).T

    def reward(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        next_state: Float[Tensor, "batch latent"],
    ) -> Float[Tensor, " batch"]:
        """Mean reward in the environment's units."""
        inputs = torch.cat([state.T, action.T, next_state.T]).T
        hidden = nn.functional.linear(inputs, self.reward_in, self.reward_in_bias).relu_()
        return torch.addmv(self.reward_bias, hidden, self.reward_out)

    def _scaled(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        """A first layer on (state, action, ...), for actions in the environment's units."""
        weight, bias = _affine(layer)
        bias += weight[:, self._actions] @ self._action_offset
        weight[:, self._actions] *= self._action_scale
        return weight, bias


def _affine(layer: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach().clone(), layer.bias.detach().clone()

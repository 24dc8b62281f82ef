"""A filter learned from what another inference found, for models that have none of their own.

Some models infer a state from frames that a live system has not given yet, or no longer has: a
smoother from the whole sequence, an encoder from a stack of frames. This filter reads one frame
after the other and is fitted, by maximum likelihood, to samples of their posterior:

    q(z_1 | x_{1:K}),   q(z_t | m_{t-1}, s_{t-1}, u_{t-1}, x_t),

where m and s are the mean and scale of its own belief one frame earlier, so that it is trained on
the mistakes that it makes. Its best fit is the posterior's projection on what the belief carries.
Neither the model nor its states feel a gradient from it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Normal

from worldmodel.errors import NotCompiled
from worldmodel.models.initial import InitialNetwork
from worldmodel.models.learned import LearnedModel
from worldmodel.models.networks import compiled
from worldmodel.models.program import Builder, Rows
from worldmodel.models.recognition import Recognition
from worldmodel.types import Belief, Observations


class DistilledFilter(nn.Module):
    """Gaussian beliefs about the states that another inference finds.

    Args:
        features: Numbers that describe one frame.
        latent_size: Dimensions of the state.
        action_size: Components of one action.
        hidden: Hidden units of the filter step.
        recurrent: Hidden units of each direction of the network for the first state.
    """

    def __init__(
        self,
        features: int,
        latent_size: int,
        action_size: int,
        hidden: int,
        recurrent: int,
    ) -> None:
        super().__init__()
        self.initial = InitialNetwork(features, action_size, latent_size, recurrent)
        self.correction = Recognition(features, 2 * latent_size, action_size, latent_size, hidden)

    def update(
        self,
        mean: Float[Tensor, "batch latent"],
        scale: Float[Tensor, "batch latent"],
        predicted: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        features: Float[Tensor, "batch features"],
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and scale of the next belief.

        Args:
            mean: Of the belief so far.
            scale: Of the belief so far.
            predicted: The next state by the model's transition from ``mean``.
            action: Scaled.
            features: Of the frame that it led to, which corrects the prediction.
        """
        context = self.correction.embed(features, action)
        offset, spread = self.correction(context, torch.cat([mean, scale.log()], 1))
        return predicted + offset, spread

    def compiled(
        self,
        builder: Builder,
        mean: Rows,
        scale: Rows,
        predicted: Rows,
        action: Rows,
        features: Rows,
    ) -> tuple[Rows, Rows]:
        """Instructions of ``update``."""
        known = builder.join(mean, builder.log(scale))
        offset, spread = self.correction.compiled(builder, features, action, known)
        return builder.add(predicted, offset), spread

    def log_prob(
        self,
        features: Float[Tensor, "batch frames features"],
        actions: Float[Tensor, "batch steps act"],
        states: Float[Tensor, "batch frames latent"],
        prefix: int,
        span: Bool[Tensor, "batch frames"],
        predict: Callable[[Tensor, Tensor], Tensor],
        seen: Bool[Tensor, "batch frames"] | None = None,
    ) -> Float[Tensor, "batch frames"]:
        """ln q of each state in nats under the belief at its frame; gradient to the filter alone.

        Args:
            features: Of every frame.
            actions: Scaled.
            states: Samples of the other inference.
            prefix: Leading frames that the first belief is read from.
            span: False on padding.
            predict: From states and scaled actions to next states: the model's transition.
            seen: False where there is no frame: there the filter predicts. All True if None.
        """
        features, states = features.detach(), states.detach()
        looks = None if seen is None else seen[:, :prefix]
        start = features[:, :prefix], actions[:, : prefix - 1], span[:, :prefix]
        beliefs = [self.initial(*start, looks)]
        for t in range(actions.shape[1]):
            # Each step is fitted to the belief that it finds: it cannot change what came before.
            mean, scale = (value.detach() for value in beliefs[-1])
            with torch.no_grad():
                predicted = predict(mean, actions[:, t])
            found = self.update(mean, scale, predicted, actions[:, t], features[:, t + 1])
            if seen is not None:
                look = seen[:, t + 1].unsqueeze(1)
                found = torch.where(look, found[0], predicted), torch.where(look, found[1], scale)
            beliefs.append(found)
        means, scales = (torch.stack(values, 1) for values in zip(*beliefs, strict=True))
        return Normal(means, scales).log_prob(states).sum(-1)


class DistilledModel(LearnedModel):
    """A model whose live filter is a distilled one.

    A subclass's constructor sets ``encoder`` and ``live``, and its ``terms`` train the latter.
    """

    encoder: nn.Module
    live: DistilledFilter

    @abstractmethod
    def _predict(
        self, state: Float[Tensor, "*batch latent"], control: Float[Tensor, "*batch act"]
    ) -> Float[Tensor, "*batch latent"]:
        """Mean of the next state; actions arrive scaled."""

    def initial(
        self,
        observations: Observations,
        actions: Float[Tensor, "batch steps act"],
        seen: Bool[Tensor, "batch frames"] | None = None,
    ) -> Belief:
        """Belief over the state at the first frame, of the distilled filter."""
        features = self.encoder(self.scale_observations(observations))
        return Belief(*self.live.initial(features, self._scale_actions(actions), seen=seen))

    def update(
        self,
        belief: Belief,
        action: Float[Tensor, "batch act"],
        observation: Observations,
    ) -> Belief:
        """One step of the distilled filter."""
        features = self.encoder(self.scale_observations(observation))
        control = self._scale_actions(action)
        predicted = self._predict(belief.mean, control)
        return Belief(*self.live.update(belief.mean, belief.scale, predicted, control, features))

    def _compiled_predict(self, builder: Builder, state: Rows, control: Rows) -> Rows:
        """Instructions of ``_predict``."""
        raise NotCompiled(f"{type(self).__name__} offers no compiled form of its filter")

    def compiled_update(
        self, builder: Builder, mean: Rows, scale: Rows, action: Rows, frame: Rows
    ) -> tuple[Rows, Rows]:
        """Instructions of ``update``."""
        control = self._compiled_control(builder, action)
        features = compiled(self.encoder, builder, self._compiled_frame(builder, frame))
        predicted = self._compiled_predict(builder, mean, control)
        return self.live.compiled(builder, mean, scale, predicted, control, features)

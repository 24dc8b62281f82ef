"""Deep Kalman Filter: a recurrent smoother, and a transition that is felt in the KL alone.

    p(z_1) = N(0, 1),   p(z_{t+1} | z_t, u_t) = N(f(z_t, u_t), s(z_t, u_t)),   p(x_t | z_t)
    q(z_{1:T} | x_{1:T}, u_{1:T}) = product over t of N(m_t, s_t),  (m, s) = BiRNN(x, u)

The posterior places every state by itself, from frames before and after it, and each is decoded
for itself. Nothing that the transition does can make a reconstruction better or worse; it only has
to follow where the recognition put the states. That is what Karl et al. 2017 hold against it.

Source: Krishnan et al. 2015, "Deep Kalman Filters", the bidirectional mean-field posterior; Karl et
al. 2017, appendix B.6. Differs: gated units; one hidden layer, rectified or tanh instead of
sigmoid; a transition that is residual with the leak of our DVBF, so that the two differ in
inference.

A smoother is no filter. The paper has no live one; ours is distilled from the smoother, see
``models/distilled.py``, and takes no part in the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodel.errors import ConfigError, require_at_least, require_choices
from worldmodel.models.codec import CodecConfig
from worldmodel.models.distilled import DistilledFilter, DistilledModel
from worldmodel.models.networks import (
    compiled,
    compiled_positive,
    mlp,
    normal_entropy,
    normal_kl,
    positive,
    standard_normal_kl,
)
from worldmodel.models.program import Builder, Rows
from worldmodel.models.terms import Terms
from worldmodel.types import Batch


@dataclass(frozen=True)
class DKFConfig:
    """Sizes of a Deep Kalman Filter.

    Attributes:
        latent_size: Dimensions of the state.
        codec: Of observations.
        leak: Fraction of the state that is forgotten per step unless the data object, in [0, 1).
        hidden: Hidden units of emission, transition, smoother's read-out and filter.
        recurrent: Hidden units of each direction of the smoother.
        head_hidden: Hidden units of reward and termination heads.
    """

    latent_size: int = 3
    codec: CodecConfig = field(default_factory=CodecConfig)
    leak: float = 0.2
    hidden: int = 128
    recurrent: int = 64
    head_hidden: int = 64

    def __post_init__(self) -> None:
        sizes = ("latent_size", "hidden", "recurrent", "head_hidden")
        require_at_least(1, **{name: getattr(self, name) for name in sizes})
        require_choices(self)
        if not 0 <= self.leak < 1:
            raise ConfigError(f"leak must lie in [0, 1), got {self.leak}")


class GaussianTransition(nn.Module):
    """N((1 - leak) z + f(z, u), s(z, u)), diagonal, with one hidden layer.

    Its units are bounded, as the published ones are: with the leak no dream grows without end.

    Args:
        latent_size: Dimensions of the state.
        action_size: Components of one action.
        hidden: Hidden units.
        leak: Fraction of the state that is forgotten per step before f acts.
    """

    def __init__(self, latent_size: int, action_size: int, hidden: int, leak: float) -> None:
        super().__init__()
        self.leak = leak
        self.network = mlp(latent_size + action_size, hidden, 2 * latent_size, nn.Tanh)

    def forward(
        self, state: Float[Tensor, "*batch latent"], action: Float[Tensor, "*batch act"]
    ) -> tuple[Float[Tensor, "*batch latent"], Float[Tensor, "*batch latent"]]:
        """Mean and scale of the next state; actions arrive scaled."""
        change, raw = self.network(torch.cat([state, action], -1)).chunk(2, -1)
        return (1 - self.leak) * state + change, positive(raw)

    def compiled(self, builder: Builder, state: Rows, action: Rows) -> tuple[Rows, Rows]:
        """Instructions of ``forward``."""
        out = compiled(self.network, builder, builder.join(state, action))
        change, raw = out.split(state.count, state.count)
        mean = builder.add(builder.affine(state, 1 - self.leak), change)
        return mean, compiled_positive(builder, raw)


class Smoother(nn.Module):
    """q(z_t | x_{1:T}, u_{1:T}) for every t, by a bidirectional recurrent network.

    Args:
        features: Numbers that describe one frame.
        action_size: Components of one action.
        latent_size: Dimensions of the state.
        recurrent: Hidden units of each direction.
        hidden: Hidden units of the read-out.
    """

    def __init__(
        self, features: int, action_size: int, latent_size: int, recurrent: int, hidden: int
    ) -> None:
        super().__init__()
        self.frame = nn.Linear(features, recurrent)
        self.recurrent = nn.GRU(
            recurrent + action_size, recurrent, batch_first=True, bidirectional=True
        )
        self.state = mlp(2 * recurrent, hidden, 2 * latent_size)

    def forward(
        self,
        features: Float[Tensor, "batch frames features"],
        actions: Float[Tensor, "batch steps act"],
        frame_mask: Bool[Tensor, "batch frames"],
    ) -> tuple[Float[Tensor, "batch frames latent"], Float[Tensor, "batch frames latent"]]:
        """Means and scales; those on padding mean nothing."""
        # The last frame has no action yet: zeros stand in for it.
        inputs = torch.cat(
            [self.frame(features).relu(), nn.functional.pad(actions, (0, 0, 0, 1))], 2
        )
        if frame_mask.all():
            outputs = self.recurrent(inputs)[0]
        else:
            packed = nn.utils.rnn.pack_padded_sequence(
                inputs, frame_mask.sum(1).cpu(), batch_first=True, enforce_sorted=False
            )
            outputs, _ = nn.utils.rnn.pad_packed_sequence(
                self.recurrent(packed)[0], batch_first=True, total_length=frame_mask.shape[1]
            )
        mean, raw = self.state(outputs).chunk(2, 2)
        return mean, positive(raw)


class DKF(DistilledModel):
    """Deep Kalman Filter; see ``LearnedModel`` for its arguments."""

    config: DKFConfig
    config_type = DKFConfig

    def _build(self, generator: torch.Generator) -> None:
        c, act, latent = self.config, self.action_spec.size, self.latent_size
        self.encoder, features = self.codec.encoder()
        self.smoother = Smoother(features, act, latent, c.recurrent, c.hidden)
        self.transition_model = GaussianTransition(latent, act, c.hidden, c.leak)
        self.emission = self.codec.emission(latent)
        self._build_heads()
        self.live = DistilledFilter(features, latent, act, c.hidden, c.recurrent)

    def _predict(self, state: Tensor, control: Tensor) -> Tensor:
        return self.transition_model(state, control)[0]

    def _compiled_predict(self, builder: Builder, state: Rows, control: Rows) -> Rows:
        return self.transition_model.compiled(builder, state, control)[0]

    def _step(
        self,
        state: Float[Tensor, "batch latent"],
        control: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None,
    ) -> Float[Tensor, "batch latent"]:
        mean, scale = self.transition_model(state, control)
        return mean if noise is None else torch.addcmul(mean, scale, noise)

    def _compiled_step(self, builder: Builder, state: Rows, control: Rows, noise: Rows) -> Rows:
        mean, scale = self.transition_model.compiled(builder, state, control)
        return builder.add(mean, builder.multiply(scale, noise))

    def terms(
        self,
        batch: Batch,
        generator: torch.Generator,
        observed: Bool[Tensor, "batch frames"] | None = None,
        prefix: int | None = None,
        unobserved_scale: float = 1.0,
    ) -> Terms:
        """Terms of the bound; see the base class.

        The smoother reads all frames that are observed; ``prefix`` is that of the live filter.
        """
        prepared = self._prepare(batch, observed, prefix)
        _, actions, span, observed, prefix = prepared[:5]
        features = self.encoder(prepared.frames)
        seen = observed.unsqueeze(2)
        means, scales = self.smoother(features.masked_fill(~seen, 0), actions, span)
        draws = self._draw(tuple(means.shape), generator)
        inferred = torch.addcmul(means, scales, draws)
        blind = unobserved_scale * draws
        states = [torch.where(seen[:, 0], inferred[:, 0], blind[:, 0])]
        priors = [(torch.zeros_like(states[0]), torch.ones_like(states[0]))]
        for t, action in enumerate(actions.unbind(1)):
            mean, scale = self.transition_model(states[-1], action)
            drawn = torch.addcmul(mean, scale, blind[:, t + 1])
            states.append(torch.where(seen[:, t + 1], inferred[:, t + 1], drawn))
            priors.append((mean, scale))
        sampled = torch.stack(states, 1)
        prior_means, prior_scales = (torch.stack(v, 1) for v in zip(*priors, strict=True))
        noise = torch.full_like(means, unobserved_scale)
        live = self.live.log_prob(
            features, actions, sampled, prefix, span, self._predict, batch.seen
        )
        rate = normal_kl(means, scales, prior_means, prior_scales) * observed + standard_normal_kl(
            torch.zeros_like(noise), noise
        ) * (span & ~observed)
        return self._explain(
            batch,
            prepared,
            sampled,
            self._compare(sampled, prepared),
            rate,
            normal_entropy(scales) * observed,
            means.new_zeros(()),
            live * observed,
        )

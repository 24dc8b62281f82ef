"""Recurrent State-Space Model: a deterministic state h that remembers, and a stochastic one, z.

    h_1 a constant,   h_{t+1} = GRU(h_t, z_t, u_t),
    z_t ~ p(z_t | h_t),   x_t ~ p(x_t | h_t, z_t),   q(z_t | h_t, x_t)

The latent state is h and z together, the process noise that of z alone. A belief knows h exactly.

Sources: Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels" (Gaussian z), and
2021, "Mastering Atari with Discrete World Models" (categorical z). Differ: the first z may be
inferred from several leading frames, h_1 is learned instead of zero, and rewards are learned from
states that do not feel it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodel.errors import require_at_least, require_choices
from worldmodel.models.codec import CodecConfig
from worldmodel.models.codec.emission import Comparison
from worldmodel.models.fused_recurrence import Inferred, infer_fused
from worldmodel.models.initial import PrefixReader
from worldmodel.models.learned import LearnedModel
from worldmodel.models.networks import compiled, standard_normal_kl
from worldmodel.models.program import Builder, Rows
from worldmodel.models.recurrence import Recurrence
from worldmodel.models.stochastic import CategoricalLatents, GaussianLatents, Stochastic
from worldmodel.models.terms import Terms
from worldmodel.types import Batch, Belief, Observations


@dataclass(frozen=True)
class RSSMConfig:
    """Sizes of a Recurrent State-Space Model.

    Attributes:
        deterministic_size: Dimensions of h.
        stochastic: What z is: "gaussian" or "categorical".
        stochastic_size: Dimensions of a Gaussian z; how many variables a categorical one has.
        classes: Of each categorical variable.
        codec: Of observations.
        hidden: Hidden units of the recurrence, of prior and of posterior.
        recurrent: Hidden units of each direction of the network that reads leading frames.
        head_hidden: Hidden units of reward and termination heads.
    """

    deterministic_size: int = 128
    stochastic: Literal["gaussian", "categorical"] = "gaussian"
    stochastic_size: int = 16
    classes: int = 16
    codec: CodecConfig = field(default_factory=CodecConfig)
    hidden: int = 128
    recurrent: int = 32
    head_hidden: int = 64

    def __post_init__(self) -> None:
        sizes = ("deterministic_size", "stochastic_size", "hidden", "recurrent", "head_hidden")
        require_at_least(1, **{name: getattr(self, name) for name in sizes})
        require_at_least(2, classes=self.classes)
        require_choices(self)

    @property
    def latents(self) -> Stochastic:
        """Distributions over z."""
        if self.stochastic == "gaussian":
            return GaussianLatents(self.stochastic_size)
        return CategoricalLatents(self.stochastic_size, self.classes)

    @property
    def latent_size(self) -> int:
        """Dimensions of h and z together."""
        return self.deterministic_size + self.latents.size


class RSSM(LearnedModel):
    """Recurrent State-Space Model; see ``LearnedModel`` for its arguments."""

    config: RSSMConfig
    config_type = RSSMConfig

    def _build(self, generator: torch.Generator) -> None:
        c, act = self.config, self.action_spec.size
        self.latents = c.latents
        self.noise_size = self.latents.noise_size
        self.encoder, features = self.codec.encoder()
        self.reader = PrefixReader(features, act, c.recurrent)
        self.first = nn.Linear(2 * c.recurrent, self.latents.raw_size)
        self.start = nn.Parameter(torch.zeros(c.deterministic_size))
        self.recurrence = Recurrence(
            features, act, c.deterministic_size, self.latents.size, self.latents.raw_size, c.hidden
        )
        self.emission = self.codec.emission(c.latent_size)
        self._build_heads()

    @property
    def smooth(self) -> bool:
        """Where no class is chosen."""
        return self.config.stochastic == "gaussian"

    def _split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """h and z."""
        h, z = state.split([self.config.deterministic_size, self.latents.size], -1)
        return h, z

    def _begin(self, n: int) -> Float[Tensor, "n deterministic"]:
        """h_1, within what a gated unit reaches."""
        return self.start.tanh().expand(n, -1)

    def _believed(self, h: Tensor, raw: Tensor) -> Belief:
        """What is known if h is, and a distribution over z."""
        z, scale = self.latents.draw(raw, None), self.latents.scale(raw)
        return Belief(torch.cat([h, z], 1), torch.cat([torch.zeros_like(h), scale], 1))

    def initial(
        self,
        observations: Observations,
        actions: Float[Tensor, "batch steps act"],
        seen: Bool[Tensor, "batch frames"] | None = None,
    ) -> Belief:
        """Belief over the state at the first frame."""
        features = self.encoder(self.scale_observations(observations))
        raw = self.first(self.reader.read(features, self._scale_actions(actions), seen=seen))
        return self._believed(self._begin(len(raw)), raw)

    def initial_prior(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """h_1, and z_1 as the prior draws it from there."""
        h = self._begin(n)
        z = self.latents.draw(self.recurrence.prior(h), self._draw((n, self.noise_size), generator))
        return torch.cat([h, z], 1)

    def update(
        self,
        belief: Belief,
        action: Float[Tensor, "batch act"],
        observation: Observations,
    ) -> Belief:
        """Go on from the belief's mean, and infer z from the frame."""
        h = self.recurrence.step(*self._split(belief.mean), self._scale_actions(action))
        features = self.encoder(self.scale_observations(observation))
        return self._believed(h, self.recurrence.infer(self.recurrence.context(features), h))

    def predict(self, belief: Belief, action: Float[Tensor, "batch act"]) -> Belief:
        """The same, with the prior of z."""
        h = self.recurrence.step(*self._split(belief.mean), self._scale_actions(action))
        return self._believed(h, self.recurrence.prior(h))

    def _step(
        self,
        state: Float[Tensor, "batch latent"],
        control: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None,
    ) -> Float[Tensor, "batch latent"]:
        h = self.recurrence.step(*self._split(state), control)
        return torch.cat([h, self.latents.draw(self.recurrence.prior(h), noise)], 1)

    def _compiled_h(self, builder: Builder, state: Rows, control: Rows) -> Rows:
        h, z = state.split(self.config.deterministic_size, self.latents.size)
        return self.recurrence.compiled_step(builder, h, z, control)

    def _compiled_step(self, builder: Builder, state: Rows, control: Rows, noise: Rows) -> Rows:
        h = self._compiled_h(builder, state, control)
        raw = compiled(self.recurrence.prior, builder, h)
        mean, scale = self.latents.compiled(builder, raw)
        return builder.join(h, builder.add(mean, builder.multiply(scale, noise)))

    def compiled_update(
        self, builder: Builder, mean: Rows, scale: Rows, action: Rows, frame: Rows
    ) -> tuple[Rows, Rows]:
        """Instructions of ``update``."""
        h = self._compiled_h(builder, mean, self._compiled_control(builder, action))
        features = compiled(self.encoder, builder, self._compiled_frame(builder, frame))
        raw = self.recurrence.compiled_infer(builder, features, h)
        z, spread = self.latents.compiled(builder, raw)
        known = builder.constant(np.zeros(h.count))
        return builder.join(h, z), builder.join(known, spread)

    def terms(
        self,
        batch: Batch,
        generator: torch.Generator,
        observed: Bool[Tensor, "batch frames"] | None = None,
        prefix: int | None = None,
        unobserved_scale: float = 1.0,
    ) -> Terms:
        """Terms of the bound from one sample of the posterior; see the base class."""
        prepared = self._prepare(batch, observed, prefix)
        frames, actions, span, observed, prefix = prepared[:5]
        # Time first: whatever is taken of a sequence then lies in one piece.
        timed = frames.transpose(0, 1).contiguous()
        features = self.encoder(timed)
        read = self.reader.read(
            features[:prefix].transpose(0, 1),
            actions[:, : prefix - 1],
            span[:, :prefix],
            None if batch.seen is None else batch.seen[:, :prefix],
        )
        draws = self._draw((len(timed), len(batch), self.noise_size), generator, 1)
        blind = unobserved_scale * draws
        hs, zs, raws, priors = self._infer(
            self.first(read), features, actions.transpose(0, 1), draws, blind, observed.T
        )
        narrow = torch.full_like(draws, unobserved_scale)
        unpaid = standard_normal_kl(torch.zeros_like(narrow), narrow) * (span & ~observed).T

        def rate(towards_prior: float | None = None) -> Tensor:
            pair = raws, priors
            if towards_prior is not None:
                pair = _felt(raws, 1 - towards_prior), _felt(priors, towards_prior)
            return (self.latents.kl(*pair) * observed.T + unpaid).T

        states = torch.cat([hs, zs], 2)
        compared = self.emission.compare(states, timed)
        return self._explain(
            batch,
            prepared,
            states.transpose(0, 1),
            Comparison(*(each.T for each in compared)),
            rate(),
            (self.latents.entropy(raws) * observed.T).T,
            frames.new_zeros(()),
            balance=rate,
        )

    def _infer(
        self,
        first: Tensor,
        features: Tensor,
        controls: Tensor,
        draws: Tensor,
        blind: Tensor,
        seen: Tensor,
    ) -> Inferred:
        """Along a window; time comes first."""
        part, latents, look = self.recurrence, self.latents, seen.unsqueeze(2)
        h = self._begin(len(first))
        prior = part.prior(h)
        drawn, dreamt = latents.draw(first, draws[0]), latents.draw(prior, blind[0])
        z = torch.where(look[0], drawn, dreamt)
        later = features[1:], controls, h, z, draws[1:], blind[1:], look[1:]
        begun = (h, z, first, prior)
        found = infer_fused(part, latents, *later)
        return Inferred(
            *(torch.cat([a.unsqueeze(0), b]) for a, b in zip(begun, found, strict=True))
        )


def _felt(value: Tensor, fraction: float) -> Tensor:
    """The same value, of whose gradient a fraction is felt."""
    return value.detach() + fraction * (value - value.detach())

"""Extended Kalman VAE: frames are read by networks, states are inferred in closed form.

    p(z_1) = N(0, 1),   p(z_{t+1} | z_t, u_t) = N(F z_t + B u_t + d, Q),
    p(a_t | z_t) = N(H z_t, R),   H = [1 0],   p(x_t | a_t) a network,

F, B, d and Q mixed from base matrices by a network of (z_t, u_t). What a frame shows of the state
is the auxiliary variable a_t; a network reads it off each frame by itself, q(a_t | x_t) = N(m, S).
All that is known of z then follows from these readings by an extended Kalman filter (live) and
smoother (training), in which F and B stand where the Taylor expansion would.

A trajectory is sampled from the smoother, and the bound is

    ln p(x) >= sum over t of  E ln p(x_t | a_t) - E KL(q(z_t | z_{t-1}, x) || p(z_t | z_{t-1}, u))
                              - E KL(q(a_t | z_t, x_t) || p(a_t | z_t)),

both KLs closed form, the second transition that of the sampled state.

Source: Klushyn et al. 2021, "Latent Matters: Learning Deep State-Space Models". Differs: the
filter is given a reading's mean and variance instead of a sample of it, and a_t is inferred from
both the reading and z_t, q(a_t | z_t, x_t) ~ N(a_t; m, S) p(a_t | z_t), as in Johnson et al. 2016,
"Composing graphical models with neural networks". Then nothing is taken for known that was drawn,
and the bound holds for the transition as it is, not only for its linearisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodel.errors import ConfigError, require_at_least, require_choices
from worldmodel.models.codec import CodecConfig
from worldmodel.models.kalman import (
    Gaussian,
    Linear,
    backwards,
    correct,
    forwards,
    gaussian_entropy,
    gaussian_kl,
    kalman_filter,
    predict,
    smooth,
)
from worldmodel.models.learned import LearnedModel, Prepared
from worldmodel.models.networks import (
    mlp,
    normal_entropy,
    normal_kl,
    positive,
    standard_normal_kl,
)
from worldmodel.models.program import Builder, Rows
from worldmodel.models.terms import Terms
from worldmodel.models.transition import LocallyLinear
from worldmodel.types import Batch, Belief, Observations

# Least standard deviation of any noise, lest 32 bits no longer tell it from nothing.
_FLOOR = 1e-3
# Standard deviations at first: of the process noise, of a given z, and of a reading of a frame.
_PROCESS, _AUXILIARY, _READING = 0.2, 0.05, 0.3


@dataclass(frozen=True)
class EKVAEConfig:
    """Sizes of an extended Kalman VAE.

    Attributes:
        latent_size: Dimensions of the state.
        auxiliary_size: How many of them, the first, a frame shows.
        codec: Of observations.
        base_matrices: Number of base matrices.
        mixing_hidden: Hidden units of the network that mixes them.
        transition_init: Scale of the base matrices' initial values.
        leak: Fraction of the state that is forgotten per step unless the data object, in [0, 1).
        hidden: Hidden units of the network that reads frames.
        head_hidden: Hidden units of reward and termination heads.
    """

    latent_size: int = 4
    auxiliary_size: int = 2
    codec: CodecConfig = field(default_factory=CodecConfig)
    base_matrices: int = 16
    mixing_hidden: int = 32
    transition_init: float = 0.1
    leak: float = 0.2
    hidden: int = 128
    head_hidden: int = 64

    def __post_init__(self) -> None:
        sizes = ("latent_size", "auxiliary_size", "base_matrices", "mixing_hidden")
        sizes += ("hidden", "head_hidden")
        require_at_least(1, **{name: getattr(self, name) for name in sizes})
        require_choices(self)
        if (size := self.auxiliary_size) > self.latent_size:
            raise ConfigError(
                f"auxiliary_size must be at most latent_size {self.latent_size}, got {size}"
            )
        if not 0 <= self.leak < 1:
            raise ConfigError(f"leak must lie in [0, 1), got {self.leak}")
        if not 0 < self.transition_init < math.inf:
            raise ConfigError(f"transition_init must be finite and > 0, got {self.transition_init}")


class MixedTransition(LocallyLinear):
    """The locally linear transition as a Gaussian, with a process noise that is mixed too.

    Q is the sum of diagonal base matrices by the same weights as F and B, and of a floor.

    Args:
        config: Sizes.
        action_size: Components of one action.
        generator: Source of the initial values.
    """

    def __init__(self, config: EKVAEConfig, action_size: int, generator: torch.Generator) -> None:
        c = config
        sizes = (c.latent_size, action_size, 0, c.base_matrices, c.mixing_hidden)
        super().__init__(*sizes, c.transition_init, 0.0, "smooth", c.leak, generator)
        noise = torch.full((c.base_matrices, c.latent_size), _PROCESS)
        self.log_noise = nn.Parameter(noise.log())

    def step(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        weights: Tensor | None = None,
    ) -> Linear:
        """The transition as it is in one state, under a scaled action."""
        base = self.mean if weights is None else weights
        noise = (2 * self.log_noise).exp().unsqueeze(1)
        mixed = self._mix(torch.cat([state, action], 1), torch.cat([base, noise], 1))
        latent = state.shape[1]
        change, control, variance = mixed[:, :latent], mixed[:, latent:-1], mixed[:, -1]
        inputs = torch.cat([action, torch.ones_like(action[:, :1])], 1)
        return Linear(
            change.mT + (1 - self.leak) * torch.eye(latent, device=state.device, dtype=state.dtype),
            (inputs.unsqueeze(1) @ control).squeeze(1),
            torch.diag_embed((variance + _FLOOR**2).sqrt()),
        )

    def compiled(self, builder: Builder, state: Rows, action: Rows, noise: Rows) -> Rows:
        """Instructions of a draw of ``step``."""
        variance = (2 * self.log_noise).exp().unsqueeze(1)
        base = torch.cat([self.mean, variance], 1).detach()
        mixed = self.compiled_mixture(builder, state, action, base)
        latent = state.count
        matrix, offset, variance = mixed.split(mixed.count - 2 * latent, latent, latent)
        mean = builder.contract(matrix, builder.join(state, action), offset)
        scale = builder.sqrt(builder.affine(variance, 1.0, _FLOOR**2))
        return builder.add(mean, builder.multiply(scale, noise))


class EKVAE(LearnedModel):
    """Extended Kalman VAE; see ``LearnedModel`` for its arguments.

    Its filter starts from one frame. One that is started from several begins with the smoother's
    belief about the first, and then sees the others once more.
    """

    config: EKVAEConfig
    config_type = EKVAEConfig

    def _build(self, generator: torch.Generator) -> None:
        c, size = self.config, self.config.auxiliary_size
        self.visible_size = size
        self.encoder, features = self.codec.encoder()
        self.reader = mlp(features, c.hidden, 2 * size)
        self.transition_model = MixedTransition(c, self.action_spec.size, generator)
        self.emission = self.codec.emission(size)
        self._build_heads()
        self.log_auxiliary_noise = nn.Parameter(torch.full((size,), _AUXILIARY).log())
        with torch.no_grad():
            self.reader[-1].get_parameter("bias")[size:] = math.log(math.expm1(_READING))

    @property
    def auxiliary_noise(self) -> Float[Tensor, " auxiliary"]:
        """Standard deviation of each auxiliary variable given the state."""
        return _FLOOR + self.log_auxiliary_noise.exp()

    def read(
        self, frames: Float[Tensor, "*batch size"]
    ) -> tuple[Float[Tensor, "*batch auxiliary"], Float[Tensor, "*batch auxiliary"]]:
        """Mean and scale of what flat, scaled frames show by themselves."""
        mean, raw = self.reader(self.encoder(frames)).chunk(2, -1)
        return mean, positive(raw)

    def _sensor(self, scale: Tensor) -> Linear:
        """How readings of some scale depend on the state."""
        size = self.visible_size
        kind = {"device": scale.device, "dtype": scale.dtype}
        matrix = torch.eye(size, self.latent_size, **kind).expand(*scale.shape, -1)
        total = (scale.square() + self.auxiliary_noise.square()).sqrt()
        return Linear(matrix, torch.zeros_like(scale), torch.diag_embed(total))

    def prior(self, n: int) -> Gaussian:
        """Of the state at the first frame."""
        eye = torch.eye(self.latent_size, dtype=self.dtype, device=self.device)
        return Gaussian(eye.new_zeros(n, self.latent_size), eye.expand(n, -1, -1))

    def posterior(
        self,
        reading: tuple[Tensor, Tensor],
        actions: Float[Tensor, "batch steps act"],
        observed: Bool[Tensor, "batch frames"] | None = None,
        weights: Tensor | None = None,
    ) -> tuple[Gaussian, Linear]:
        """Extended Kalman smoother: beliefs (B, T + 1, ...), and states given the one before.

        Args:
            reading: Of ``read``, for every frame.
            actions: Scaled.
            observed: False where a frame is not to be looked at.
            weights: Of the transition, as drawn by it, or None for their posterior mean.
        """

        def step(t: int, state: Tensor) -> Linear:
            return self.transition_model.step(state, actions[:, t], weights)

        mean, scale = reading
        found = kalman_filter(self.prior(len(mean)), step, self._sensor(scale), mean, observed)
        backward = backwards(found)
        smoothed = smooth(found.filtered.at(-1), backward)
        return smoothed, forwards(smoothed, backward)

    def initial(
        self,
        observations: Observations,
        actions: Float[Tensor, "batch steps act"],
        seen: Bool[Tensor, "batch frames"] | None = None,
    ) -> Belief:
        """The smoother's belief about the first frame's state."""
        reading = self.read(self.scale_observations(observations))
        return self.posterior(reading, self._scale_actions(actions), seen)[0].at(0).belief()

    def update(
        self,
        belief: Belief,
        action: Float[Tensor, "batch act"],
        observation: Observations,
    ) -> Belief:
        """One step of the extended Kalman filter."""
        mean, scale = self.read(self.scale_observations(observation))
        predicted = Gaussian.of(self.predict(belief, action))
        return correct(predicted, self._sensor(scale), mean)[0].belief()

    def predict(self, belief: Belief, action: Float[Tensor, "batch act"]) -> Belief:
        """The extended Kalman filter's prediction."""
        step = self.transition_model.step(belief.mean, self._scale_actions(action))
        return predict(Gaussian.of(belief), step).belief()

    def _step(
        self,
        state: Float[Tensor, "batch latent"],
        control: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None,
    ) -> Float[Tensor, "batch latent"]:
        """With the posterior mean of the transition's weights."""
        step = self.transition_model.step(state, control)
        return step.mean(state) if noise is None else _drawn(step.given(state), noise)

    def _compiled_step(self, builder: Builder, state: Rows, control: Rows, noise: Rows) -> Rows:
        return self.transition_model.compiled(builder, state, control, noise)

    def terms(
        self,
        batch: Batch,
        generator: torch.Generator,
        observed: Bool[Tensor, "batch frames"] | None = None,
        prefix: int | None = None,
        unobserved_scale: float = 1.0,
    ) -> Terms:
        """Terms of the bound from one sample of the posterior; see this module, and the base class.

        After the last frame that is observed states are dreamt. Nothing is read from a ``prefix``
        alone.
        """
        prepared = self._prepare(batch, observed, prefix)
        mean, scale = self.read(prepared.frames)
        weights = self.transition_model.draw(generator)
        sizes = [self.latent_size, self.visible_size]
        draws = self._draw((mean.shape[1], len(mean), sum(sizes)), generator, 1).transpose(0, 1)
        noise, fuzz = draws.split(sizes, -1)
        reading = mean, scale
        states, rate, entropy = self._infer(reading, prepared, noise, unobserved_scale, weights)
        seen, prior = self._visible(states), self.auxiliary_noise
        # A reading and the state, each with its variance, meet by Bayes' rule.
        looked = prepared.observed.unsqueeze(2)
        trust = prior.square() / (prior.square() + scale.square())
        told = torch.where(looked, seen + trust * (mean - seen), seen)
        width = torch.where(looked, trust.sqrt() * scale, unobserved_scale * prior)
        rate = (rate + normal_kl(told, width, seen, prior)) * prepared.span
        return self._explain(
            batch,
            prepared,
            states,
            self.emission.compare(torch.addcmul(told, width, fuzz), prepared.frames),
            rate,
            (entropy + normal_entropy(width)) * prepared.observed,
            self.transition_model.weight_kl(),
        )

    def _infer(
        self,
        reading: tuple[Tensor, Tensor],
        prepared: Prepared,
        noise: Tensor,
        unobserved_scale: float,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A trajectory, and the rate and the entropy of each of its states."""
        observed, actions = prepared.observed, prepared.actions
        smoothed, onward = self.posterior(reading, actions, observed, weights)
        # Frames before the last that is looked at may be told by it, looked at or not.
        told = observed.flip(1).cumsum(1).flip(1) > 0
        priors, posteriors, states = [self.prior(len(observed))], [smoothed.at(0)], []
        for t in range(observed.shape[1]):
            if t:
                before = states[-1]
                step = self.transition_model.step(before, actions[:, t - 1], weights)
                priors.append(step.given(before))
                posteriors.append(onward.at(t - 1).given(before))
            dreamt = _drawn(priors[-1], unobserved_scale * noise[:, t])
            drawn = _drawn(posteriors[-1], noise[:, t])
            states.append(torch.where(told[:, t : t + 1], drawn, dreamt))
        p, q = (
            Gaussian(*(torch.stack(part, 1) for part in zip(*beliefs, strict=True)))
            for beliefs in (priors, posteriors)
        )
        blind = torch.full_like(p.mean, unobserved_scale)
        constant = standard_normal_kl(torch.zeros_like(blind), blind)
        rate = torch.where(told, gaussian_kl(q, p), constant)
        return torch.stack(states, 1), rate, gaussian_entropy(q.factor)


def _drawn(belief: Gaussian, noise: Tensor) -> Tensor:
    return belief.mean + (belief.factor @ noise.unsqueeze(-1)).squeeze(-1)

"""A linear-Gaussian state-space model, trained by its exact likelihood.

    z_1 ~ N(0, 1),   z_{t+1} ~ N(F z_t + B u_t + b, Q),   x_t ~ N(H z_t + c, R),

Q and R diagonal. The standard normal beginning and the diagonal Q only fix the coordinates: any
Gaussian beginning and any Q become these by a linear change of z, which F, B, b, H and c follow.

The posterior is exact, and so is the bound. It is written as every other model's,

    ln p(x) = sum over t of  E ln p(x_t | z_t) - E KL(q(z_t | z_{t-1}, x) || p(z_t | z_{t-1}, u)),

with q the smoother's posterior, read forwards in time, and both expectations in closed form:
nothing of it is sampled but the states that the heads learn from.

Source: Kalman 1960; Rauch et al. 1965.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Normal

from worldmodel.errors import SpecError, require_at_least
from worldmodel.models.codec.emission import Comparison, Emission
from worldmodel.models.kalman import (
    Filtered,
    Gaussian,
    Linear,
    backwards,
    correct,
    forwards,
    gaussian_entropy,
    gaussian_kl,
    kalman_filter,
    predict,
    sample,
    smooth,
)
from worldmodel.models.learned import LearnedModel
from worldmodel.models.networks import numbers, standard_normal_kl
from worldmodel.models.program import Builder, Rows
from worldmodel.models.terms import Terms
from worldmodel.types import Batch, Belief, Observations

# Least standard deviation of any noise, lest 32 bits no longer tell it from nothing.
_FLOOR = 1e-3


@dataclass(frozen=True)
class LinearGaussianConfig:
    """Sizes of a linear-Gaussian state-space model.

    Attributes:
        latent_size: Dimensions of the state.
        head_hidden: Hidden units of reward and termination heads.
    """

    latent_size: int = 4
    head_hidden: int = 64

    def __post_init__(self) -> None:
        require_at_least(1, latent_size=self.latent_size, head_hidden=self.head_hidden)


class LinearEmission(Emission):
    """N(H z + c, R) over the scaled observation, with a noise scale for each of its scalars.

    Args:
        latent_size: Dimensions of the state.
        observation_size: Scalars in one observation.
    """

    def __init__(self, latent_size: int, observation_size: int) -> None:
        super().__init__()
        self.mean = nn.Linear(latent_size, observation_size)
        self.log_scale = nn.Parameter(torch.full((observation_size,), 0.5).log())

    @property
    def matrix(self) -> Float[Tensor, "size latent"]:
        """H."""
        return self.mean.get_parameter("weight")

    @property
    def scale(self) -> Float[Tensor, " size"]:
        """Standard deviation of each scalar."""
        return _FLOOR + self.log_scale.exp()

    def forward(self, state: Float[Tensor, "*batch latent"]) -> Normal:
        """Distribution over the scaled observation."""
        return Normal(self.mean(state), self.scale, validate_args=False)

    def reading(self, *lead: int) -> Linear:
        """How observations depend on the state, (*lead, ...)."""
        tensors = (self.matrix, self.mean.get_parameter("bias"), self.scale.diag())
        return Linear(*(tensor.expand(*lead, *tensor.shape) for tensor in tensors))

    def sharpness(self, mean: Float[Tensor, "*batch size"]) -> Float[Tensor, " size"]:
        """The same everywhere."""
        return self.scale.reciprocal()

    def compiled_sharpness(self, builder: Builder, mean: Rows) -> Rows:
        """Instructions of it."""
        return builder.constant(numbers(self.scale.reciprocal()))

    def compare(
        self, state: Float[Tensor, "*batch latent"], observed: Float[Tensor, "*batch size"]
    ) -> Comparison:
        """How well one state explains what was recorded."""
        return self._score((observed - self.mean(state)).square())

    def expect(self, belief: Gaussian, observed: Float[Tensor, "*batch size"]) -> Comparison:
        """How well states that are believed in do, on average."""
        spread = (self.matrix @ belief.factor).square().sum(-1)
        return self._score((observed - self.mean(belief.mean)).square() + spread)

    def _score(self, squared: Tensor) -> Comparison:
        likelihood, calibration = (
            self._log_likelihood(squared),
            self._log_likelihood(squared.detach()),
        )
        return Comparison(squared.sum(-1), likelihood, calibration)

    def _log_likelihood(self, squared: Tensor) -> Tensor:
        constant = self.scale.log() + 0.5 * math.log(2 * math.pi)
        return -(0.5 * squared / self.scale.square() + constant).sum(-1)


class LinearGaussian(LearnedModel):
    """Linear-Gaussian state-space model with learned matrices; ``LearnedModel`` has its arguments.

    Its filter is exact from a cold start of one frame. One that is started from several begins with
    the smoother's belief about the first, and then sees the others once more. It refuses pixels.
    """

    config: LinearGaussianConfig
    config_type = LinearGaussianConfig
    linear = True

    def _build(self, generator: torch.Generator) -> None:
        spec, latent = self.observation_spec, self.latent_size
        if not spec.linear:
            raise SpecError(
                f"a linear model takes vectors, got {spec.describe()}: pictures of what moves are "
                "not linear in where it is, nor are indices"
            )
        self.emission = LinearEmission(latent, spec.size)
        random = torch.randn(latent, latent, generator=generator)
        self.matrix = nn.Parameter(0.9 * torch.eye(latent) + 0.1 * random)
        control = torch.randn(latent, self.action_spec.size, generator=generator)
        self.control = nn.Parameter(0.1 * control)
        self.offset = nn.Parameter(torch.zeros(latent))
        self.log_noise = nn.Parameter(torch.full((latent,), 0.3).log())
        self._build_heads()

    @property
    def noise_scale(self) -> Float[Tensor, " latent"]:
        """Standard deviation of the process noise in each dimension."""
        return _FLOOR + self.log_noise.exp()

    @property
    def _sensors(self) -> LinearEmission:
        assert isinstance(self.emission, LinearEmission)
        return self.emission

    def step(self, controls: Float[Tensor, "*batch act"]) -> Linear:
        """The transition under scaled actions."""
        lead = controls.shape[:-1]
        return Linear(
            self.matrix.expand(*lead, -1, -1),
            controls @ self.control.mT + self.offset,
            self.noise_scale.diag().expand(*lead, -1, -1),
        )

    def prior(self, n: int) -> Gaussian:
        """Of the state at the first frame."""
        eye = torch.eye(self.latent_size, dtype=self.dtype, device=self.device)
        return Gaussian(eye.new_zeros(n, self.latent_size), eye.expand(n, -1, -1))

    def posterior(
        self,
        observations: Observations,
        actions: Float[Tensor, "batch steps act"],
        seen: Bool[Tensor, "batch frames"] | None = None,
    ) -> Gaussian:
        """Exact beliefs at every frame given all that were seen (the smoother), (B, T + 1, ...)."""
        steps = self.step(self._scale_actions(actions))
        frames = self.scale_observations(observations)
        reading = self._sensors.reading(*frames.shape[:2])
        found = kalman_filter(
            self.prior(len(frames)), lambda t, _: steps.at(t), reading, frames, seen
        )
        return smooth(found.filtered.at(-1), backwards(found))

    def initial(
        self,
        observations: Observations,
        actions: Float[Tensor, "batch steps act"],
        seen: Bool[Tensor, "batch frames"] | None = None,
    ) -> Belief:
        """The smoother's belief about the first frame's state."""
        return self.posterior(observations, actions, seen).at(0).belief()

    def update(
        self,
        belief: Belief,
        action: Float[Tensor, "batch act"],
        observation: Observations,
    ) -> Belief:
        """One step of the Kalman filter."""
        predicted = Gaussian.of(self.predict(belief, action))
        reading = self._sensors.reading(len(observation))
        return correct(predicted, reading, self.scale_observations(observation))[0].belief()

    def predict(self, belief: Belief, action: Float[Tensor, "batch act"]) -> Belief:
        """The Kalman filter's prediction."""
        step = self.step(self._scale_actions(action))
        return predict(Gaussian.of(belief), step).belief()

    def _step(
        self,
        state: Float[Tensor, "batch latent"],
        control: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None,
    ) -> Float[Tensor, "batch latent"]:
        mean = state @ self.matrix.mT + control @ self.control.mT + self.offset
        return mean if noise is None else torch.addcmul(mean, self.noise_scale, noise)

    def _compiled_step(self, builder: Builder, state: Rows, control: Rows, noise: Rows) -> Rows:
        matrix = torch.cat([self.matrix, self.control], 1)
        mean = builder.linear(builder.join(state, control), numbers(matrix), numbers(self.offset))
        return builder.add(mean, builder.affine(noise, numbers(self.noise_scale)))

    def terms(
        self,
        batch: Batch,
        generator: torch.Generator,
        observed: Bool[Tensor, "batch frames"] | None = None,
        prefix: int | None = None,
        unobserved_scale: float = 1.0,
    ) -> Terms:
        """Exact terms of ln p(x); see this module, and the base class.

        With frames that are not looked at, the posterior is exact given the others, and the terms
        are a bound. Nothing is read from a ``prefix`` alone.
        """
        prepared = self._prepare(batch, observed, prefix)
        span, observed = prepared.span, prepared.observed
        steps = self.step(prepared.actions)
        found = self._filter(prepared.frames, steps, observed, unobserved_scale)
        last, backward = found.filtered.at(-1), backwards(found)
        smoothed = smooth(last, backward)
        onward = forwards(smoothed, backward)
        factors = torch.cat([smoothed.factor[:, :1], onward.factor], 1)
        blind = torch.full_like(last.mean, unobserved_scale)
        blind_rate = standard_normal_kl(torch.zeros_like(blind), blind).unsqueeze(1)
        # Frames before the last that is looked at may be told by it, looked at or not.
        told = observed.flip(1).cumsum(1).flip(1) > 0
        rate = torch.where(told, self._rate(smoothed, onward, steps), blind_rate) * span
        noise = self._draw(tuple(smoothed.mean.shape), generator)
        return self._explain(
            batch,
            prepared,
            sample(last, backward, noise),
            self._sensors.expect(smoothed, prepared.frames),
            rate,
            gaussian_entropy(factors) * observed,
            rate.new_zeros(()),
        )

    def _filter(
        self, frames: Tensor, steps: Linear, observed: Tensor, unobserved_scale: float
    ) -> Filtered:
        """As if process noise were as narrow as it shall be drawn where nothing is looked at."""
        narrow = torch.where(observed, 1.0, unobserved_scale).to(frames)[..., None, None]
        prior = self.prior(len(frames))
        prior = prior._replace(factor=prior.factor * narrow[:, 0])
        drawn = steps._replace(factor=steps.factor * narrow[:, 1:])
        reading = self._sensors.reading(*frames.shape[:2])
        return kalman_filter(prior, lambda t, _: drawn.at(t), reading, frames, observed)

    def _rate(self, smoothed: Gaussian, onward: Linear, steps: Linear) -> Tensor:
        """KL of each state's posterior given the one before it, which it is averaged over."""
        first = gaussian_kl(smoothed.at(0), self.prior(len(smoothed.mean)))
        before = smoothed.at(slice(-1))
        spread = (onward.matrix - steps.matrix) @ before.factor
        later = gaussian_kl(onward.given(before.mean), steps.given(before.mean), spread)
        return torch.cat([first.unsqueeze(1), later], 1)

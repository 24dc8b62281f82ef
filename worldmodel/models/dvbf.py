"""Deep Variational Bayes Filter: composition of the parts, and nothing else.

Source: Karl et al. 2017, "Deep Variational Bayes Filters: Unsupervised Learning of State Space
Models from Raw Data", sections 3.1 to 3.3 and appendix B.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.distributions import Distribution

from worldmodel.models.base import StateSpaceModel
from worldmodel.models.convolution import build_encoder
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.models.initial import InitialNetwork
from worldmodel.models.networks import normal_entropy, standard_normal_kl
from worldmodel.models.parts import build_emission, build_recognition, build_transition
from worldmodel.models.recognition import Recognition
from worldmodel.models.reward import RewardHead, TerminationHead
from worldmodel.models.support import Support
from worldmodel.models.terms import Terms
from worldmodel.types import ActionSpec, Batch, Belief, ObservationSpec


class DVBF(StateSpaceModel):
    """Deep Variational Bayes Filter.

    Args:
        config: Sizes.
        observation_spec: What one observation looks like.
        action_spec: What one action looks like.
        seed: Of the initial weights.

    Raises:
        SpecError: The configuration does not fit the observation: convolutions over what is no
            image, or a Bernoulli emission of what is not in [0, 1].
    """

    action_scale: Tensor
    action_offset: Tensor
    observation_shift: Tensor
    observation_spread: Tensor

    def __init__(
        self,
        config: DVBFConfig,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self.latent_size = self.noise_size = latent = config.latent_size
        observed, act = observation_spec.size, action_spec.size
        self.visible_size = config.visible_size or latent
        # torch.nn initialises from the global generator only: fork it, so that none but us notice.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Every frame's features are computed once, for both networks that look at it.
            self.encoder, features = build_encoder(
                config.encoder, observation_spec, config.channels, config.hidden
            )
            self.initial_network = InitialNetwork(features, act, latent, config.recurrent)
            self.recognition = build_recognition(config, features, act)
            generator = torch.Generator().manual_seed(seed)
            self.transition_model = build_transition(config, act, generator)
            self.emission = build_emission(config, observation_spec)
            self.reward_head = RewardHead(latent, act, config.head_hidden)
            self.termination_head = TerminationHead(latent, config.head_hidden)
        self.support = Support(latent)
        low, high = torch.tensor(action_spec.low), torch.tensor(action_spec.high)
        # To [-1, 1], in one operation; an action that has no choice is zero.
        scale = torch.where(high > low, 2 / (high - low), 0.0)
        self.register_buffer("action_scale", scale)
        self.register_buffer("action_offset", -scale * (low + high) / 2)
        self.register_buffer("observation_shift", torch.zeros(observed))
        spread = 255.0 if observation_spec.pixels else 1.0
        self.register_buffer("observation_spread", torch.full((observed,), spread))

    @torch.no_grad()
    def calibrate(self, batch: Batch) -> None:
        """Take the scaling of rewards and vector observations from training data."""
        self.reward_head.calibrate(batch.rewards[batch.mask])
        self.termination_head.seen.fill_(bool((batch.terminated & batch.mask).any()))
        if not self.observation_spec.pixels:
            recorded = batch.observations[batch.frame_mask]
            shift, spread = recorded.mean(0), recorded.std(0)
            self.observation_shift.copy_(shift)
            varies = spread > 1e-6 * (1 + shift.abs())
            # A component that never varied keeps its unit, lest its first change look enormous.
            self.observation_spread.copy_(torch.where(varies, spread, 1.0))

    def scale_observations(
        self, observations: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "*batch size"]:
        """Flat observations in [0, 1] (pixels) or standardised (vectors)."""
        lead = observations.ndim - len(self.observation_spec.shape)
        flat = observations.flatten(lead).to(self.dtype)
        return (flat - self.observation_shift) / self.observation_spread

    def unscale_observations(self, flat: Float[Tensor, "*batch size"]) -> Shaped[Tensor, "..."]:
        """Observations as the environment gives them."""
        raw = flat * self.observation_spread + self.observation_shift
        raw = raw.unflatten(-1, self.observation_spec.shape)
        return raw.round().clamp(0, 255).to(torch.uint8) if self.observation_spec.pixels else raw

    def _scale_actions(self, actions: Float[Tensor, "*batch act"]) -> Float[Tensor, "*batch act"]:
        return torch.addcmul(self.action_offset, actions, self.action_scale)

    def initial(
        self,
        observations: Shaped[Tensor, "batch frames *obs"],
        actions: Float[Tensor, "batch steps act"],
    ) -> Belief:
        """Belief over the state at the first frame."""
        features = self.encoder(self.scale_observations(observations))
        return Belief(*self.initial_network(features, self._scale_actions(actions)))

    def initial_prior(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """z_1, standard normal."""
        return self._draw((n, self.latent_size), generator)

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)

    def update(
        self,
        belief: Belief,
        action: Float[Tensor, "batch act"],
        observation: Shaped[Tensor, "batch *obs"],
    ) -> Belief:
        """Predict from the belief's mean, correct by the noise inferred from the frame."""
        control = self._scale_actions(action)
        features = self.encoder(self.scale_observations(observation))
        context = self.recognition.embed(features, control)
        mean, scale = self._recognise(context, belief.mean, control)
        copies = 2 * self.noise_size + 1

        def step(noise: Tensor) -> Tensor:
            return self.transition_model(
                belief.mean.repeat(copies, 1), control.repeat(copies, 1), noise
            )

        return _push_forward(step, mean, scale)

    def transition(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None = None,
    ) -> Float[Tensor, "batch latent"]:
        """One step of the dream with the posterior mean of the transition's weights."""
        if noise is None:
            noise = torch.zeros_like(state)
        return self.transition_model(state, self._scale_actions(action), noise)

    def emit(self, state: Float[Tensor, "*batch latent"]) -> Distribution:
        """Distribution over the flat, scaled observation."""
        return self.emission(self._visible(state))

    def reward(
        self,
        state: Float[Tensor, "*batch latent"],
        action: Float[Tensor, "*batch act"],
        next_state: Float[Tensor, "*batch latent"],
    ) -> Float[Tensor, "*batch"]:
        """Mean reward in the environment's units."""
        return self.reward_head(state, self._scale_actions(action), next_state)

    def termination(self, next_state: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Logit of termination on arrival."""
        return self.termination_head(next_state)

    @property
    def can_terminate(self) -> bool:
        """Whether any recorded episode terminated."""
        return bool(self.termination_head.seen)

    @property
    def reward_range(self) -> tuple[float, float]:
        """Least and greatest recorded reward."""
        return self.reward_head.least.item(), self.reward_head.greatest.item()

    def terms(
        self,
        batch: Batch,
        generator: torch.Generator,
        observed: Bool[Tensor, "batch frames"] | None = None,
        prefix: int | None = None,
        unobserved_scale: float = 1.0,
    ) -> Terms:
        """Terms of eq. 11 from one sample of the posterior; see the base class."""
        frame_mask = batch.frame_mask
        # What stands in the padding may be anything, NaN too, which no product with a mask removes.
        blank = (~frame_mask).unsqueeze(2)
        frames = self.scale_observations(batch.observations).masked_fill(blank, 0)
        actions = self._scale_actions(batch.actions).masked_fill(blank[:, 1:], 0)
        observed = frame_mask if observed is None else observed & frame_mask
        prefix = batch.steps + 1 if prefix is None else prefix
        features = self.encoder(frames)
        mean, scale = self.initial_network(
            features[:, :prefix], actions[:, : prefix - 1], frame_mask[:, :prefix]
        )
        shape = (batch.steps + 1, len(batch), self.noise_size)
        draws = self._draw(shape, generator)
        blind = torch.full_like(mean, unobserved_scale)
        start = torch.where(observed[:, :1], mean + scale * draws[0], blind * draws[0])
        states, means, scales = self._infer(
            features, actions, start, draws, observed, blind, generator
        )
        means = torch.cat([mean.unsqueeze(1), means], 1)
        scales = torch.cat([scale.unsqueeze(1), scales], 1)
        unobserved = frame_mask & ~observed
        compared = self.emission.compare(self._visible(states), frames)
        return Terms(
            states=states,
            distortion=compared.distortion * frame_mask,
            reconstruction=compared.reconstruction * frame_mask,
            calibration=compared.calibration * frame_mask,
            rate=standard_normal_kl(means, scales) * observed
            + standard_normal_kl(torch.zeros_like(blind), blind).unsqueeze(1) * unobserved,
            entropy=normal_entropy(scales) * observed,
            reward=self._reward_terms(states.detach(), actions, batch),
            termination=self._termination_terms(states.detach(), batch),
            weight_kl=self.transition_model.weight_kl(),
            unevenness=self._unevenness(states, frame_mask),
            observed=observed,
            frame_mask=frame_mask,
            observation_size=frames.shape[-1],
        )

    def _visible(self, state: Tensor) -> Tensor:
        return state[..., : self.visible_size]

    def _unevenness(self, states: Tensor, frame_mask: Tensor) -> Tensor:
        """Of the emission on a few sequences: it is a mean over states, and dear."""
        few = slice(None, None, len(states) // 16 or 1)
        states, recorded = self._visible(states[few]), frame_mask[few, 2:]
        motion = states[:, 2:] - states[:, :-2]
        return self.emission.unevenness(states[:, 1:-1][recorded], motion[recorded])

    def _infer(
        self,
        features: Tensor,
        actions: Tensor,
        start: Tensor,
        draws: Tensor,
        observed: Tensor,
        blind: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled states (B, T + 1, latent), and means and scales of the noise (B, T, noise)."""
        contexts = self.recognition.embed(features[:, 1:], actions).unbind(1)
        controls = actions.unbind(1)
        seen = observed[:, 1:].unsqueeze(2).unbind(1)
        weights = self.transition_model.draw(generator)
        states, means, scales = [start], [], []
        for t, control in enumerate(controls):
            mean, scale = self._recognise(contexts[t], states[-1], control, weights)
            draw = draws[t + 1]
            noise = torch.where(seen[t], torch.addcmul(mean, scale, draw), blind * draw)
            states.append(self.transition_model(states[-1], control, noise, weights))
            means.append(mean)
            scales.append(scale)
        return torch.stack(states, 1), torch.stack(means, 1), torch.stack(scales, 1)

    def _recognise(
        self, context: Tensor, state: Tensor, control: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and scale of the process noise that leads to the frame ``context`` is of."""
        if isinstance(self.recognition, Recognition):
            return self.recognition(context, state)
        predicted = self.transition_model(state, control, torch.zeros_like(state), weights)
        return self.recognition(
            context, predicted, self.transition_model.gain(state, control, weights)
        )

    def _reward_terms(self, states: Tensor, actions: Tensor, batch: Batch) -> Tensor:
        predicted = self.reward_head(states[:, :-1], actions, states[:, 1:])
        recorded = batch.rewards.masked_fill(~batch.mask, 0)
        return self.reward_head.log_prob(predicted, recorded) * batch.mask

    def _termination_terms(self, states: Tensor, batch: Batch) -> Tensor:
        if not self.can_terminate:
            return torch.zeros_like(batch.rewards)
        return self.termination_head.log_prob(states[:, 1:], batch.terminated) * batch.mask


def _push_forward(function, mean: Tensor, scale: Tensor) -> Belief:
    """Push N(mean, scale) through ``function`` by central differences, exact if it is linear."""
    batch, size = mean.shape
    spread = torch.diag_embed(scale).unbind(1)
    points = torch.cat([mean, *(mean + s for s in spread), *(mean - s for s in spread)])
    out = function(points).view(2 * size + 1, batch, -1)
    half = (out[1 : size + 1] - out[size + 1 :]) / 2
    return Belief(out[0], half.square().sum(0).sqrt())

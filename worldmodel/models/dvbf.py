"""Deep Variational Bayes Filter: composition of the parts, and nothing else.

Source: Karl et al. 2017, "Deep Variational Bayes Filters: Unsupervised Learning of State Space
Models from Raw Data", sections 3.1 to 3.3 and appendix B.3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from worldmodel.models.convolution import build_encoder
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.models.initial import InitialNetwork
from worldmodel.models.learned import LearnedModel
from worldmodel.models.networks import compiled, normal_entropy, standard_normal_kl
from worldmodel.models.parts import build_emission, build_recognition, build_transition
from worldmodel.models.program import Builder, Rows
from worldmodel.models.recognition import Recognition
from worldmodel.models.terms import Terms
from worldmodel.types import Batch, Belief


class DVBF(LearnedModel):
    """Deep Variational Bayes Filter; see ``LearnedModel`` for its arguments."""

    config: DVBFConfig
    config_type = DVBFConfig

    def _build(self, generator: torch.Generator) -> None:
        c, spec, act = self.config, self.observation_spec, self.action_spec.size
        self.visible_size = c.visible_size or c.latent_size
        # Every frame's features are computed once, for both networks that look at it.
        self.encoder, features = build_encoder(c.encoder, spec, c.channels, c.hidden, c.depth)
        self.initial_network = InitialNetwork(features, act, c.latent_size, c.recurrent)
        self.recognition = build_recognition(c, features, act)
        self.transition_model = build_transition(c, act, generator)
        self.emission = build_emission(
            c.emission, c.encoder, self.visible_size, spec, c.channels, c.hidden, c.depth
        )
        self._build_heads()

    def initial(
        self,
        observations: Shaped[Tensor, "batch frames *obs"],
        actions: Float[Tensor, "batch steps act"],
    ) -> Belief:
        """Belief over the state at the first frame."""
        features = self.encoder(self.scale_observations(observations))
        return Belief(*self.initial_network(features, self._scale_actions(actions)))

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

    def _step(
        self,
        state: Float[Tensor, "batch latent"],
        control: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None,
    ) -> Float[Tensor, "batch latent"]:
        """With the posterior mean of the transition's weights."""
        draw = torch.zeros_like(state) if noise is None else noise
        return self.transition_model(state, control, draw)

    def _compiled_step(self, builder: Builder, state: Rows, control: Rows, noise: Rows) -> Rows:
        return self.transition_model.compiled(builder, state, control, noise)

    def compiled_update(
        self, builder: Builder, mean: Rows, scale: Rows, action: Rows, frame: Rows
    ) -> tuple[Rows, Rows]:
        """Instructions of ``update``."""
        control = self._compiled_control(builder, action)
        features = compiled(self.encoder, builder, self._compiled_frame(builder, frame))
        if isinstance(self.recognition, Recognition):
            noise = self.recognition.compiled(builder, features, control, mean)
        else:
            still = builder.constant(np.zeros(self.noise_size))
            predicted = self.transition_model.compiled(builder, mean, control, still)
            gain = self.transition_model.compiled_gain(builder, mean, control)
            noise = self.recognition.compiled(builder, features, predicted, gain)

        def step(drawn: Rows) -> Rows:
            return self.transition_model.compiled(builder, mean, control, drawn)

        return _compiled_push_forward(builder, step, *noise)

    def terms(
        self,
        batch: Batch,
        generator: torch.Generator,
        observed: Bool[Tensor, "batch frames"] | None = None,
        prefix: int | None = None,
        unobserved_scale: float = 1.0,
    ) -> Terms:
        """Terms of eq. 11 from one sample of the posterior; see the base class."""
        prepared = self._prepare(batch, observed, prefix)
        frames, actions, frame_mask, observed, prefix = prepared
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
        rate = (
            standard_normal_kl(means, scales) * observed
            + standard_normal_kl(torch.zeros_like(blind), blind).unsqueeze(1) * unobserved
        )
        entropy = normal_entropy(scales) * observed
        compared = self._compare(states, prepared)
        return self._explain(
            batch, prepared, states, compared, rate, entropy, self.transition_model.weight_kl()
        )

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


def _push_forward(function, mean: Tensor, scale: Tensor) -> Belief:
    """Push N(mean, scale) through ``function`` by central differences, exact if it is linear."""
    batch, size = mean.shape
    spread = torch.diag_embed(scale).unbind(1)
    points = torch.cat([mean, *(mean + s for s in spread), *(mean - s for s in spread)])
    out = function(points).view(2 * size + 1, batch, -1)
    half = (out[1 : size + 1] - out[size + 1 :]) / 2
    return Belief(out[0], half.square().sum(0).sqrt())


def _compiled_push_forward(
    builder: Builder, function: Callable[[Rows], Rows], mean: Rows, scale: Rows
) -> tuple[Rows, Rows]:
    """Instructions of ``_push_forward``."""
    total = None
    for axis in np.eye(scale.count):
        apart = [
            function(builder.add(mean, builder.affine(scale, sign * axis))) for sign in (1, -1)
        ]
        half = builder.affine(builder.add(apart[0], builder.affine(apart[1], -1.0)), 0.5)
        square = builder.multiply(half, half)
        total = square if total is None else builder.add(total, square)
    assert total is not None, "there is at least one dimension of noise"
    return function(mean), builder.sqrt(total)

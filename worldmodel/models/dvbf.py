"""Deep Variational Bayes Filter: composition of the parts, and nothing else.

Source: Karl et al. 2017, "Deep Variational Bayes Filters: Unsupervised Learning of State Space
Models from Raw Data", sections 3.1 to 3.3 and appendix B.3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodel.models import fused_fusion, fused_inference
from worldmodel.models.codec.emission import Comparison
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.models.fusion import Fusion
from worldmodel.models.inference import Sampled, infer
from worldmodel.models.initial import InitialNetwork
from worldmodel.models.learned import LearnedModel
from worldmodel.models.networks import compiled, normal_entropy, standard_normal_kl
from worldmodel.models.parts import build_recognition, build_transition
from worldmodel.models.program import Builder, Rows
from worldmodel.models.refinement import compiled_refinement, refine
from worldmodel.models.terms import Terms
from worldmodel.types import Batch, Belief, Observations


class DVBF(LearnedModel):
    """Deep Variational Bayes Filter; see ``LearnedModel`` for its arguments."""

    config: DVBFConfig
    config_type = DVBFConfig

    def _build(self, generator: torch.Generator) -> None:
        c, act = self.config, self.action_spec.size
        self.visible_size = c.visible_size or c.latent_size
        # Every frame's features are computed once, for both networks that look at it.
        self.encoder, features = self.codec.encoder()
        self.initial_network = InitialNetwork(
            features, act, c.latent_size, c.recurrent, c.initial_scale
        )
        self.recognition = build_recognition(c, features, act)
        self.transition_model = build_transition(c, act, generator)
        self.emission = self.codec.emission(self.visible_size)
        self._build_heads()

    def initial(
        self,
        observations: Observations,
        actions: Float[Tensor, "batch steps act"],
        seen: Bool[Tensor, "batch frames"] | None = None,
    ) -> Belief:
        """Belief over the state at the first frame."""
        features = self.encoder(self.scale_observations(observations))
        controls = self._scale_actions(actions)
        return Belief(*self.initial_network(features, controls, seen=seen))

    def update(
        self,
        belief: Belief,
        action: Float[Tensor, "batch act"],
        observation: Observations,
    ) -> Belief:
        """Predict, and correct by the frame.

        By the noise that a network infers from it at the belief's mean; or, where frames are read,
        as an extended Kalman filter does, to whose prediction all that was not known before counts,
        and then by what the emission draws of it. Of its covariance the diagonal goes on.
        """
        control = self._scale_actions(action)
        frame = self.scale_observations(observation)
        context = self.recognition.embed(self.encoder(frame), control)
        if isinstance(self.recognition, Fusion):
            known = context, *self._foretold(belief, control)
            corrected = self.recognition.correct(*known)
            return Belief(*refine(self.emission, self.visible_size, frame, *known, corrected))
        mean, scale = self.recognition(context, belief.mean)

        def step(noise: Tensor) -> Tensor:
            copies = len(noise) // len(control)
            return self.transition_model(
                belief.mean.repeat(copies, 1), control.repeat(copies, 1), noise
            )

        arrived, moved = _central_differences(step, mean, scale)
        return Belief(arrived, moved.square().sum(1).sqrt())

    def predict(self, belief: Belief, action: Float[Tensor, "batch act"]) -> Belief:
        """One filter step without a frame; see the base class."""
        if not isinstance(self.recognition, Fusion):
            return super().predict(belief, action)
        mean, spread = self._foretold(belief, self._scale_actions(action))
        return Belief(mean, spread.square().sum(1).sqrt())

    def _foretold(
        self, belief: Belief, control: Float[Tensor, "batch act"]
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch any latent"]]:
        """The next state's mean, and how it is spread, as ``Fusion.correct`` takes them."""

        def step(state: Tensor) -> Tensor:
            still = state.new_zeros(len(state), self.noise_size)
            return self.transition_model(
                state, control.repeat(len(state) // len(control), 1), still
            )

        mean, moved = _central_differences(step, belief.mean, belief.scale)
        return mean, torch.cat([moved, self.transition_model.gain(belief.mean, control)], 1)

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
        scaled = self._compiled_frame(builder, frame)
        features = compiled(self.encoder, builder, scaled)
        if isinstance(self.recognition, Fusion):
            still = builder.constant(np.zeros(self.noise_size))

            def ahead(state: Rows) -> Rows:
                return self.transition_model.compiled(builder, state, control, still)

            predicted, moved = _compiled_differences(builder, ahead, mean, scale)
            gain = self.transition_model.compiled_gain(builder, mean, control)
            spread = builder.join(*moved, gain)
            reading = self.recognition.compiled(builder, features)
            known = reading, predicted, spread
            corrected = self.recognition.compiled_correction(builder, *known)
            seen = self.emission, self.visible_size, scaled
            return compiled_refinement(builder, *seen, *known, corrected)
        noise = self.recognition.compiled(builder, features, control, mean)

        def step(drawn: Rows) -> Rows:
            return self.transition_model.compiled(builder, mean, control, drawn)

        arrived, moved = _compiled_differences(builder, step, *noise)
        squares = [builder.multiply(one, one) for one in moved]
        return arrived, builder.sqrt(reduce(builder.add, squares))

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
        frames, actions, span, observed, prefix = prepared[:5]
        # Time first: whatever is taken of a sequence then lies in one piece.
        timed = frames.transpose(0, 1).contiguous()
        features = self.encoder(timed)
        mean, scale = self.initial_network(
            features[:prefix].transpose(0, 1),
            actions[:, : prefix - 1],
            span[:, :prefix],
            None if batch.seen is None else batch.seen[:, :prefix],
        )
        shape = (batch.steps + 1, len(batch), self.noise_size)
        draws = self._draw(shape, generator, 1)
        blind = torch.full_like(draws, unobserved_scale)
        unseen, seen = blind * draws, observed.T.unsqueeze(2)
        start = torch.where(seen[0], mean + scale * draws[0], unseen[0])
        sampled = self._infer(
            features[1:], actions.transpose(0, 1), start, draws[1:], unseen[1:], seen[1:], generator
        )
        means = torch.cat([mean.unsqueeze(0), sampled.means])
        scales = torch.cat([scale.unsqueeze(0), sampled.scales])
        rate = (
            standard_normal_kl(means, scales) * observed.T
            + standard_normal_kl(torch.zeros_like(blind), blind) * (span & ~observed).T
        )
        entropy = normal_entropy(scales) * observed.T
        compared = self.emission.compare(self._visible(sampled.states), timed)
        return self._explain(
            batch,
            prepared,
            sampled.states.transpose(0, 1),
            Comparison(*(each.T for each in compared)),
            rate.T,
            entropy.T,
            self.transition_model.weight_kl(),
            self._read(features, actions, sampled.states, observed),
        )

    def _read(
        self, features: Tensor, controls: Tensor, states: Tensor, observed: Tensor
    ) -> Tensor | None:
        """What the readings of later frames learn beside the bound, (batch, frames)."""
        weight = self.config.recognition.reading_weight
        if not weight or not isinstance(self.recognition, Fusion):
            return None
        context = self.recognition.embed(features[1:], controls.transpose(0, 1))
        likelihood = self.recognition.log_prob(context, states[1:].detach())
        return weight * nn.functional.pad(likelihood.T, (1, 0)) * observed

    def _infer(
        self,
        features: Tensor,
        controls: Tensor,
        start: Tensor,
        draws: Tensor,
        unseen: Tensor,
        seen: Tensor,
        generator: torch.Generator,
    ) -> Sampled:
        """As quickly as the parts allow; time comes first."""
        parts = self.recognition, self.transition_model
        weights = self.transition_model.draw(generator)
        known = (features, controls, start, draws, unseen, seen, weights)
        for fused in (fused_inference, fused_fusion):
            if fused.can_fuse(*parts):
                return fused.infer_fused(*parts, *known)
        return infer(*parts, *known)


def _central_differences(
    function: Callable[[Tensor], Tensor], mean: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """What a function makes of ``mean``, and (batch, size, outputs) how a scale moves that."""
    batch, size = mean.shape
    spread = torch.diag_embed(scale).unbind(1)
    points = torch.cat([mean, *(mean + s for s in spread), *(mean - s for s in spread)])
    out = function(points).view(2 * size + 1, batch, -1)
    return out[0], ((out[1 : size + 1] - out[size + 1 :]) / 2).transpose(0, 1)


def _compiled_differences(
    builder: Builder, function: Callable[[Rows], Rows], mean: Rows, scale: Rows
) -> tuple[Rows, list[Rows]]:
    """Instructions of ``_central_differences``."""
    moved = []
    for axis in np.eye(scale.count):
        apart = [
            function(builder.add(mean, builder.affine(scale, sign * axis))) for sign in (1, -1)
        ]
        moved.append(builder.affine(builder.add(apart[0], builder.affine(apart[1], -1.0)), 0.5))
    return function(mean), moved

"""Embed to Control: an autoencoder of stacked frames whose code moves locally linearly.

Two frames make one observation, y_t = (x_{t-1}, x_t), so that a code read off it alone can hold the
velocity. For every pair of neighbours the
published loss is

    - ln p(y_t | z_t) - ln p(y_{t+1} | z^_{t+1}) + KL(q(z_t | y_t) || N(0, 1))
    + weight KL(N(A m_t + B u_t + o, C_t) || q(z_{t+1} | y_{t+1})),   C_t = A S_t A' + H,

with q(z_t | y_t) = N(m_t, S_t), z_t a sample of it, z^_{t+1} = A z_t + B u_t + o + noise of
covariance H, and A = 1 + v r', B, o from a network of z_t. It is *not* a lower bound on the
likelihood of the data: every frame is explained four times, from two codes and in two stacks, and
the last KL is no part of any bound. The terms do not compare with those of other models.

Source: Watter et al. 2015, "Embed to Control". Differs: the loss is summed over the stacks of a
window and divided by four, so that a frame's reconstruction is the mean of its four and as large as
other models'; H is learned, since a dream without noise holds every frame for wrong; one hidden
layer and this project's sizes; Gaussian pixels by default.

A live system gives its frames one by one, and on the first no stack is complete. The live filter,
which reads single frames, is distilled from the encoder of stacks, see ``models/distilled.py``: its
belief carries what the frame before would have told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodel.errors import ConfigError, require_at_least, require_choices
from worldmodel.models.codec import CodecConfig
from worldmodel.models.codec.emission import Comparison, Emission
from worldmodel.models.distilled import DistilledFilter, DistilledModel
from worldmodel.models.networks import (
    compiled,
    kl_to_diagonal,
    mlp,
    normal_entropy,
    numbers,
    positive,
    standard_normal_kl,
)
from worldmodel.models.program import Builder, Rows
from worldmodel.models.terms import Terms
from worldmodel.types import Batch


@dataclass(frozen=True)
class E2CConfig:
    """Sizes of Embed to Control.

    Attributes:
        latent_size: Dimensions of the state.
        codec: Of observations.
        consistency: Weight of the KL between a prediction and the next encoding.
        hidden: Hidden units of emission, encoder, transition and filter.
        recurrent: Hidden units of each direction of the live filter's first network.
        head_hidden: Hidden units of reward and termination heads.
    """

    latent_size: int = 3
    codec: CodecConfig = field(default_factory=CodecConfig)
    consistency: float = 0.25
    hidden: int = 128
    recurrent: int = 64
    head_hidden: int = 64

    def __post_init__(self) -> None:
        sizes = ("latent_size", "hidden", "recurrent", "head_hidden")
        require_at_least(1, **{name: getattr(self, name) for name in sizes})
        require_choices(self)
        if not 0 < self.consistency < math.inf:
            raise ConfigError(f"consistency must be finite and > 0, got {self.consistency}")


class Step(NamedTuple):
    """A locally linear step from some states, each (*batch, ...).

    Attributes:
        mean: Where it leads without noise, (*batch, latent).
        matrix: A, (*batch, latent, latent).
    """

    mean: Tensor
    matrix: Tensor


class RankOneTransition(nn.Module):
    """z' = (1 + v r') z + B u + o + scale * w; v, r, B and o come from a network of z.

    Args:
        latent_size: Dimensions of the state.
        action_size: Components of one action.
        hidden: Hidden units.
    """

    def __init__(self, latent_size: int, action_size: int, hidden: int) -> None:
        super().__init__()
        self.sizes = (latent_size, latent_size, latent_size * action_size, latent_size)
        # Bounded, for otherwise A grows with the state, and a state that follows A explodes.
        self.network = mlp(latent_size, hidden, sum(self.sizes), nn.Tanh)
        self.log_scale = nn.Parameter(torch.full((latent_size,), 0.1).log())

    @property
    def scale(self) -> Float[Tensor, " latent"]:
        """Standard deviation of the noise in each dimension."""
        return self.log_scale.exp()

    def forward(
        self,
        state: Float[Tensor, "*batch latent"],
        action: Float[Tensor, "*batch act"],
        about: Float[Tensor, "*batch latent"] | None = None,
    ) -> Step:
        """One step; actions arrive scaled.

        Args:
            state: From where.
            action: Scaled.
            about: Where A, B and o are taken; by default at ``state`` itself.
        """
        v, r, control, offset = self.network(state if about is None else about).split(
            self.sizes, -1
        )
        eye = torch.eye(state.shape[-1], dtype=state.dtype, device=state.device)
        matrix = eye + v.unsqueeze(-1) * r.unsqueeze(-2)
        control = control.unflatten(-1, (state.shape[-1], -1))
        pushed = (matrix @ state.unsqueeze(-1) + control @ action.unsqueeze(-1)).squeeze(-1)
        return Step(pushed + offset, matrix)

    def compiled(self, builder: Builder, state: Rows, action: Rows) -> Rows:
        """Instructions of the mean of ``forward``."""
        v, r, control, offset = compiled(self.network, builder, state).split(*self.sizes)
        along = builder.contract(r, state)
        mean = builder.contract(v, along, builder.add(state, offset))
        # Their rows are those of B; a contraction takes it by columns.
        rows = control.split(*[action.count] * state.count)
        pushed = [builder.contract(row, action) for row in rows]
        return builder.add(mean, builder.join(*pushed))


class E2C(DistilledModel):
    """Embed to Control on stacks of two frames; see ``LearnedModel`` for its arguments."""

    config: E2CConfig
    config_type = E2CConfig
    is_bound = False

    def _build(self, generator: torch.Generator) -> None:
        c, act, latent = self.config, self.action_spec.size, self.latent_size
        self.encoder, features = self.codec.encoder()
        self.code = mlp(2 * features, c.hidden, 2 * latent)
        self.transition_model = RankOneTransition(latent, act, c.hidden)
        self.emission = self.codec.emission(latent)
        # Of the stack's other frame, the one before.
        self.past = self.codec.emission(latent)
        self._build_heads()
        self.live = DistilledFilter(features, latent, act, c.hidden, c.recurrent)

    @property
    def emissions(self) -> tuple[Emission, ...]:
        """That of the present frame and that of the one before."""
        return self.emission, self.past

    def encode(
        self, features: Float[Tensor, "batch frames features"]
    ) -> tuple[Float[Tensor, "batch stacks latent"], Float[Tensor, "batch stacks latent"]]:
        """Mean and scale of q(z_t | x_{t-1}, x_t) for every frame but the first."""
        mean, raw = self.code(torch.cat([features[:, :-1], features[:, 1:]], 2)).chunk(2, 2)
        return mean, positive(raw)

    def _predict(self, state: Tensor, control: Tensor) -> Tensor:
        return self.transition_model(state, control).mean

    def _compiled_predict(self, builder: Builder, state: Rows, control: Rows) -> Rows:
        return self.transition_model.compiled(builder, state, control)

    def _step(
        self,
        state: Float[Tensor, "batch latent"],
        control: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None,
    ) -> Float[Tensor, "batch latent"]:
        mean = self._predict(state, control)
        return mean if noise is None else torch.addcmul(mean, self.transition_model.scale, noise)

    def _compiled_step(self, builder: Builder, state: Rows, control: Rows, noise: Rows) -> Rows:
        mean = self.transition_model.compiled(builder, state, control)
        return builder.add(mean, builder.affine(noise, numbers(self.transition_model.scale)))

    def terms(
        self,
        batch: Batch,
        generator: torch.Generator,
        observed: Bool[Tensor, "batch frames"] | None = None,
        prefix: int | None = None,
        unobserved_scale: float = 1.0,
    ) -> Terms:
        """Terms of the published loss; see this module, and the base class.

        The first frame has no stack. Its state is the live filter's, nothing is paid for it, and
        ``frame_mask`` leaves it out. ``prefix`` is that of the live filter.
        """
        prepared = self._prepare(batch, observed, prefix)
        frames, actions, span, observed, prefix = prepared[:5]
        features, gaps = self.encoder(frames), batch.seen
        # A stack is looked at if both its frames are.
        later, controls, seen = span[:, 1:], actions[:, 1:], observed[:, 1:] & observed[:, :-1]
        draws = self._draw((2, *frames.shape[:2], self.latent_size), generator, 1)
        means, scales = self.encode(features.masked_fill(~observed.unsqueeze(2), 0))
        states = self._follow(means, scales, seen, controls, draws[0, :, 1:], unobserved_scale)
        predicted = self._predict(states[:, :-1], controls)
        predicted = torch.addcmul(predicted, self.transition_model.scale, draws[1, :, 2:])
        compared = self._compare_stacks(states, predicted, frames)
        pulled = self._inconsistency(states, means, scales, seen, controls)
        rate = standard_normal_kl(means, scales) + _with_first(pulled)
        blind = torch.full_like(means, unobserved_scale)
        rate = torch.where(seen, rate, standard_normal_kl(torch.zeros_like(blind), blind)) / 4
        live = self.live.log_prob(
            features[:, 1:],
            controls,
            states,
            min(prefix, batch.steps),
            later,
            self._predict,
            None if gaps is None else gaps[:, 1:],
        )
        with torch.no_grad():
            leading = features[:, :prefix], actions[:, : prefix - 1], span[:, :prefix]
            looks = None if gaps is None else gaps[:, :prefix]
            mean, scale = self.live.initial(*leading, looks)
        first = torch.addcmul(mean, scale, draws[0, :, 0]).unsqueeze(1)
        counted = _with_first(prepared.frame_mask[:, 1:] & prepared.frame_mask[:, :-1])
        return self._explain(
            batch,
            prepared._replace(frame_mask=counted, observed=_with_first(seen)),
            torch.cat([first, states], 1),
            Comparison(*map(_with_first, compared)),
            _with_first(rate * later),
            _with_first(normal_entropy(scales) * seen / 4),
            means.new_zeros(()),
            _with_first(live * seen),
        )

    def _follow(
        self,
        means: Tensor,
        scales: Tensor,
        seen: Tensor,
        controls: Tensor,
        draws: Tensor,
        unobserved_scale: float,
    ) -> Tensor:
        """A sample of every stack's code; of the transition where the frame is not looked at."""
        inferred, blind = torch.addcmul(means, scales, draws), unobserved_scale * draws
        look = seen.unsqueeze(2)
        states = [torch.where(look[:, 0], inferred[:, 0], blind[:, 0])]
        for t, control in enumerate(controls.unbind(1), 1):
            drawn = self._predict(states[-1], control) + self.transition_model.scale * blind[:, t]
            states.append(torch.where(look[:, t], inferred[:, t], drawn))
        return torch.stack(states, 1)

    def _inconsistency(
        self, states: Tensor, means: Tensor, scales: Tensor, seen: Tensor, controls: Tensor
    ) -> Tensor:
        """The weighed KL from prediction to encoding at every stack but the first, (B, T - 1)."""
        # A state that was not read off its stack is known as it is.
        look = seen[:, :-1].unsqueeze(2)
        mean = torch.where(look, means[:, :-1], states[:, :-1])
        spread = torch.where(look, scales[:, :-1], 0.0)
        step = self.transition_model(mean, controls, about=states[:, :-1])
        wide = step.matrix * spread.unsqueeze(-2)
        covariance = wide @ wide.mT + self.transition_model.scale.square().diag()
        return self.config.consistency * kl_to_diagonal(
            step.mean, covariance, means[:, 1:], scales[:, 1:]
        )

    def _compare_stacks(self, states: Tensor, predicted: Tensor, frames: Tensor) -> Comparison:
        """Mean over both frames of a stack and, from the second stack on, over both codes."""
        here, before = frames[:, 1:], frames[:, :-1]
        read = self.emission.compare(states, here), self.past.compare(states, before)
        guessed = (
            self.emission.compare(predicted, here[:, 1:]),
            self.past.compare(predicted, before[:, 1:]),
        )

        def mean(*four: Tensor) -> Tensor:
            own, other = (four[0] + four[1]) / 2, (four[2] + four[3]) / 2
            return torch.cat([own[:, :1], (own[:, 1:] + other) / 2], 1)

        return Comparison(*(mean(*four) for four in zip(*read, *guessed, strict=True)))


def _with_first(value: Tensor) -> Tensor:
    """The same with a zero, or False, for the first frame or stack, that nothing is known of."""
    return nn.functional.pad(value, (1, 0))

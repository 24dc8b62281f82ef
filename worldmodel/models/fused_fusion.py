"""Inference by fusion through a locally linear DVBF, with its gradient written out.

As in ``fused_inference.py``, for frames that are read by themselves. The plain loop mixes the base
matrices three times a step: to predict, for the noise's gain, and to move. Here it does so once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from worldmodel.models.bounded import Bounded
from worldmodel.models.floored import FlooredNoise
from worldmodel.models.fused import looped
from worldmodel.models.fused_inference import Kind, on_logits, on_units, weigh
from worldmodel.models.fusion import Fusion, lifted
from worldmodel.models.inference import Sampled
from worldmodel.models.transition import LocallyLinear, Transition


def can_fuse(recognition: nn.Module, transition: Transition) -> bool:
    """Whether ``infer_fused`` knows these parts."""
    inner = transition.inner if isinstance(transition, Bounded) else transition
    inner = inner.mean if isinstance(inner, FlooredNoise) else inner
    return isinstance(recognition, Fusion) and isinstance(inner, LocallyLinear)


def infer_fused(
    recognition: nn.Module,
    transition: Transition,
    features: Float[Tensor, "steps batch size"],
    controls: Float[Tensor, "steps batch act"],
    start: Float[Tensor, "batch latent"],
    draws: Float[Tensor, "steps batch noise"],
    unseen: Float[Tensor, "steps batch noise"],
    seen: Bool[Tensor, "steps batch 1"],
    base: Float[Tensor, "matrices inputs latent"] | None,
) -> Sampled:
    """As ``inference.infer`` does, equal up to rounding.

    Controls and the three draws get no gradient.

    Args:
        recognition: Fusion; see ``inference.infer`` for what is not explained here.
        transition: Locally linear, with a floor of noise or without, bounded or not.
        features: Of frames 1 to T.
        controls: Scaled actions.
        start: State at the first frame.
        draws: Standard normal.
        unseen: Noise of steps whose frame is not looked at.
        seen: Which frames are.
        base: Base matrices, as the transition drew them.
    """
    bound = transition.bound if isinstance(transition, Bounded) else 0.0
    inner = transition.inner if isinstance(transition, Bounded) else transition
    gain = inner.scale.diag() if isinstance(inner, FlooredNoise) else None
    inner = inner.mean if isinstance(inner, FlooredNoise) else inner
    assert isinstance(recognition, Fusion) and isinstance(inner, LocallyLinear)
    assert base is not None
    into, out = inner.mixing[0], inner.mixing[-1]
    assert isinstance(into, nn.Linear) and isinstance(out, nn.Linear)
    reading, deviation = recognition.embed(features, controls).chunk(2, -1)
    smooth = not isinstance(inner.mixing[1], nn.ReLU)
    kind = Kind(draws.shape[-1], 0, inner.leak, smooth, inner.factorial, bound)
    found = looped(
        _Infer,
        into.weight,
        reading,
        deviation.square().reciprocal(),
        controls,
        start,
        draws,
        unseen,
        seen,
        into.weight,
        into.bias,
        inner.sharpness * out.weight,
        inner.sharpness * out.bias,
        base,
        gain,
        kind,
    )
    return Sampled(*found)


class _Kept(NamedTuple):
    """What the loop computes and its gradient needs, for all steps.

    Attributes:
        inputs: State, action, no noise, and 1: what the mixed matrices predict from.
        hidden: Units of the mixing network.
        bent: The same before their activation, if that is smooth.
        mixing: Weights of the base matrices.
        mixed: Matrices that they make.
        free: Predictions, before any bound.
        surprise: Readings less predictions.
        factor: Cholesky factor of the noise's precision.
        means: Of the noise.
        scales: Of the noise.
        states: One more than there are steps.
    """

    inputs: Tensor
    hidden: Tensor
    bent: Tensor
    mixing: Tensor
    mixed: Tensor
    free: Tensor
    surprise: Tensor
    factor: Tensor
    means: Tensor
    scales: Tensor
    states: Tensor


class _Infer(torch.autograd.Function):
    """The loop over steps; ``infer_fused`` says what comes in and goes out."""

    @staticmethod
    def forward(
        ctx: Any,
        reading: Tensor,
        precision: Tensor,
        controls: Tensor,
        start: Tensor,
        draws: Tensor,
        unseen: Tensor,
        seen: Tensor,
        first: Tensor,
        first_bias: Tensor,
        second: Tensor,
        second_bias: Tensor,
        base: Tensor,
        gain: Tensor | None,
        kind: Kind,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled path, and mean and scale of its noise."""
        latent, known = start.shape[1], first.shape[1]
        kept = _room(controls, start, len(first), base, kind)
        into, onward, flat = first.T, second.T, base.flatten(1)
        one = torch.eye(kind.noise, dtype=start.dtype, device=start.device)
        moves = _gains(kept.mixed, gain, known)
        steps = zip(
            *(each.unbind() for each in (reading, precision, draws, unseen, seen)), strict=True
        )
        for t, (read, weight, draw, blind, look) in enumerate(steps):
            x, h, p, m, v, free, e, factor, mean, scale, before = (each[t] for each in kept)
            x[:, :latent] = before
            torch.addmm(first_bias, x[:, :known], into, out=h)
            if kind.smooth:
                p.copy_(h)
                h.copy_(nn.functional.silu(p))
            else:
                h.relu_()
            weigh(torch.addmm(second_bias, h, onward), kind.factorial, m)
            torch.mm(m, flat, out=v.flatten(1))
            row, result = before.unsqueeze(1), free.unsqueeze(1)
            torch.baddbmm(row, x.unsqueeze(1), v, beta=1 - kind.leak, out=result)
            torch.sub(read, _bounded(free, kind), out=e)
            g = moves[t]
            weighed = g * weight.unsqueeze(1)
            needed = lifted(torch.baddbmm(one, weighed, g.mT))
            # Without an exception where it is not finite: the trainer says where that came from.
            factor.copy_(torch.linalg.cholesky_ex(needed).L)
            pull = torch.bmm(weighed, e.unsqueeze(2))
            mean.copy_(torch.cholesky_solve(pull, factor).squeeze(2))
            torch.rsqrt(needed.diagonal(dim1=1, dim2=2), out=scale)
            noise = torch.where(look, torch.addcmul(mean, scale, draw), blind)
            after = torch.baddbmm(result, noise.unsqueeze(1), g).squeeze(1)
            kept.states[t + 1] = _bounded(after, kind)
        ctx.kind = kind
        more = (precision, draws, unseen, seen, first, second, base)
        ctx.save_for_backward(*kept, *more, *([] if gain is None else [gain]))
        return kept.states, kept.means, kept.scales

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] (of a decorator)
        """Through the steps in reverse, and then to the weights for all steps at once."""
        count = len(_Kept._fields)
        kept = _Kept(*ctx.saved_tensors[:count])
        precision, draws, unseen, seen, first, second, base, *rest = ctx.saved_tensors[count:]
        gain, kind, (on_states, on_means, on_scales) = (rest or [None])[0], ctx.kind, grads
        latent, known = on_states.shape[2], first.shape[1]
        look = seen.to(draws.dtype)
        drawn, noise = draws * look, torch.where(seen, kept.means + kept.scales * draws, unseen)
        sharper = -0.5 * kept.scales**3
        on_hidden, on_mixed = torch.empty_like(kept.hidden), torch.empty_like(kept.mixed)
        on_out = torch.empty_like(kept.mixing)
        on_reading, on_precision = torch.empty_like(precision), torch.empty_like(precision)
        moves = _gains(kept.mixed, gain, known)
        on_gain = None if gain is None else torch.zeros_like(gain)
        flat, back = base.flatten(1).T, first[:, :latent].T.contiguous().T
        on_state = on_states[-1]
        for t in reversed(range(len(draws))):
            x, h, o, v = kept.inputs[t], on_hidden[t], on_out[t], on_mixed[t]
            after, g, weight = on_state, moves[t], precision[t].unsqueeze(1)
            if kind.bound:
                after = after * (kept.states[t + 1].abs() < kind.bound)
            on_noise = torch.bmm(g, after.unsqueeze(2)).squeeze(2)
            on_mean = torch.addcmul(on_means[t], on_noise, look[t]).unsqueeze(2)
            on_scale = torch.addcmul(on_scales[t], on_noise, drawn[t])
            on_pull = torch.cholesky_solve(on_mean, kept.factor[t])
            on_needed = on_pull * kept.means[t].unsqueeze(1)
            on_needed = -(on_needed + on_needed.mT) / 2
            on_needed.diagonal(dim1=1, dim2=2).addcmul_(on_scale, sharper[t])
            spread = torch.bmm(on_needed, g)
            both = torch.addcmul(spread, on_pull, kept.surprise[t].unsqueeze(1))
            torch.sum(g * both, 1, out=on_precision[t])
            shared = torch.bmm(on_pull.mT, g * weight).squeeze(1)
            on_reading[t] = shared
            on_moved = both.add_(spread).mul_(weight)
            on_moved.addcmul_(noise[t].unsqueeze(2), after.unsqueeze(1))
            if kind.bound:
                shared = shared * (kept.free[t].abs() < kind.bound)
            on_free = after - shared
            torch.mul(x.unsqueeze(2), on_free.unsqueeze(1), out=v)
            if on_gain is None:
                v[:, known:-1] = on_moved
            else:
                on_gain += on_moved.sum(0)
            o.copy_(on_logits(v.flatten(1) @ flat, kept.mixing[t], kind.factorial))
            torch.mm(o, second, out=h)
            on_units(h, kept.hidden[t], kept.bent[t], kind)
            on_x = torch.bmm(kept.mixed[t][:, :latent], on_free.unsqueeze(2)).squeeze(2)
            on_state = (on_x + on_states[t]).add_(on_free, alpha=1 - kind.leak).addmm_(h, back)
        rows = on_hidden.flatten(0, 1)
        outs = on_out.flatten(0, 1)
        return (
            on_reading,
            on_precision,
            None,
            on_state,
            None,
            None,
            None,
            (kept.inputs[..., :known].flatten(0, 1).T @ rows).T,
            rows.sum(0),
            outs.T @ kept.hidden.flatten(0, 1),
            outs.sum(0),
            (kept.mixing.flatten(0, 1).T @ on_mixed.flatten(2).flatten(0, 1)).view_as(base),
            on_gain,
            None,
        )


def _room(controls: Tensor, start: Tensor, units: int, base: Tensor, kind: Kind) -> _Kept:
    """Empty but for what is known beforehand: actions, ones, and the first state."""
    steps, (matrices, rows, latent) = controls.shape[:2], base.shape

    def empty(*shape: int) -> Tensor:
        return start.new_empty(*steps, *shape)

    inputs = start.new_zeros(*steps, rows)
    inputs[..., latent : latent + controls.shape[2]] = controls
    inputs[..., -1] = 1
    states = start.new_empty(len(controls) + 1, *start.shape)
    states[0] = start
    return _Kept(
        inputs=inputs,
        hidden=empty(units),
        bent=empty(units if kind.smooth else 0),
        mixing=empty(matrices),
        mixed=empty(rows, latent),
        free=empty(latent),
        surprise=empty(latent),
        factor=empty(kind.noise, kind.noise),
        means=empty(kind.noise),
        scales=empty(kind.noise),
        states=states,
    )


def _gains(mixed: Tensor, gain: Tensor | None, known: int) -> Tensor:
    """How noise moves the next state (steps, batch, noise, latent)."""
    if gain is not None:
        return gain.expand(*mixed.shape[:2], -1, -1)
    return mixed[:, :, known:-1]


def _bounded(state: Tensor, kind: Kind) -> Tensor:
    return state.clamp(-kind.bound, kind.bound) if kind.bound else state

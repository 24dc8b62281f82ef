"""Inference through a locally linear DVBF, all steps at once, with its gradient written out.

Each of a window's steps is a dozen products and sums of small tensors. Recorded one by one by
autograd, and with a weight gradient added up per step, they cost several times what they compute.
Here the loop keeps what its gradient needs in one tensor for all steps, and the weights' gradients
are one product over all of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from worldmodel.models.bounded import Bounded
from worldmodel.models.fused import looped
from worldmodel.models.inference import Sampled
from worldmodel.models.networks import LEAST_SCALE
from worldmodel.models.recognition import Recognition
from worldmodel.models.transition import LocallyLinear, Transition


class Kind(NamedTuple):
    """What distinguishes locally linear transitions beside their weights.

    Attributes:
        noise: Dimensions N of the process noise.
        recognition: Hidden units R of recognition.
        leak: As for ``LocallyLinear``.
        smooth: Whether the mixing network's units are SiLU instead of ReLU.
        factorial: Whether the first matrix always counts and the others are gated one by one.
        bound: As for ``Bounded``; 0 for none.
    """

    noise: int
    recognition: int
    leak: float
    smooth: bool
    factorial: bool
    bound: float


def can_fuse(recognition: nn.Module, transition: Transition) -> bool:
    """Whether ``infer_fused`` knows these parts."""
    inner = transition.inner if isinstance(transition, Bounded) else transition
    return isinstance(recognition, Recognition) and isinstance(inner, LocallyLinear)


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
    """As ``inference.infer`` does, equal up to rounding, with other words for the same weights.

    Controls and the three draws get no gradient.

    Args:
        recognition: Infers the noise; see ``inference.infer`` for what is not explained here.
        transition: Locally linear, bounded or not.
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
    assert isinstance(recognition, Recognition) and isinstance(inner, LocallyLinear)
    assert base is not None
    into, out = inner.mixing[0], inner.mixing[-1]
    assert isinstance(into, nn.Linear) and isinstance(out, nn.Linear)
    size, hidden = features.shape[-1], len(recognition.state.weight)
    # Both networks look at state and action: their layers are computed as one.
    frame, action = recognition.context.weight.split([size, controls.shape[-1]], 1)
    given = nn.functional.linear(features, frame, recognition.context.bias)
    given = torch.cat([given, into.bias.expand(*given.shape[:2], -1)], 2)
    first = torch.cat([torch.cat([recognition.state.weight, action], 1), into.weight])
    second = torch.block_diag(recognition.noise.weight, inner.sharpness * out.weight)
    bias = torch.cat([recognition.noise.bias, inner.sharpness * out.bias])
    smooth = not isinstance(inner.mixing[1], nn.ReLU)
    kind = Kind(draws.shape[-1], hidden, inner.leak, smooth, inner.factorial, bound)
    found = looped(
        _Infer,
        into.weight,
        given,
        controls,
        start,
        draws,
        unseen,
        seen,
        first,
        second,
        bias,
        base,
        kind,
    )
    return Sampled(*found)


class _Kept(NamedTuple):
    """What the loop computes and its gradient needs, for all steps.

    Attributes:
        inputs: State, action, noise and 1, which the mixed matrices apply to.
        hidden: Units of both networks, recognition's first.
        bent: The mixing network's units before their activation, if that is smooth.
        out: Mean and raw scale of the noise, logits of the mixing weights.
        scales: Of the noise.
        mixing: Weights of the base matrices.
        mixed: Matrices that they make.
        states: One more than there are steps.
    """

    inputs: Tensor
    hidden: Tensor
    bent: Tensor
    out: Tensor
    scales: Tensor
    mixing: Tensor
    mixed: Tensor
    states: Tensor


class _Infer(torch.autograd.Function):
    """The loop over steps; ``infer_fused`` says what comes in and goes out."""

    @staticmethod
    def forward(
        ctx: Any,
        given: Tensor,
        controls: Tensor,
        start: Tensor,
        draws: Tensor,
        unseen: Tensor,
        seen: Tensor,
        first: Tensor,
        second: Tensor,
        bias: Tensor,
        base: Tensor,
        kind: Kind,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled path, and mean and scale of its noise."""
        latent, known, noise = start.shape[1], first.shape[1], kind.noise
        kept = _room(given, controls, start, base, kind)
        into, onward, flat = first.T, second.T, base.flatten(1)
        after = kept.states[1:].unbind()
        steps = zip(*(each.unbind() for each in (given, draws, unseen, seen)), strict=True)
        for t, (g, draw, blind, look) in enumerate(steps):
            x, h, p, o, scale, m, v, before = (each[t] for each in kept)
            x[:, :latent] = before
            torch.addmm(g, x[:, :known], into, out=h)
            if kind.smooth:
                h[:, : kind.recognition].relu_()
                p.copy_(h[:, kind.recognition :])
                h[:, kind.recognition :] = nn.functional.silu(p)
            else:
                h.relu_()
            torch.addmm(bias, h, onward, out=o)
            mean, raw, logits = o.split([noise, noise, len(base)], 1)
            torch.add(nn.functional.softplus(raw), LEAST_SCALE, out=scale)
            x[:, known:-1] = torch.where(look, torch.addcmul(mean, scale, draw), blind)
            weigh(logits, kind.factorial, m)
            torch.mm(m, flat, out=v.flatten(1))
            row, result = before.unsqueeze(1), after[t].unsqueeze(1)
            torch.baddbmm(row, x.unsqueeze(1), v, beta=1 - kind.leak, out=result)
            if kind.bound:
                result.clamp_(-kind.bound, kind.bound)
        ctx.kind = kind
        ctx.save_for_backward(*kept, draws, seen, first, second, base)
        return kept.states, kept.out[..., :noise].clone(), kept.scales

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] (of a decorator)
        """Through the steps in reverse, and then to the weights for all steps at once."""
        kept, (draws, seen, first, second, base) = (
            _Kept(*ctx.saved_tensors[:8]),
            ctx.saved_tensors[8:],
        )
        kind, (on_states, on_means, on_scales) = ctx.kind, grads
        latent, known, noise = on_states.shape[2], first.shape[1], kind.noise
        slope = kept.out[..., noise : 2 * noise].sigmoid()
        look = seen.to(draws.dtype)
        drawn, on_raw = draws * look * slope, on_scales * slope
        on_out, on_hidden = torch.empty_like(kept.out), torch.empty_like(kept.hidden)
        on_after = torch.empty_like(kept.states[1:])
        # Products with few columns are quick from this side only.
        flat, back = base.flatten(1).T, first[:, :latent].T.contiguous().T
        on_state = on_states[-1]
        for t in reversed(range(len(draws))):
            x, o, h, after = kept.inputs[t], on_out[t], on_hidden[t], on_after[t]
            after.copy_(on_state)
            if kind.bound:
                after.mul_(kept.states[t + 1].abs() < kind.bound)
            on_x = torch.bmm(kept.mixed[t], after.unsqueeze(2)).squeeze(2)
            on_noise = on_x[:, known:-1]
            torch.addcmul(on_means[t], on_noise, look[t], out=o[:, :noise])
            torch.addcmul(on_raw[t], on_noise, drawn[t], out=o[:, noise : 2 * noise])
            on_mixing = (x.unsqueeze(2) * after.unsqueeze(1)).flatten(1) @ flat
            o[:, 2 * noise :] = on_logits(on_mixing, kept.mixing[t], kind.factorial)
            torch.mm(o, second, out=h)
            on_units(h, kept.hidden[t], kept.bent[t], kind)
            on_state = on_x[:, :latent] + on_states[t]
            on_state.addmm_(h, back).add_(after, alpha=1 - kind.leak)
        on_mixed = (kept.inputs.unsqueeze(3) * on_after.unsqueeze(2)).flatten(0, 1).flatten(1)
        rows = on_hidden.flatten(0, 1)
        on_first = (kept.inputs[..., :known].flatten(0, 1).T @ rows).T
        on_second = on_out.flatten(0, 1).T @ kept.hidden.flatten(0, 1)
        on_base = (kept.mixing.flatten(0, 1).T @ on_mixed).view_as(base)
        on_given, nothing = (on_hidden, None, on_state), (None, None, None)
        return *on_given, *nothing, on_first, on_second, on_out.sum((0, 1)), on_base, None


def _room(given: Tensor, controls: Tensor, start: Tensor, base: Tensor, kind: Kind) -> _Kept:
    """Empty but for what is known beforehand: actions, ones, and the first state."""
    steps, (matrices, rows, latent) = given.shape[:2], base.shape
    smooth = given.shape[2] - kind.recognition if kind.smooth else 0
    inputs = given.new_ones(*steps, rows)
    inputs[..., latent : -1 - kind.noise] = controls
    states = given.new_empty(len(given) + 1, *start.shape)
    states[0] = start
    return _Kept(
        inputs=inputs,
        hidden=torch.empty_like(given),
        bent=given.new_empty(*steps, smooth),
        out=given.new_empty(*steps, 2 * kind.noise + matrices),
        scales=given.new_empty(*steps, kind.noise),
        mixing=given.new_empty(*steps, matrices),
        mixed=given.new_empty(*steps, rows, latent),
        states=states,
    )


def weigh(logits: Tensor, factorial: bool, out: Tensor) -> None:
    """As ``LocallyLinear.weigh`` does."""
    if factorial:
        torch.sigmoid(logits, out=out)
        out[:, 0] = 1
    else:
        torch.softmax(logits, 1, out=out)


def on_logits(on_mixing: Tensor, mixing: Tensor, factorial: bool) -> Tensor:
    """Gradient of the mixing weights' logits from that of the weights."""
    if factorial:
        return on_mixing * mixing * (1 - mixing)
    return torch.ops.aten._softmax_backward_data(on_mixing, mixing, 1, mixing.dtype)


def on_units(gradient: Tensor, hidden: Tensor, bent: Tensor, kind: Kind) -> None:
    """Take a gradient through the hidden units' activations, in place."""
    aten, units = torch.ops.aten, kind.recognition
    if kind.smooth:
        gradient[:, units:] = aten.silu_backward(gradient[:, units:], bent)
        gradient, hidden = gradient[:, :units], hidden[:, :units]
    aten.threshold_backward.grad_input(gradient, hidden, 0, grad_input=gradient)

"""Inference along a window by a recurrent model, all steps at once, with its gradient written out.

As in ``fused_inference.py``: the loop keeps what its gradient needs in one tensor for all steps,
what does not depend on the step before is one product for all of them, and so are the weights'
gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from worldmodel.models.fused import looped
from worldmodel.models.recurrence import Recurrence
from worldmodel.models.stochastic import Stochastic


class Inferred(NamedTuple):
    """What is inferred of steps 1 to T; time comes first.

    Attributes:
        hs: Deterministic states (T, batch, size).
        zs: Sampled stochastic ones (T, batch, stochastic).
        posteriors: Of z (T, batch, raw).
        priors: Of z (T, batch, raw).
    """

    hs: Tensor
    zs: Tensor
    posteriors: Tensor
    priors: Tensor


def infer_fused(
    recurrence: Recurrence,
    latents: Stochastic,
    features: Float[Tensor, "steps batch features"],
    controls: Float[Tensor, "steps batch act"],
    h: Float[Tensor, "batch size"],
    z: Float[Tensor, "batch stochastic"],
    draws: Float[Tensor, "steps batch noise"],
    blind: Float[Tensor, "steps batch noise"],
    seen: Bool[Tensor, "steps batch 1"],
) -> Inferred:
    """Step by step: h by the recurrence, z from the frame, or from the prior where it is unseen.

    Controls, draws and ``blind`` get no gradient.

    Args:
        recurrence: Of h, with prior and posterior.
        latents: Distributions over z.
        features: What describes frames 1 to T.
        controls: Scaled actions.
        h: At the first frame.
        z: At the first frame.
        draws: Standard normal.
        blind: Noise of steps whose frame is not looked at.
        seen: Which frames are.
    """
    part, size = recurrence, z.shape[1]
    act, first, last = part.into.weight[:, size:], part.prior[0], part.prior[-1]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    # The prior's first layer goes beside the posterior's: both are of the next h.
    contexts = part.context(features)
    offsets = torch.cat([contexts, first.bias.expand_as(contexts)], 2)
    found = looped(
        _Infer,
        part.into.weight,
        nn.functional.linear(controls, act, part.into.bias),
        offsets,
        h,
        z,
        draws,
        blind,
        seen,
        part.into.weight[:, :size],
        part.cell.weight_ih,
        part.cell.bias_ih,
        torch.cat([part.beside.weight, first.weight, part.cell.weight_hh]),
        part.cell.bias_hh,
        part.posterior.weight,
        part.posterior.bias,
        last.weight,
        last.bias,
        latents,
    )
    return Inferred(*found)


class _Kept(NamedTuple):
    """What the loop computes and its gradient needs.

    Attributes:
        entering: First units of z and action, before their activation, of every step.
        gates: Reset and keep, of every step.
        new: Candidates for h, of every step.
        onward: What h is multiplied to at every frame: first units of posterior and prior, before
            their activation, and what meets the gates of the next step.
        hs: At every frame.
        zs: At every frame.
        posteriors: Of z, of every step.
        priors: Of z, of every step.
    """

    entering: Tensor
    gates: Tensor
    new: Tensor
    onward: Tensor
    hs: Tensor
    zs: Tensor
    posteriors: Tensor
    priors: Tensor


class _Infer(torch.autograd.Function):
    """The loop over steps; ``infer_fused`` says what comes in and goes out."""

    @staticmethod
    def forward(
        ctx: Any,
        pushed: Tensor,
        offsets: Tensor,
        h: Tensor,
        z: Tensor,
        draws: Tensor,
        blind: Tensor,
        seen: Tensor,
        into: Tensor,
        fresh: Tensor,
        fresh_bias: Tensor,
        onward: Tensor,
        old_bias: Tensor,
        posterior: Tensor,
        posterior_bias: Tensor,
        prior: Tensor,
        prior_bias: Tensor,
        latents: Stochastic,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sampled path, posteriors and priors."""
        size, units = h.shape[1], len(into)
        kept = _room(pushed, h, z, len(onward), len(posterior))
        through = kept.onward[..., 2 * units :]
        through[0] = torch.addmm(old_bias, h, onward[2 * units :].T)
        offset = torch.cat([offsets, old_bias.expand(*offsets.shape[:2], -1)], 2)
        hidden = (~seen).flatten(1).any(1).tolist()
        for t, some_hidden in enumerate(hidden):
            entering, gates, new, passing = (each[t] for each in (*kept[:3], through))
            torch.addmm(pushed[t], kept.zs[t], into.T, out=entering)
            arriving = torch.addmm(fresh_bias, nn.functional.silu(entering), fresh.T)
            torch.add(arriving[:, : 2 * size], passing[:, : 2 * size], out=gates).sigmoid_()
            reset, keep = gates.chunk(2, 1)
            old = passing[:, 2 * size :]
            torch.addcmul(arriving[:, 2 * size :], reset, old, out=new).tanh_()
            torch.lerp(new, kept.hs[t], keep, out=kept.hs[t + 1])
            torch.addmm(offset[t], kept.hs[t + 1], onward.T, out=kept.onward[t + 1])
            leaving = nn.functional.silu(kept.onward[t + 1, :, : 2 * units])
            q, p = kept.posteriors[t], kept.priors[t]
            torch.addmm(posterior_bias, leaving[:, :units], posterior.T, out=q)
            torch.addmm(prior_bias, leaving[:, units:], prior.T, out=p)
            drawn = latents.draw(q, draws[t])
            if some_hidden:
                drawn = torch.where(seen[t], drawn, latents.draw(p, blind[t]))
            kept.zs[t + 1] = drawn
        ctx.latents, ctx.hidden = latents, hidden
        ctx.save_for_backward(*kept, draws, blind, seen, into, fresh, onward, posterior, prior)
        return kept.hs[1:], kept.zs[1:], kept.posteriors, kept.priors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] (of a decorator)
        """Through the steps in reverse, and then to the weights for all steps at once."""
        count, latents = len(_Kept._fields), ctx.latents
        kept = _Kept(*ctx.saved_tensors[:count])
        draws, blind, seen, into, fresh, onward, posterior, prior = ctx.saved_tensors[count:]
        on_hs, on_zs, on_q, on_p = grads[0], grads[1], grads[2].clone(), grads[3].clone()
        size, units = on_hs.shape[2], len(into)
        by_frame = latents.slopes(kept.posteriors, draws)
        by_prior = latents.slopes(kept.priors, blind)
        look = seen.to(draws.dtype)
        leaving, passing = kept.onward.split([2 * units, 3 * size], 2)
        steep, steeper = _silu_slope(kept.entering), _silu_slope(leaving[1:])
        changed = _changed(kept, passing[:-1, :, 2 * size :])
        reset, keep = kept.gates.chunk(2, 2)
        on_onward, on_fresh = torch.zeros_like(kept.onward), torch.empty_like(changed)
        on_enter = torch.empty_like(kept.entering)
        on_h, on_z = torch.zeros_like(kept.hs[0]), torch.zeros_like(kept.zs[0])
        for t in reversed(range(len(draws))):
            on_z = on_z + on_zs[t]
            if ctx.hidden[t]:
                on_p[t] += latents.pull(by_prior[t], on_z * (1 - look[t]))
                on_z = on_z * look[t]
            on_q[t] += latents.pull(by_frame[t], on_z)
            leave = on_onward[t + 1, :, : 2 * units]
            leave[:, :units] = on_q[t] @ posterior
            leave[:, units:] = on_p[t] @ prior
            leave.mul_(steeper[t])
            on_h = (on_h + on_hs[t]).addmm_(on_onward[t + 1], onward)
            torch.mul(on_h.unsqueeze(1), changed[t], out=on_fresh[t])
            arrived = on_fresh[t].flatten(1)
            on_onward[t, :, 2 * units :] = arrived
            on_onward[t, :, -size:].mul_(reset[t])
            on_h = on_h * keep[t]
            torch.mm(arrived, fresh, out=on_enter[t]).mul_(steep[t])
            on_z = on_enter[t] @ into
        on_arriving, left = on_fresh.flatten(2), nn.functional.silu(leaving[1:])
        return (
            on_enter,
            on_onward[1:, :, : 2 * units],
            on_h.addmm_(on_onward[0], onward),
            on_z,
            None,
            None,
            None,
            _outer(on_enter, kept.zs[:-1]),
            _outer(on_arriving, nn.functional.silu(kept.entering)),
            on_arriving.sum((0, 1)),
            _outer(on_onward, kept.hs),
            on_onward[..., 2 * units :].sum((0, 1)),
            _outer(on_q, left[..., :units]),
            on_q.sum((0, 1)),
            _outer(on_p, left[..., units:]),
            on_p.sum((0, 1)),
            None,
        )


def _room(pushed: Tensor, h: Tensor, z: Tensor, onward: int, raw: int) -> _Kept:
    """Empty but for the first state."""
    steps, batch, units = pushed.shape

    def empty(width: int, frames: int = 0) -> Tensor:
        return h.new_empty(steps + frames, batch, width)

    size = h.shape[1]
    kept = _Kept(
        entering=empty(units),
        gates=empty(2 * size),
        new=empty(size),
        onward=empty(onward, 1),
        hs=empty(size, 1),
        zs=empty(z.shape[1], 1),
        posteriors=empty(raw),
        priors=empty(raw),
    )
    kept.hs[0], kept.zs[0] = h, z
    kept.onward[0] = 0
    return kept


def _changed(kept: _Kept, old: Tensor) -> Tensor:
    """How h moves with what meets reset, keep and candidate, (steps, batch, 3, size)."""
    reset, keep = kept.gates.chunk(2, 2)
    candidate = (1 - kept.new.square()) * (1 - keep)
    kept_back = (kept.hs[:-1] - kept.new) * keep * (1 - keep)
    return torch.stack([old * reset * (1 - reset) * candidate, kept_back, candidate], 2)


def _silu_slope(units: Tensor) -> Tensor:
    chance = units.sigmoid()
    return chance * (1 + units * (1 - chance))


def _outer(on_outputs: Tensor, inputs: Tensor) -> Tensor:
    """Gradient of a weight matrix, over all steps."""
    return on_outputs.flatten(0, 1).T @ inputs.flatten(0, 1)

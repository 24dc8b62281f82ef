"""Named, unreduced, per-step terms of the evidence lower bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """One posterior sample's terms; frame-wise fields are (B, T + 1), step-wise ones (B, T).

    Attributes:
        states: Sampled latent states (B, T + 1, latent).
        distortion: Distance of the scaled observation from its mean, summed, per frame; a squared
            error where the emission is Gaussian. See ``Emission``.
        reconstruction: ln p(x_t | z_t) in nats, per frame.
        calibration: The same, with a gradient to the emission's own scale and to nothing else.
        rate: KL in nats from the prior paid for each frame's state: initial KL at t = 0, then
            process noise. A constant on unobserved frames, 0 if their noise is the prior's.
        entropy: Entropy in nats of the distribution that each frame's rate is paid for; annealing
            needs it apart. Zero on unobserved frames, where it is a constant too.
        reward: ln p(r_t | z_t, u_t, z_{t+1}) in nats, per step; zero where it ended the
            episode. Its gradient stops at the states.
        termination: ln p(end_t | z_{t+1}) in nats, per step. Its gradient stops at the states.
        weight_kl: KL of the transition's Bayesian weights in nats, for the whole data set.
        measure_unevenness: Computes ``unevenness``, which costs as much as all other terms of the
            emission: only for a loss that weighs it.
        observed: False on frames whose process noise was drawn without a look at them, or that
            nobody saw, and on padding.
        frame_mask: False on padding, on frames that nobody saw, which are not explained, and on a
            first frame that is context alone.
        weight: Distortion of the mean observation; fractions of it are what is allowed.
        filtering: ln q of the sampled states in nats under the beliefs of a filter that is learned
            beside the model, or under what frames alone say, per frame and weighed, with a gradient
            to those alone. None where inference learns from the bound only.
        balance: Computes ``rate`` again, of whose gradient the prior feels a given fraction and the
            posterior what is left to 1. None where the two are not learned against each other.
    """

    states: Float[Tensor, "batch frames latent"]
    distortion: Float[Tensor, "batch frames"]
    reconstruction: Float[Tensor, "batch frames"]
    calibration: Float[Tensor, "batch frames"]
    rate: Float[Tensor, "batch frames"]
    entropy: Float[Tensor, "batch frames"]
    reward: Float[Tensor, "batch steps"]
    termination: Float[Tensor, "batch steps"]
    weight_kl: Float[Tensor, ""]
    measure_unevenness: Callable[[], Float[Tensor, ""]]
    observed: Bool[Tensor, "batch frames"]
    frame_mask: Bool[Tensor, "batch frames"]
    weight: float
    filtering: Float[Tensor, "batch frames"] | None = None
    balance: Callable[[float], Float[Tensor, "batch frames"]] | None = None

    @property
    def unevenness(self) -> Float[Tensor, ""]:
        """Relative variance, over states, of how strongly the emission shows motion along the data.

        See ``Emission.unevenness``. Computed anew at every access.
        """
        return self.measure_unevenness()

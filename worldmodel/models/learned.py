"""What all models that are learned from frames do alike: scaling, heads, emission, specs.

A subclass builds its parts and owes the inference; what is here is final.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution

from worldmodel.data.episodes import Episodes
from worldmodel.data.spread import spread_frames, spread_rows
from worldmodel.draws import normal
from worldmodel.errors import NotCompiled
from worldmodel.models.codec import Codec, CodecConfig
from worldmodel.models.codec.emission import Comparison, Emission
from worldmodel.models.networks import numbers
from worldmodel.models.program import Builder, Rows
from worldmodel.models.reward import RewardHead, TerminationHead
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.models.terms import Terms
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.types import Batch, Observations, ScaledBatch, observed_bytes

_MANY = 1_000_000  # rewards that are read at a time


def _ends(episodes: Episodes) -> bool:
    """Whether one of them terminated."""
    return any(bool(piece.any()) for piece in episodes.pieces("terminated", _MANY))


class Prepared(NamedTuple):
    """A batch as networks take it.

    Attributes:
        frames: (B, T + 1, size), flat and scaled; zero on padding and where nothing was seen.
        actions: (B, T, act), scaled; zero on padding.
        span: (B, T + 1), False on padding.
        observed: (B, T + 1), False on padding, where nothing was seen, and where frames are not to
            be looked at.
        prefix: How many leading frames the first state is read from.
        frame_mask: (B, T + 1), False on padding and where nothing was seen.
    """

    frames: Tensor
    actions: Tensor
    span: Tensor
    observed: Tensor
    prefix: int
    frame_mask: Tensor


class LearnedModel(StateSpaceModel):
    """Scaling from data, an emission, and heads for reward and termination.

    A subclass says in ``_build`` what it is made of; a standard normal is the prior of its first
    state.

    Args:
        config: Of the subclass's ``config_type``.
        observation_spec: What one observation looks like.
        action_spec: What one action looks like.
        seed: Of the initial weights.

    Raises:
        SpecError: The configuration does not fit the observation, such as convolutions over a
            picture that is too small.
    """

    emission: Emission
    reward_head: RewardHead
    termination_head: TerminationHead
    action_scale: Tensor
    action_offset: Tensor

    def __init__(
        self,
        config: Any,
        observation_spec: ObservationSpace,
        action_spec: ActionSpace,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self.latent_size = self.noise_size = config.latent_size
        self.visible_size = config.latent_size
        # To [-1, 1], in one operation; an action that has no choice is zero.
        offset, _, gain = action_spec.scaling()
        self.register_buffer("action_scale", torch.from_numpy(np.nan_to_num(gain, nan=1.0)).float())
        middle = torch.from_numpy(np.nan_to_num(-gain * offset, nan=0.0)).float()
        self.register_buffer("action_offset", middle)
        # The linear model has no such settings.
        self.codec = Codec(observation_spec, getattr(config, "codec", CodecConfig()))
        self._seed = seed
        self._build_all()

    def _build_all(self) -> None:
        with seeded(self._seed) as generator:
            self._build(generator)

    @abstractmethod
    def _build(self, generator: torch.Generator) -> None:
        """Set ``emission`` and all other parts, and call ``_build_heads``.

        If the emission sees the first dimensions alone, set ``visible_size`` to their number; and
        ``noise_size`` if the process noise has not as many as the state.

        Args:
            generator: For weights that are drawn from one; torch.nn's own have the same seed.
        """

    def _build_heads(self) -> None:
        latent, hidden = self.latent_size, self.config.head_hidden
        self.reward_head = RewardHead(latent, self.action_spec.size, hidden)
        self.termination_head = TerminationHead(latent, hidden)

    @torch.no_grad()
    def calibrate(self, data: Batch | Episodes, spare: int = 0) -> None:
        """Take the scaling of observations, rewards and unbounded actions from training data.

        Where pictures need fewer components than there may be, networks are built anew, and
        ``config`` says how many there are.

        Of many frames some tell, from all over the data (``data/spread.py``), but what the rewards'
        range is and whether an episode ends, which all are asked for.

        Args:
            data: To train on.
            spare: Components of pictures that are left free for what ``widen`` is given.
        """
        episodes = self._episodes(data)
        frames, lengths = spread_frames(episodes)
        frames = frames.to(self.device)
        self.keep_components(self.codec.calibrate(frames, spare, lengths))
        if "rewards" in episodes.names:
            rewards, _ = spread_rows(episodes, "rewards")
            self.reward_head.calibrate(torch.from_numpy(rewards).to(self.device))
            if len(rewards) < int(episodes.lengths.sum()):
                for piece in episodes.pieces("rewards", _MANY):
                    self.reward_head.widen(torch.from_numpy(piece).to(self.device))
        else:
            self.reward_head.silence()
        self.termination_head.seen.fill_(_ends(episodes))
        # A few thousand suffice for one number.
        few = frames[:: max(1, frames.shape[0] // 8192)]
        for emission in self.emissions:
            emission.calibrate(self.scale_observations(few))
        actions, _ = spread_rows(episodes, "actions")
        self._calibrate_actions(torch.from_numpy(actions).to(self.device))

    def _episodes(self, data: Batch | Episodes) -> Episodes:
        return Episodes.of(data, self.observation_spec) if isinstance(data, Batch) else data

    def keep_components(self, count: int) -> None:
        """Keep so many components of pictures, and build networks anew if there were to be more."""
        codec = getattr(self.config, "codec", None)
        if codec is None or not count:
            return
        self.codec.keep(count)
        if count < codec.components:
            self.config = replace(self.config, codec=replace(codec, components=count))
            device, dtype = self.device, self.dtype
            self._build_all()
            self.to(device, dtype)

    @torch.no_grad()
    def widen(self, data: Batch | Episodes) -> None:
        """Let ranges hold further data, whose scaling stays: weights keep what they mean.

        Rewards that vary by far more than before do change their unit, and the head with it.
        """
        episodes = self._episodes(data)
        self.codec.widen(spread_frames(episodes)[0].to(self.device))
        if "rewards" in episodes.names and self.knows_reward:
            rewards, _ = spread_rows(episodes, "rewards")
            self.reward_head.adapt(torch.from_numpy(rewards).to(self.device))
        if _ends(episodes):
            self.termination_head.seen.fill_(True)

    def _calibrate_actions(self, taken: Float[Tensor, "n act"]) -> None:
        """Scaling of those without bounds."""
        unbounded = ~torch.tensor(self.action_spec.bounded, device=self.device)
        if unbounded.any():
            mean, deviation = taken.double().mean(0), taken.double().std(0)
            scale = torch.where(deviation > 0, 0.5 / deviation, 1.0).to(self.action_scale)
            self.action_scale[unbounded] = scale[unbounded]
            self.action_offset[unbounded] = (-scale * mean.to(scale))[unbounded]

    def condenses(self, observations: Observations) -> bool:
        """Whether scaled observations take no more memory than these, which are recorded ones."""
        recorded, frames = observed_bytes(observations), len(observations)
        return self.codec.size * self.dtype.itemsize * frames <= recorded

    def emphasise(self, exponent: float) -> None:
        """Coarse to fine: weigh errors of pictures' components by that power of their variance.

        At 0 they are the errors of the pictures themselves. It lasts until it is called again.
        """
        weights = self.codec.emphasis(exponent) if exponent else None
        for emission in self.emissions:
            emission.emphasise(weights)

    @property
    def emissions(self) -> tuple[Emission, ...]:
        """All that compare with scaled observations."""
        return (self.emission,)

    def _scale_actions(self, actions: Float[Tensor, "*batch act"]) -> Float[Tensor, "*batch act"]:
        return torch.addcmul(self.action_offset, actions, self.action_scale)

    def transition(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None = None,
    ) -> Float[Tensor, "batch latent"]:
        """One step of the dream."""
        return self._step(state, self._scale_actions(action), noise)

    @abstractmethod
    def _step(
        self,
        state: Float[Tensor, "batch latent"],
        control: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None,
    ) -> Float[Tensor, "batch latent"]:
        """The transition as it was learned; actions arrive scaled."""

    def compiled_transition(self, builder: Builder, state: Rows, action: Rows, noise: Rows) -> Rows:
        """Instructions of ``transition``."""
        return self._compiled_step(builder, state, self._compiled_control(builder, action), noise)

    def _compiled_step(self, builder: Builder, state: Rows, control: Rows, noise: Rows) -> Rows:
        """Instructions of ``_step``."""
        raise NotCompiled(f"{type(self).__name__} offers no compiled form")

    def _compiled_control(self, builder: Builder, action: Rows) -> Rows:
        return builder.affine(action, numbers(self.action_scale), numbers(self.action_offset))

    def initial_prior(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """z_1, standard normal."""
        return self._draw((n, self.latent_size), generator)

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator, axis: int = 0) -> Tensor:
        """Standard normal draws of a batch whose sequences are counted along ``axis``."""
        return normal(shape, generator, axis, self.device, self.dtype)

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

    def compiled_emission(self, builder: Builder, state: Rows) -> Rows:
        """Instructions of the mean of ``emit``."""
        visible, _ = state.split(self.visible_size, state.count - self.visible_size)
        return self.emission.compiled(builder, visible)

    def _compiled_frame(self, builder: Builder, frame: Rows) -> Rows:
        """Instructions of ``scale_observations``."""
        return self.codec.compiled(builder, frame)

    def compiled_reward(
        self, builder: Builder, state: Rows, action: Rows, next_state: Rows
    ) -> Rows:
        """Instructions of ``reward``."""
        control = self._compiled_control(builder, action)
        return self.reward_head.compiled(builder, state, control, next_state)

    def compiled_termination(self, builder: Builder, next_state: Rows) -> Rows:
        """Instructions of ``termination``."""
        return self.termination_head.compiled(builder, next_state)

    @property
    def control_range(self) -> tuple[Tensor, Tensor]:
        """Bounds; of controls without, two standard deviations around the data's mean."""
        spec, scale = self.action_spec, self.action_scale
        bounds = (
            torch.tensor(b, device=self.device, dtype=self.dtype) for b in (spec.low, spec.high)
        )
        known = torch.tensor(spec.bounded, device=self.device)
        ends = ((end - self.action_offset) / scale for end in (-1.0, 1.0))
        low, high = (torch.where(known, b, e) for b, e in zip(bounds, ends, strict=True))
        return low, high

    @property
    def can_terminate(self) -> bool:
        """Whether any recorded episode terminated."""
        return bool(self.termination_head.seen)

    @property
    def ending(self) -> TerminationHead:
        """The head."""
        return self.termination_head

    @property
    def paying(self) -> RewardHead:
        """The head."""
        return self.reward_head

    @property
    def knows_reward(self) -> bool:
        """Whether the data told rewards."""
        return bool(self.reward_head.std > 0)

    @property
    def reward_range(self) -> tuple[float, float]:
        """Least and greatest recorded reward."""
        return self.reward_head.min.item(), self.reward_head.max.item()

    def _prepare(
        self,
        batch: Batch,
        observed: Bool[Tensor, "batch frames"] | None,
        prefix: int | None,
    ) -> Prepared:
        """The arguments of ``terms`` as networks take them."""
        frame_mask, span = batch.frame_mask, batch.span
        # What stands where nothing was recorded may be anything, NaN too, which no product with a
        # mask removes.
        known = isinstance(batch, ScaledBatch)
        frames = batch.observations if known else self.scale_observations(batch.observations)
        actions = self._scale_actions(batch.actions)
        if not frame_mask.all():
            frames = frames.masked_fill((~frame_mask).unsqueeze(2), 0)
            actions = actions.masked_fill((~batch.mask).unsqueeze(2), 0)
        return Prepared(
            frames,
            actions,
            span,
            frame_mask if observed is None else observed & frame_mask,
            batch.steps + 1 if prefix is None else prefix,
            frame_mask,
        )

    def _explain(
        self,
        batch: Batch,
        prepared: Prepared,
        states: Float[Tensor, "batch frames latent"],
        compared: Comparison,
        rate: Float[Tensor, "batch frames"],
        entropy: Float[Tensor, "batch frames"],
        weight_kl: Float[Tensor, ""],
        filtering: Float[Tensor, "batch frames"] | None = None,
        balance: Callable[[float], Tensor] | None = None,
    ) -> Terms:
        """All terms: those that inference gives, and what sampled states say of the batch."""
        frame_mask = prepared.frame_mask
        return Terms(
            states=states,
            distortion=compared.distortion * frame_mask,
            reconstruction=(compared.reconstruction - self.codec.log_volume) * frame_mask,
            calibration=compared.calibration * frame_mask,
            rate=rate,
            entropy=entropy,
            reward=self._reward_terms(states.detach(), prepared.actions, batch),
            termination=self._termination_terms(states.detach(), batch),
            weight_kl=weight_kl,
            measure_unevenness=lambda: self.unevenness(states, prepared.span),
            observed=prepared.observed,
            frame_mask=frame_mask,
            weight=self.codec.weight,
            filtering=filtering,
            balance=balance,
        )

    def _compare(
        self, states: Float[Tensor, "batch frames latent"], prepared: Prepared
    ) -> Comparison:
        return self.emission.compare(self._visible(states), prepared.frames)

    def _visible(self, state: Tensor) -> Tensor:
        return state[..., : self.visible_size]

    def unevenness(
        self,
        states: Tensor,
        span: Tensor,
        rank: int = 0,
        ranks: int = 1,
        total: Callable[[Tensor], Tensor] = lambda own: own,
    ) -> Tensor:
        """Of the emission on a few sequences of a batch: it is a mean over states, and dear.

        Args:
            states: (B, T + 1, latent).
            span: (B, T + 1), False on padding.
            rank: Which of several processes' equal shares of the batch these are.
            ranks: How many there are.
            total: Adds to a sum those of the others.
        """
        # Those that would be chosen of the whole.
        every = len(states) * ranks // 16 or 1
        few = slice(-rank * len(states) % every, None, every)
        states, recorded = self._visible(states[few]), span[few, 2:]
        motion, states = states[:, 2:] - states[:, :-2], states[:, 1:-1]
        if recorded.all():
            return self.emission.unevenness(states.flatten(0, 1), motion.flatten(0, 1), total)
        return self.emission.unevenness(states[recorded], motion[recorded], total)

    def _reward_terms(self, states: Tensor, actions: Tensor, batch: Batch) -> Tensor:
        if batch.rewards is None or not self.knows_reward:
            return states.new_zeros(batch.mask.shape)
        predicted = self.reward_head(states[:, :-1], actions, states[:, 1:])
        # What was paid on the way to a frame that was not seen may not be known either. What the
        # last step pays is another matter (``World.ends``): a smooth function would blur it.
        known = batch.frame_mask[:, 1:] & ~batch.terminated
        recorded = batch.rewards.masked_fill(~known, 0)
        return self.reward_head.log_prob(predicted, recorded) * known

    def _termination_terms(self, states: Tensor, batch: Batch) -> Tensor:
        if not self.can_terminate:
            return states.new_zeros(batch.mask.shape)
        return self.termination_head.log_prob(states[:, 1:], batch.terminated) * batch.mask


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Initial weights from a seed: torch.nn draws them from the global generator only.

    The global generator is forked, so that none but us notice.

    Yields:
        A generator of the same seed, for weights that are drawn from one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)

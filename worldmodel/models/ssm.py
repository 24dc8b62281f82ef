"""The contract of a state-space model.

Everything downstream (the world, its environments and filter, agents) is written against this class
and nothing more. A model knows neither files nor environments nor what its data covered. A subclass
owes: ``config`` (a frozen dataclass), the specs and sizes below, and the abstract methods. It draws
every random number from a ``torch.Generator`` it is given, never draws inside ``transition``, and
takes device and dtype from its parameters.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Distribution

from worldmodel.errors import NotCompiled, ShapeError
from worldmodel.models.codec import Codec
from worldmodel.models.program import Builder, Rows
from worldmodel.spaces import ActionSpace, ObservationSpace, Stream
from worldmodel.types import Batch, Belief, Observations

if TYPE_CHECKING:
    from worldmodel.models.terms import Terms


class StateSpaceModel(nn.Module, ABC):
    """A latent Markovian state z, its transition under actions, and its emission.

    A model that can be trained is registered in ``models/registry.py``, names its ``config_type``
    and is built by ``Model(config, observation_spec, action_spec, seed)``, the seed being that of
    its initial weights.

    Attributes:
        is_bound: Whether reconstruction less rate is a lower bound on ln p(x).
        linear: Whether it refuses streams that are not linear in a state.
        config_type: Class of ``config``: a frozen dataclass of plain values and of such
            dataclasses, all with defaults, that tells the ``latent_size``.
        config: Frozen dataclass from which the same model can be built again.
        observation_spec: What one observation looks like.
        action_spec: What one action looks like.
        codec: Between recorded observations and flat, scaled ones.
        latent_size: Dimensions of the latent state.
        noise_size: Dimensions of the process noise, as many as the state's or not; standard normal
            a priori.
    """

    is_bound: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    config_type: ClassVar[type]
    config: Any
    observation_spec: ObservationSpace
    action_spec: ActionSpace
    codec: Codec
    latent_size: int
    noise_size: int

    @abstractmethod
    def initial(
        self,
        observations: Observations,
        actions: Float[Tensor, "batch steps act"],
        seen: Bool[Tensor, "batch frames"] | None = None,
    ) -> Belief:
        """Belief over the state at the *first* of one or more leading frames.

        Its scale, like that of all beliefs, is 0 where a part of the state is known exactly.

        Args:
            observations: (batch, K, *obs) as recorded, K >= 1 frames.
            actions: The K - 1 actions between them, in the environment's units.
            seen: (batch, K), False on frames that say nothing; all True if None.
        """

    @abstractmethod
    def initial_prior(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """Sample first states with no data at all."""

    @abstractmethod
    def update(
        self,
        belief: Belief,
        action: Float[Tensor, "batch act"],
        observation: Observations,
    ) -> Belief:
        """One filter step: predict with the action, correct with the frame it led to."""

    def predict(self, belief: Belief, action: Float[Tensor, "batch act"]) -> Belief:
        """One filter step without a frame: the mean goes the transition's way.

        The spread stays as it was, but for models that know better.
        """
        return Belief(self.transition(belief.mean, action), belief.scale, belief.factor)

    def follow(
        self,
        belief: Belief,
        action: Float[Tensor, "batch act"],
        observation: Observations,
        seen: Bool[Tensor, " batch"] | None = None,
    ) -> Belief:
        """``update`` where there is a frame, ``predict`` where ``seen`` is False."""
        updated = self.update(belief, action, observation)
        if seen is None or seen.all():
            return updated
        return updated.where(seen, self.predict(belief, action))

    @abstractmethod
    def transition(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None = None,
    ) -> Float[Tensor, "batch latent"]:
        """One step of the dream, differentiable. ``noise=None`` is its prior mean, zero."""

    @abstractmethod
    def emit(self, state: Float[Tensor, "*batch latent"]) -> Distribution:
        """Distribution over the flat, scaled observation (*batch, observation size)."""

    @abstractmethod
    def reward(
        self,
        state: Float[Tensor, "*batch latent"],
        action: Float[Tensor, "*batch act"],
        next_state: Float[Tensor, "*batch latent"],
    ) -> Float[Tensor, "*batch"]:
        """Mean reward paid on arrival in ``next_state``, in the environment's units."""

    @abstractmethod
    def termination(self, next_state: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Logit of the probability that the episode ends on arrival in ``next_state``."""

    @abstractmethod
    def terms(
        self,
        batch: Batch,
        generator: torch.Generator,
        observed: Bool[Tensor, "batch frames"] | None = None,
        prefix: int | None = None,
        unobserved_scale: float = 1.0,
    ) -> Terms:
        """The objective's named per-step terms, unreduced, from one sample of the posterior.

        Args:
            batch: Windows of recorded episodes.
            generator: Source of every draw.
            observed: False where the process noise is drawn without a look at the frame instead of
                inferred (observation dropout); all True if None. Any choice gives a valid bound.
            prefix: How many leading frames the initial state is read from; all if None.
            unobserved_scale: Standard deviation of the process noise where ``observed`` is False.
                1 is its prior; less costs a constant rate, and blurs less what follows.
        """

    @property
    def smooth(self) -> bool:
        """Whether the transition is a smooth function of all its arguments.

        One that chooses is not: its gradient is that of the chances to choose, and none reaches the
        noise.
        """
        return True

    @property
    def knows_reward(self) -> bool:
        """Whether the rewards that it gives were learned; if not, they are 0."""
        return True

    @property
    def reward_range(self) -> tuple[float, float]:
        """Least and greatest recorded reward; infinite if nobody recorded any."""
        return -math.inf, math.inf

    @property
    def can_terminate(self) -> bool:
        """Whether any recorded episode terminated."""
        return False

    @property
    def ending(self) -> nn.Module | None:
        """What of ``termination`` can learn on by itself, states to logits; None if nothing."""
        return None

    @property
    def paying(self) -> Any:
        """What of ``reward`` can learn on by itself, a ``RewardHead``; None if nothing."""
        return None

    @property
    def control_range(self) -> tuple[Tensor, Tensor]:
        """Least and greatest control to act with, (act,) each: bounds, or what data reached."""
        kind: Any = {"dtype": self.dtype, "device": self.device}
        low, high = self.action_spec.low, self.action_spec.high
        return torch.tensor(low, **kind), torch.tensor(high, **kind)

    def scale_observations(self, observations: Observations) -> Float[Tensor, "*batch size"]:
        """Recorded observations to the flat, scaled ones that ``emit`` is a distribution over."""
        return self.codec.scale(observations).to(self.dtype)

    def unscale_observations(self, flat: Float[Tensor, "*batch size"]) -> Observations:
        """Inverse of ``scale_observations``: always what could have been recorded."""
        return self.codec.unscale(flat)

    def compiled_transition(self, builder: Builder, state: Rows, action: Rows, noise: Rows) -> Rows:
        """Instructions of ``transition``, with the weights as they are now.

        Raises:
            NotCompiled: The model, or a part of it, offers none; so of the others below.
        """
        raise NotCompiled(f"{type(self).__name__} offers no compiled form")

    def compiled_reward(
        self, builder: Builder, state: Rows, action: Rows, next_state: Rows
    ) -> Rows:
        """Instructions of ``reward``."""
        raise NotCompiled(f"{type(self).__name__} offers no compiled form of its reward")

    def compiled_termination(self, builder: Builder, next_state: Rows) -> Rows:
        """Instructions of ``termination``; asked for only if any recorded episode terminated."""
        raise NotCompiled(f"{type(self).__name__} offers no compiled form of its termination")

    def compiled_update(
        self, builder: Builder, mean: Rows, scale: Rows, action: Rows, frame: Rows
    ) -> tuple[Rows, Rows]:
        """Instructions of ``update``: mean and scale of the next belief.

        Only for beliefs without covariances. ``frame`` is the observation as it is recorded,
        encoded (``Stream.encode``) and flat.
        """
        raise NotCompiled(f"{type(self).__name__} offers no compiled form of its filter")

    def compiled_emission(self, builder: Builder, state: Rows) -> Rows:
        """Instructions of the mean of ``emit``."""
        raise NotCompiled(f"{type(self).__name__} offers no compiled form of its emission")

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters."""
        return next(self.parameters()).dtype

    @torch.no_grad()
    def filter_beliefs(
        self,
        observations: Observations,
        actions: Tensor,
        prefix: int = 1,
        seen: Tensor | None = None,
    ) -> Belief:
        """Beliefs at every frame; frame t is inferred from frames up to max(t, prefix - 1).

        Through frames that were not seen it predicts.

        Args:
            observations: (B, T + 1, *obs) as recorded.
            actions: (B, T, act) in the environment's units.
            prefix: Leading frames the first state is read from; 1 is a live cold start.
            seen: (B, T + 1), False where there is no frame; all True if None.

        Returns:
            Belief with mean and scale (B, T + 1, latent), without covariances.

        Raises:
            ShapeError: Observations, actions, ``prefix`` or ``seen`` do not fit the model or each
                other, or a first frame was not seen.
        """
        self._check(observations, actions)
        frames = actions.shape[1] + 1
        if not 1 <= prefix <= frames:
            raise ShapeError(f"prefix must be 1 to all of the {frames} frames, got {prefix}")
        _check_seen(seen, (len(actions), frames))
        leading = observations[:, :prefix], actions[:, : prefix - 1]
        belief = self.initial(*leading, None if seen is None else seen[:, :prefix])
        beliefs = [belief]
        for t in range(actions.shape[1]):
            look = None if seen is None else seen[:, t + 1]
            belief = self.follow(belief, actions[:, t], observations[:, t + 1], look)
            beliefs.append(belief)
        return Belief(
            torch.stack([b.mean for b in beliefs], 1), torch.stack([b.scale for b in beliefs], 1)
        )

    def check_actions(self, actions: Tensor, batch: int) -> None:
        """Raise a ShapeError unless actions are (batch, T, act) and finite."""
        expected = (batch, "T", self.action_spec.size)
        if actions.ndim != 3 or len(actions) != batch or actions.shape[2] != expected[2]:
            raise ShapeError(f"actions must be {expected}, got {tuple(actions.shape)}")
        if not actions.isfinite().all():
            raise ShapeError(f"actions must be finite, got {actions[~actions.isfinite()][0]}")

    @staticmethod
    def _check_indices(stream: Stream, values: Tensor) -> None:
        for index, size in zip(values.unbind(-1), stream.sizes, strict=True):
            if wrong := index[(index < 0) | (index >= size)].tolist():
                raise ShapeError(f"{stream.name} must lie in [0, {size - 1}], got {wrong[0]}")

    def _check(self, observations: Observations, actions: Tensor) -> None:
        frames = (len(actions), actions.shape[1] + 1) if actions.ndim == 3 else None
        for stream in self.observation_spec.streams:
            values = observations
            if not isinstance(observations, Tensor):
                if stream.name not in observations.keys():
                    raise ShapeError(f"observations lack the stream {stream.name!r}")
                values = observations[stream.name]
            floats = values.is_floating_point()
            fits = floats == ("float" in stream.dtype)
            if not fits or tuple(values.shape[2:]) != stream.shape:
                raise ShapeError(
                    f"{stream.name} must be (B, T + 1, {', '.join(map(str, stream.shape))}) "
                    f"{stream.dtype}, got {tuple(values.shape)} {values.dtype}"
                )
            if floats and not values.isfinite().all():
                raise ShapeError(
                    f"{stream.name} must be finite, got {values[~values.isfinite()][0]}"
                )
            if stream.sizes:
                self._check_indices(stream, values)
        self.check_actions(actions, observations.shape[0])
        if tuple(observations.shape[:2]) != frames:
            raise ShapeError(
                f"{actions.shape[1]} actions need {actions.shape[1] + 1} observations, "
                f"got {observations.shape[1]}"
            )


def _check_seen(seen: Tensor | None, expected: tuple[int, int]) -> None:
    if seen is None:
        return
    if seen.dtype != torch.bool or tuple(seen.shape) != expected:
        raise ShapeError(f"seen must be {expected} bool, got {tuple(seen.shape)} {seen.dtype}")
    if not (first := seen[:, 0].long()).all():
        raise ShapeError(
            f"seen must be True at the first frame, got False in episode {int(first.argmin())}"
        )

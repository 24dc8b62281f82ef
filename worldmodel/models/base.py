"""The contract of a state-space model.

Everything downstream (simulator, filter, agents, viewer) is written against this class and
nothing more. A subclass owes: ``config`` (a frozen dataclass), the specs and sizes below, and the
abstract methods. It draws every random number from a ``torch.Generator`` it is given, never draws
inside ``transition``, and takes device and dtype from its parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution

from worldmodel import html
from worldmodel.data.environments import Source
from worldmodel.errors import NotCompiled, ShapeError
from worldmodel.models.denoiser import Denoiser
from worldmodel.models.program import Builder, Rows
from worldmodel.models.support import Support
from worldmodel.types import ActionSpec, Batch, Belief, ObservationSpec

if TYPE_CHECKING:
    from worldmodel.models.terms import Terms


class StateSpaceModel(nn.Module, ABC):
    """A latent Markovian state z, its transition under actions, and its emission.

    A model that can be trained is registered in ``models/registry.py``, names its ``config_type``
    and is built by ``Model(config, observation_spec, action_spec, seed)``, the seed being that of
    its initial weights.

    Attributes:
        is_bound: Whether reconstruction less rate is a lower bound on ln p(x).
        takes_pixels: Whether it models pictures, or vectors alone.
        config_type: Class of ``config``: a frozen dataclass of plain values, all with defaults, and
            with ``latent_size`` among them. Its classmethod ``suited(observation_spec)`` gives the
            settings to start from.
        config: Frozen dataclass from which the same model can be built again.
        observation_spec: What one observation looks like.
        action_spec: What one action looks like.
        latent_size: Dimensions of the latent state.
        noise_size: Dimensions of the process noise; standard normal a priori.
        support: Where in latent space the training data lie; fitted after training.
        denoiser: What leads a dream back to them, a part of ``transition``; fitted after training.
            None if dreams are left alone.
        dream_noise: With a denoiser, scale of the noise that ``transition`` is given; fitted too.
        source: The environment that the training data come from, or None if that is not known.
    """

    is_bound: ClassVar[bool] = True
    takes_pixels: ClassVar[bool] = True
    config_type: ClassVar[type]
    config: Any
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    latent_size: int
    noise_size: int
    support: Support
    denoiser: Denoiser | None
    dream_noise: Tensor
    source: Source | None = None

    def __init__(self) -> None:
        super().__init__()
        # Not of the class: that would hide a module of this name.
        self.denoiser = None

    @abstractmethod
    def initial(
        self,
        observations: Shaped[Tensor, "batch frames *obs"],
        actions: Float[Tensor, "batch steps act"],
    ) -> Belief:
        """Belief over the state at the *first* of one or more leading frames.

        Args:
            observations: As the environment gives them, K >= 1 frames.
            actions: The K - 1 actions between them, in the environment's units.
        """

    @abstractmethod
    def initial_prior(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """Sample first states with no data at all."""

    @abstractmethod
    def update(
        self,
        belief: Belief,
        action: Float[Tensor, "batch act"],
        observation: Shaped[Tensor, "batch *obs"],
    ) -> Belief:
        """One filter step: predict with the action, correct with the frame it led to."""

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

    @abstractmethod
    def deviance(self, observations: Shaped[Tensor, "n *obs"]) -> float:
        """Mean distortion per scalar where all that is known of observations is their mean.

        Shares of it are what the constrained objective allows: for a Gaussian, of the variance.
        """

    @abstractmethod
    def scale_observations(
        self, observations: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "*batch size"]:
        """Recorded observations to the flat, scaled ones that ``emit`` is a distribution over."""

    @abstractmethod
    def unscale_observations(self, flat: Float[Tensor, "*batch size"]) -> Shaped[Tensor, "..."]:
        """Inverse of ``scale_observations``, rounded and clipped to ``uint8`` for pixels."""

    @abstractmethod
    def calibrate(self, batch: Batch) -> None:
        """Take scaling, reward range and whether episodes terminate from training data."""

    @property
    @abstractmethod
    def can_terminate(self) -> bool:
        """Whether any recorded episode terminated."""

    @property
    @abstractmethod
    def reward_range(self) -> tuple[float, float]:
        """Least and greatest recorded reward."""

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

        Only for beliefs without covariances. ``frame`` is the flat observation as it is given.
        """
        raise NotCompiled(f"{type(self).__name__} offers no compiled form of its filter")

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters."""
        return next(self.parameters()).dtype

    @torch.no_grad()
    def filter_beliefs(self, observations: Tensor, actions: Tensor, prefix: int = 1) -> Belief:
        """Beliefs at every frame; frame t is inferred from frames up to max(t, prefix - 1).

        Args:
            observations: (B, T + 1, *obs) as recorded.
            actions: (B, T, act) in the environment's units.
            prefix: Leading frames the first state is read from; 1 is a live cold start.

        Returns:
            Belief with mean and scale (B, T + 1, latent), without covariances.

        Raises:
            ShapeError: Observations or actions do not fit the model or each other.
        """
        self._check(observations, actions)
        belief = self.initial(observations[:, :prefix], actions[:, : prefix - 1])
        beliefs = [belief]
        for t in range(actions.shape[1]):
            belief = self.update(belief, actions[:, t], observations[:, t + 1])
            beliefs.append(belief)
        return Belief(
            torch.stack([b.mean for b in beliefs], 1), torch.stack([b.scale for b in beliefs], 1)
        )

    def filter(self, observations: np.ndarray, actions: np.ndarray, prefix: int = 1) -> np.ndarray:
        """Latent means (B, T + 1, latent) of recorded episodes; numpy in, numpy out.

        Arguments and errors as for ``filter_beliefs``.
        """
        beliefs = self.filter_beliefs(self._tensor(observations), self._tensor(actions), prefix)
        return beliefs.mean.cpu().numpy()

    @torch.no_grad()
    def rollout(
        self,
        state: Float[Tensor, "batch latent"],
        actions: Float[Tensor, "batch steps act"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch frames latent"]:
        """States from ``state`` on, open loop; process noise only if a generator is given."""
        states = [state]
        for t in range(actions.shape[1]):
            noise = None
            if generator is not None:
                noise = torch.randn(
                    (len(state), self.noise_size),
                    generator=generator,
                    device=self.device,
                    dtype=self.dtype,
                )
            states.append(self.transition(states[-1], actions[:, t], noise))
        return torch.stack(states, 1)

    def imagine(
        self, state: np.ndarray, actions: np.ndarray, seed: int | None = None
    ) -> np.ndarray:
        """Dream from given states under given actions.

        Args:
            state: (B, latent).
            actions: (B, T, act), in the environment's units.
            seed: Of the process noise; None dreams without noise.

        Returns:
            Latent rollout (B, T + 1, latent), beginning with ``state``.

        Raises:
            ShapeError: ``state`` or ``actions`` do not fit the model or each other.
        """
        start, controls = self._tensor(state), self._tensor(actions)
        if start.ndim != 2 or start.shape[1] != self.latent_size:
            raise ShapeError(f"state must be (B, {self.latent_size}), got {tuple(start.shape)}")
        self._check_actions(controls, len(start))
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        return self.rollout(start, controls, generator).cpu().numpy()

    @torch.no_grad()
    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Mean observations (..., *obs) of latents (..., latent), as the environment gives them.

        Raises:
            ShapeError: The last axis is not ``latent_size``.
        """
        states = self._tensor(latents)
        if states.shape[-1] != self.latent_size:
            raise ShapeError(
                f"latents must be (..., {self.latent_size}), got {tuple(states.shape)}"
            )
        return self.unscale_observations(self.emit(states).mean).cpu().numpy()

    def _repr_html_(self) -> str:
        size = sum(parameter.numel() for parameter in self.parameters())
        facts = [
            ("latent dimensions", str(self.latent_size)),
            ("parameters", f"{size:,}"),
            ("observes", self.observation_spec.describe()),
            ("actions", self.action_spec.describe()),
            ("trained on", self.source.env_id if self.source else "unknown"),
        ]
        return html.table((type(self).__name__, ""), facts) + self._dream()

    @torch.no_grad()
    def _dream(self, dreams: int = 6, steps: int = 40) -> str:
        """Film of dreams under random actions, side by side; empty if they are no pictures."""
        if not self.observation_spec.pixels or self.observation_spec.shape[2] not in (1, 3):
            return ""
        generator = torch.Generator(self.device).manual_seed(0)
        start = self.initial_prior(dreams, generator)
        if self.support.fitted:
            start = self.support.states[:: max(1, len(self.support.states) // dreams)][:dreams]
        chosen = self.action_spec.space()
        chosen.seed(0)
        drawn = np.stack([[chosen.sample() for _ in range(steps)] for _ in range(len(start))])
        actions = self._tensor(self.action_spec.encode(drawn))
        frames = self.decode(self.rollout(start, actions, generator).cpu().numpy())
        film = np.stack([html.tiles(frames[None, :, t]) for t in range(steps + 1)])
        return html.film(film, 10.0, "dreams under random actions", 60_000)

    def save(self, folder: str | Path, metrics: dict[str, Any] | None = None) -> Path:
        """Write a checkpoint folder, whole or not at all. See ``models/checkpoint.py``."""
        from worldmodel.world.checkpoint import save

        return save(self, Path(folder), metrics or {})

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.as_tensor(np.asarray(array), device=self.device)
        return tensor if tensor.dtype == torch.uint8 else tensor.to(self.dtype)

    def _check_actions(self, actions: Tensor, batch: int) -> None:
        expected = (batch, "T", self.action_spec.size)
        if actions.ndim != 3 or len(actions) != batch or actions.shape[2] != expected[2]:
            raise ShapeError(f"actions must be {expected}, got {tuple(actions.shape)}")

    def _check(self, observations: Tensor, actions: Tensor) -> None:
        spec = self.observation_spec
        is_float = observations.is_floating_point()
        fits = observations.dtype == torch.uint8 if spec.pixels else is_float
        if not fits or tuple(observations.shape[2:]) != spec.shape:
            raise ShapeError(
                f"observations must be (B, T + 1, {', '.join(map(str, spec.shape))}) {spec.dtype}, "
                f"got {tuple(observations.shape)} {observations.dtype}"
            )
        self._check_actions(actions, len(observations))
        if observations.shape[1] != actions.shape[1] + 1:
            raise ShapeError(
                f"{actions.shape[1]} actions need {actions.shape[1] + 1} observations, "
                f"got {observations.shape[1]}"
            )

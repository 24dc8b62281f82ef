"""What a person keeps after training: a model, and all that is known about dreaming with it.

A model is mathematics. A world adds where its training data lie in latent space, what keeps its
dreams there, where the data came from and what was measured; and it makes environments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float
from torch import Tensor

from worldmodel import html
from worldmodel.data import Source
from worldmodel.errors import DivergenceError, ShapeError, SpecError
from worldmodel.models.program import Builder, Rows
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import picture
from worldmodel.types import to_finite, to_numpy, to_tensor, to_tensors
from worldmodel.world.checkpoint import Checkpoint, read, write
from worldmodel.world.denoiser import Denoiser
from worldmodel.world.ends import Ends
from worldmodel.world.members import Members
from worldmodel.world.support import Support
from worldmodel.world.trust import Trust


class Dream(NamedTuple):
    """States and how far they can be believed.

    Attributes:
        states: (B, T + 1, latent), beginning with the one given.
        error_bound: (B, T + 1), of the mean squared error of the frame that a state shows, as a
            fraction of the variance; the largest over streams. Infinite where nobody knows.
        reward_bound: (B, T + 1), of the absolute error of the reward on arrival.
        error_bounds: The first by stream, if there are several.
    """

    states: np.ndarray
    error_bound: np.ndarray
    reward_bound: np.ndarray
    error_bounds: dict[str, np.ndarray]


class World:
    """A trained model and what was calibrated for dreaming with it.

    Args:
        model: Used as it is, not copied.
        support: Where in latent space the training data lie; by default one that is not fitted:
            everything is inside.
        denoiser: Moves dreamt states back onto the data manifold, after every step of the model's
            transition; None leaves them alone.
        dream_noise: Factor on the process noise of dreams, calibrated on held-out rollouts.
        source: The environment that the training data come from; None if that is not known.
        metrics: What was measured; goes to ``metrics.json`` and the model card.
        ends: What corrects the model's chance that an episode ends, by held-out episodes.
        trust: Bounds of dreams' errors; None if none were calibrated: then they are infinite.
        members: Further transitions, whose disagreement the bounds and agents that explore go by;
            None if there are none. Bounds are calibrated with them.

    Attributes:
        model: As given; the others likewise.
        folder: What it was loaded by, a folder or a bundled name; None if it was made here.
    """

    def __init__(
        self,
        model: StateSpaceModel,
        support: Support | None = None,
        denoiser: Denoiser | None = None,
        dream_noise: float = 1.0,
        source: Source | None = None,
        metrics: dict[str, Any] | None = None,
        ends: Ends = Ends(),  # noqa: B008 (frozen)
        trust: Trust | None = None,
        members: Members | None = None,
    ) -> None:
        self.model = model
        support = support or Support(model.latent_size)
        self.support = support.to(model.device, model.dtype)
        self.denoiser = None if denoiser is None else denoiser.to(model.device, model.dtype)
        self.dream_noise = dream_noise
        self.source = source
        self.metrics = metrics or {}
        self.ends = ends
        self.trust = None if trust is None else trust.to(model.device, model.dtype)
        self.members = None if members is None else members.to(model.device, model.dtype)
        self.folder: str | None = None

    def transition(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None = None,
    ) -> Float[Tensor, "batch latent"]:
        """The next dreamt state: the model's, its noise as calibrated, denoised. Differentiable.

        Args:
            state: Where each dream is.
            action: Model actions (``ActionSpace.encode``) in the environment's units.
            noise: Standard normal draws; None dreams without process noise.
        """
        drawn = None if noise is None else self.dream_noise * noise
        arrived = self.model.transition(state, action, drawn)
        return arrived if self.denoiser is None else self.denoiser(arrived)

    def arrive(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None = None,
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, " batch"]]:
        """The next dreamt state, and how far from the data it was predicted: inside up to 1.

        The greater of the support's distance of the prediction, and of how far a denoiser moved it.
        """
        drawn = None if noise is None else self.dream_noise * noise
        predicted = self.model.transition(state, action, drawn)
        distance = self.support.distance(predicted)
        if self.denoiser is None:
            return predicted, distance
        arrived, away = self.denoiser.lead(predicted)
        return arrived, torch.maximum(distance, away)

    def distance(self, state: Float[Tensor, "batch latent"]) -> Float[Tensor, " batch"]:
        """How far states are from the data, in the same units."""
        distance = self.support.distance(state)
        if self.denoiser is None:
            return distance
        return torch.maximum(distance, self.denoiser.lead(state)[1])

    def compiled_arrival(
        self, builder: Builder, state: Rows, action: Rows, noise: Rows
    ) -> tuple[Rows, Rows]:
        """Instructions of ``arrive``; its distance is squared.

        Raises:
            NotCompiled: A part offers none.
        """
        drawn = noise if self.dream_noise == 1 else builder.affine(noise, self.dream_noise)
        predicted = self.model.compiled_transition(builder, state, action, drawn)
        distance = self.compiled_distance(builder, predicted)
        if self.denoiser is None:
            return predicted, distance
        return self.denoiser.compiled(builder, predicted)[0], distance

    def compiled_distance(self, builder: Builder, state: Rows) -> Rows:
        """Instructions of ``distance``; it is squared."""
        distance = self.support.compiled(builder, state)
        if self.denoiser is None:
            return distance
        _, away = self.denoiser.compiled(builder, state)
        return builder.greater(away, distance)

    def termination(self, state: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Logit of an episode's end on arrival: the model's, as held-out episodes correct it."""
        return self.ends(self.model.termination(state))

    def compiled_termination(self, builder: Builder, state: Rows) -> Rows:
        """Instructions of ``termination``; errors as of ``compiled_arrival``."""
        return self.ends.compiled(builder, self.model.compiled_termination(builder, state))

    @torch.no_grad()
    def rollout(
        self,
        state: Float[Tensor, "batch latent"],
        actions: Float[Tensor, "batch steps act"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch frames latent"]:
        """States from ``state`` on, open loop; process noise only if a generator is given."""
        shape = (len(state), self.model.noise_size)
        states = [state]
        for action in actions.unbind(1):
            noise = None
            if generator is not None:
                noise = torch.randn(
                    shape, generator=generator, device=self.model.device, dtype=self.model.dtype
                )
            states.append(self.transition(states[-1], action, noise))
        return torch.stack(states, 1)

    def filter(
        self, observations: Any, actions: Any, prefix: int = 1, seen: Any = None
    ) -> np.ndarray:
        """Latent means (B, T + 1, latent) of recorded episodes; numpy in, numpy out.

        Args:
            observations: (B, T + 1, *obs) as recorded, by stream if there are several.
            actions: (B, T, act), as ``ActionSpace.encode`` gives them; those beyond the bounds are
                clipped, as by ``step``.
            prefix: Leading frames the first state is read from; 1 is a live cold start.
            seen: (B, T + 1), ``bool``: False where there is no frame; there the filter predicts.
                All were seen if None.

        Raises:
            ShapeError: Observations, actions, ``prefix`` or ``seen`` do not fit the model or each
                other, or are not finite.
            DivergenceError: A belief is not finite.
        """
        frames = to_tensors(observations, 2, self.model.device)
        controls = self._controls(actions)
        looks = None if seen is None else to_tensor("seen", seen, self.model.device)
        means = self.model.filter_beliefs(frames, controls, prefix, looks).mean
        _require_finite("the filter's belief", means)
        return means.cpu().numpy()

    def imagine(self, state: Any, actions: Any, seed: int | None = None) -> np.ndarray:
        """Dream from given states under given actions.

        Args:
            state: (B, latent).
            actions: (B, T, act), likewise.
            seed: Of the process noise; None dreams without noise.

        Returns:
            Latent rollout (B, T + 1, latent), beginning with ``state``.

        Raises:
            ShapeError: ``state`` or ``actions`` do not fit the model or each other, or are not
                finite.
            DivergenceError: A dreamt state is not finite.
        """
        start, controls = self._tensor("state", state), self._controls(actions)
        latent = self.model.latent_size
        if start.ndim != 2 or start.shape[1] != latent:
            raise ShapeError(f"state must be (B, {latent}), got {tuple(start.shape)}")
        self.model.check_actions(controls, len(start))
        generator = None if seed is None else torch.Generator(self.model.device).manual_seed(seed)
        states = self.rollout(start, controls, generator)
        _require_finite("the dream", states)
        return states.cpu().numpy()

    @torch.no_grad()
    def dream(self, state: Any, actions: Any, seed: int | None = None) -> Dream:
        """As ``imagine``, and how far every step of it can be believed.

        Args:
            state: (B, latent), as a filter believes in it.
            actions: (B, T, act).
            seed: Of the process noise; None dreams without noise.

        Raises:
            ShapeError: As ``imagine``.
            DivergenceError: As ``imagine``.
        """
        states = torch.from_numpy(self.imagine(state, actions, seed))
        states = states.to(self.model.device, self.model.dtype)
        if (trust := self.trust) is None:
            unknown = np.full(states.shape[:2], np.inf, np.float32)
            return Dream(states.cpu().numpy(), unknown, unknown.copy(), {})
        bounds, memory = [trust.start.expand(len(states), -1)], trust.begin(len(states))
        noise, generator = None, None
        if seed is not None:
            generator = torch.Generator(self.model.device).manual_seed(seed)
        for t, control in enumerate(self._controls(actions).unbind(1)):
            if generator is not None:
                shape = len(states), self.model.noise_size
                noise = torch.randn(
                    shape, generator=generator, device=states.device, dtype=states.dtype
                )
            _, distance = self.arrive(states[:, t], control, noise)
            step = states[:, t], control, noise, states[:, t + 1], distance
            memory, found = trust(memory, *step)
            bounds.append(found)
        error, reward, streams = trust.named(torch.stack(bounds, 1))
        named = {name: value.cpu().numpy() for name, value in streams.items()}
        return Dream(states.cpu().numpy(), error.cpu().numpy(), reward.cpu().numpy(), named)

    @torch.no_grad()
    def decode(self, latents: Any) -> Any:
        """Mean observations (..., *obs) of latents (..., latent), as they are recorded.

        An array where there is one stream, a dictionary of arrays by stream where there are more.

        Raises:
            ShapeError: The last axis is not the latent state's, there are none, or a number is not
                finite.
            DivergenceError: The latents are finite, and what they show is not.
        """
        states, latent = self._tensor("latents", latents), self.model.latent_size
        if states.shape[-1:] != (latent,) or not states.numel():
            raise ShapeError(f"latents must be (..., {latent}) and some, got {tuple(states.shape)}")
        means = self.model.emit(states).mean
        shown = self.model.unscale_observations(means)
        # Means that are not finite may be clipped to what can be, and finite ones overflow.
        streams = [means, *([shown] if isinstance(shown, Tensor) else shown.values())]
        if not all(stream.isfinite().all() for stream in streams):
            raise DivergenceError(f"what the model shows of {latents!r:.200} is not finite")
        return to_numpy(shown)

    def denoised_by(self, denoiser: Denoiser) -> World:
        """The same world with another denoiser in place of its own, and so without bounds."""
        return World(
            self.model,
            self.support,
            denoiser,
            self.dream_noise,
            self.source,
            self.metrics,
            self.ends,
            members=self.members,
        )

    def alternatives(self, members: Members) -> list[World]:
        """The same world going the way of every other member: what else the data allow.

        They have no bounds.

        Args:
            members: Of this world's model, its own or others.
        """
        kept = self.support, self.denoiser, self.dream_noise, self.source
        each = (members.model_of(k) for k in range(members.count - 1))
        return [World(model, *kept, ends=self.ends) for model in each]

    def require_source(self) -> Source:
        """The environment that the training data come from.

        Raises:
            SpecError: It is not known.
        """
        if self.source is None:
            raise SpecError(
                "the model does not say which environment it was trained on; this needs one that "
                "'worldmodel collect' recorded"
            )
        return self.source

    def require_reward(self) -> None:
        """Refuse what needs the reward if the data had none: dreams then pay 0.

        Raises:
            SpecError: They had none.
        """
        if not self.model.knows_reward:
            raise SpecError(
                "the model was trained on data without rewards, so there is nothing to aim at; "
                "record rewards, or pass a goal where one is taken ('worldmodel agent --goal')"
            )

    def env(self, **kwargs: Any) -> gym.Env:
        """One dream as an environment without wrappers; ``kwargs`` are those of ``LatentEnv``."""
        return gym.make("worldmodel/Latent-v0", checkpoint=self, **kwargs).unwrapped

    def vector_env(self, num_envs: int, **kwargs: Any) -> VectorEnv:
        """Many dreams at once; ``kwargs`` are those of ``LatentVectorEnv``."""
        return gym.make_vec("worldmodel/Latent-v0", num_envs, checkpoint=self, **kwargs)

    def to(self, device: torch.device | str) -> World:
        """The same world with its networks moved to another device."""
        self.model.to(device)
        self.support.to(device)
        if self.denoiser is not None:
            self.denoiser.to(device)
        for part in (self.trust, self.members):
            if part is not None:
                part.to(device)
        return self

    def save(self, folder: str | Path, metrics: dict[str, Any] | None = None) -> Path:
        """Write a checkpoint folder, whole or not at all; see ``checkpoint.write``.

        Args:
            folder: Where to; a checkpoint that is there is replaced.
            metrics: In place of the world's own.
        """
        kept = Checkpoint(
            self.model,
            self.support,
            self.denoiser,
            self.dream_noise,
            self.source,
            self.metrics if metrics is None else metrics,
            self.ends,
            self.trust,
            self.members,
        )
        return write(kept, Path(folder))

    def _repr_html_(self) -> str:
        size = sum(parameter.numel() for parameter in self.model.parameters())
        facts = [
            ("latent dimensions", str(self.model.latent_size)),
            ("parameters", f"{size:,}"),
            ("observes", self.model.observation_spec.describe()),
            ("actions", self.model.action_spec.describe()),
            ("trained on", self.source.env_id if self.source else "unknown"),
        ]
        return html.table((type(self.model).__name__, ""), facts) + self._film()

    def _film(self, dreams: int = 6, steps: int = 40) -> str:
        """Film of dreams under random actions, side by side."""
        model = self.model
        generator = torch.Generator(model.device).manual_seed(0)
        with torch.no_grad():
            start = model.initial_prior(dreams, generator)
        if self.support.fitted:
            start = self.support.states[:: max(1, len(self.support.states) // dreams)][:dreams]
        space = model.action_spec
        drawn = space.sample(np.random.default_rng(0), (len(start), steps))
        actions = self._tensor("actions", space.encode(drawn, (len(start), steps)))
        frames = self.decode(self.rollout(start, actions, generator).cpu().numpy())
        streams = frames if isinstance(frames, dict) else {"": frames}
        shown = [
            s.picture(v)
            for s, v in zip(model.observation_spec.streams, streams.values(), strict=True)
        ]
        pictures = picture.beside(shown, 2)
        film = np.stack([html.tiles(pictures[None, :, t]) for t in range(steps + 1)])
        return html.film(film, 10.0, "dreams under random actions", 60_000)

    def _tensor(self, name: str, values: Any) -> Tensor:
        return to_finite(name, values, self.model.dtype, self.model.device)

    def _controls(self, actions: Any) -> Tensor:
        """Finite controls, within the bounds of the space."""
        controls, space = self._tensor("actions", actions), self.model.action_spec
        if controls.shape[-1:] != (space.size,):
            return controls  # for the model to refuse
        low, high = (controls.new_tensor(bounds) for bounds in (space.low, space.high))
        return torch.minimum(torch.maximum(controls, low), high)


def _require_finite(what: str, states: Float[Tensor, "batch frames latent"]) -> None:
    """Raise a DivergenceError that names the frame unless all states are."""
    finite = states.isfinite().all(-1).all(0)
    if not finite.all():
        raise DivergenceError(f"{what} is not finite at frame {int(finite.long().argmin())}")


def load(folder: str | Path | None) -> World:
    """Read a checkpoint.

    Args:
        folder: A checkpoint folder, a run folder that holds one as ``checkpoint``, or the name of
            a bundled one, such as "pendulum".

    Returns:
        The world, its model in evaluation mode and without gradients to its weights, on the CPU.

    Raises:
        SpecError: ``folder`` is neither; the message names the bundled ones.
        FileNotFoundError: There is no such folder and no bundled checkpoint of that name.
        FileFormatError: The checkpoint is truncated, corrupt, of another format version, or of a
            model that this version does not know.
    """
    kept = read(folder)
    kept.model.requires_grad_(False)
    world = World(*kept)
    world.folder = str(folder)
    return world


def resolve(world: World | str | Path | None) -> World:
    """A world as it is, or the one of a folder or a bundled name; errors as for ``load``."""
    return world if isinstance(world, World) else load(world)

"""Presets: named sets of settings, and the one place where defaults are chosen.

What data look like decides between "pictures" and "vectors"; a system that is known brings a preset
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agents.actor_critic import ActorCriticConfig
from agents.empowerment import EmpoweredConfig
from agents.pathwise import PathwiseConfig
from worldmodel.data import Dataset, SplitConfig, default_splits
from worldmodel.models.codec import CodecConfig
from worldmodel.models.dkf import DKFConfig
from worldmodel.models.dvbf_config import DVBFConfig, RecognitionConfig, TransitionConfig
from worldmodel.models.e2c import E2CConfig
from worldmodel.models.ekvae import EKVAEConfig
from worldmodel.models.linear_gaussian import LinearGaussianConfig
from worldmodel.models.registry import model_type
from worldmodel.models.rssm import RSSMConfig
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.training.config import TrainConfig
from worldmodel.training.losses.constrained import ConstrainedConfig

Agent = PathwiseConfig | EmpoweredConfig | None


@dataclass(frozen=True)
class Preset:
    """Settings that belong together.

    Attributes:
        about: What for, in a line.
        train: How a model is trained.
        models: Settings of a model by its registered name, or a function of what is observed that
            gives them. What is missing here is as in the generic preset of such observations.
        agent: How an agent is trained, or how that follows from how it acts; None if there is
            nothing to control.
        actor_critic: How actor and critic are trained, by how they act.
        splits: What is recorded.
        env_kwargs: Arguments of the environment.
        task_start: Reset options of the agent's episodes in place of the system's.
        film_start: Reset options of the agent's film.
        film_rows: Episodes in the dream's film.
        paper: Published numbers by dotted name of the metric.
    """

    about: str
    train: TrainConfig = field(default_factory=TrainConfig)
    models: Mapping[str, Any | Callable[[ObservationSpace], Any]] = field(default_factory=dict)
    agent: Agent | Callable[[ActionSpace], PathwiseConfig] = field(default_factory=PathwiseConfig)
    actor_critic: Callable[[ActionSpace], ActorCriticConfig] = lambda actions: ActorCriticConfig()
    splits: dict[str, SplitConfig] = field(default_factory=default_splits)
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    task_start: dict[str, Any] | None = None
    film_start: dict[str, Any] | None = None
    film_rows: int = 3
    paper: Mapping[str, float] = field(default_factory=dict)

    def model(self, name: str, observations: ObservationSpace) -> Any:
        """Settings of a model: its own defaults, if no preset has others.

        Raises:
            ConfigError: There is no such model.
        """
        kind = model_type(name)
        known = {**GENERIC[observations.preset].models, **self.models}
        chosen = known[name] if name in known else kind.config_type()
        return chosen(observations) if callable(chosen) else chosen

    def training(self, dataset: Dataset) -> TrainConfig:
        """How a model is trained on data: its window is no longer than their longest episode."""
        return replace(self.train, window=min(self.train.window, dataset.train.steps))

    def acting(self, actions: ActionSpace) -> Agent:
        """How an agent is trained."""
        return self.agent(actions) if callable(self.agent) else self.agent


# Beyond it an update costs more than what is left to tell apart is worth: a locally linear
# transition mixes matrices of the state's size squared.
_MOST = 32


def _said(observations: ObservationSpace) -> int:
    """How many numbers of a state a vector says: as many as it has, up to a limit."""
    return min(max(2, observations.size), _MOST)


def _picture_dvbf(observations: ObservationSpace) -> DVBFConfig:
    """Fusion, and room: a state too small is not learned, and one too large costs little.

    Other streams beside a picture say what it may not show.
    """
    beside = sum(stream.size for stream in observations.streams if stream.preset != "pictures")
    return DVBFConfig(
        latent_size=min(8 + beside, _MOST),
        codec=CodecConfig(depth=3, waves=None),
        recurrent=32,
        recognition=RecognitionConfig("fusion", reading_weight=0.1),
    )


def _vector_dvbf(observations: ObservationSpace) -> DVBFConfig:
    """Fusion, and a state of the vector's size: it says nearly all, and exactly."""
    return DVBFConfig(
        latent_size=_said(observations),
        recognition=RecognitionConfig("fusion", reading_scale=0.7),
        transition=TransitionConfig(noise_floor=0.02),
    )


def _vector_dkf(observations: ObservationSpace) -> DKFConfig:
    """A state of the vector's size."""
    return DKFConfig(latent_size=_said(observations))


def _vector_e2c(observations: ObservationSpace) -> E2CConfig:
    """A state of the vector's size."""
    return E2CConfig(latent_size=_said(observations))


def _vector_ekvae(observations: ObservationSpace) -> EKVAEConfig:
    """Readings of the vector's size, and two dimensions for what they do not show."""
    said = _said(observations)
    return EKVAEConfig(latent_size=said + 2, auxiliary_size=said)


def _vector_kalman(observations: ObservationSpace) -> LinearGaussianConfig:
    """As much again for what a vector does not show, such as velocities."""
    return LinearGaussianConfig(latent_size=2 * _said(observations))


def _vector_rssm(observations: ObservationSpace) -> RSSMConfig:
    """Small: every dimension of h is one of the dream's observation space."""
    return RSSMConfig(deterministic_size=48)


def _vector_agent(actions: ActionSpace) -> PathwiseConfig:
    """By how an agent acts.

    Models of vectors are sharp, so that longer trajectories are worth following; and what they do
    not know begins closer to the data, so that the policy had better stay near them. The gradient
    of a Box action through unstable dynamics grows with the horizon, where that of a discrete
    action's probability is tamed by the sampling: hence the shorter horizon.
    """
    box = actions.kind == "box"
    return PathwiseConfig(
        updates=400,
        horizon=40 if box else 100,
        discount=0.99 if box else 0.995,
        learning_rate=5e-3,
        ood_penalty=2.0,
        ood_radius=1.5,
        noise_scale=1.0 if box else 0.5,
    )


def _vector_actor_critic(actions: ActionSpace) -> ActorCriticConfig:
    """As far as the same models are trusted by ``_vector_agent``."""
    return ActorCriticConfig(
        horizon=25,
        discount=0.99,
        ood_penalty=2.0,
        ood_radius=1.5,
        noise_scale=1.0 if actions.kind == "box" else 0.5,
    )


GENERIC: dict[str, Preset] = {
    "pictures": Preset(
        "Pictures, alone or with other streams: they say little of velocities, nothing exactly",
        # Long windows: a velocity that is off by little shows only after many steps. Components
        # stand for no pixels, so that flatness would not be worth the half of an update it takes.
        # What is learned without dropout at the end is drawn and predicted more sharply.
        train=TrainConfig(
            updates=8000,
            batch_size=32,
            window=30,
            optimizer="muon",
            learning_rate=6e-3,
            dropout_until=0.7,
            constrained=ConstrainedConfig(step=0.0075, decay=0.985, flatness=0.0, huber=True),
        ),
        models={
            "dvbf": _picture_dvbf,
            "dkf": DKFConfig(),
            "e2c": E2CConfig(),
            "ekvae": EKVAEConfig(),
            "rssm": RSSMConfig(),
            "kalman": LinearGaussianConfig(),
        },
    ),
    "vectors": Preset(
        "Vectors of a simulator: they say nearly all of the state, and exactly",
        # So sharp a constraint makes gradients large; clipped, the heads would starve.
        train=TrainConfig(
            updates=1500,
            max_grad_norm=1e5,
            constrained=ConstrainedConfig(
                tight=0.001,
                min_multiplier=8.0,
                max_multiplier=1000.0,
                step=0.01,
                tighten_from=0.1,
                tighten_to=0.5,
                flatness=0.0,
            ),
        ),
        models={
            "dvbf": _vector_dvbf,
            "dkf": _vector_dkf,
            "e2c": _vector_e2c,
            "ekvae": _vector_ekvae,
            "rssm": _vector_rssm,
            "kalman": _vector_kalman,
        },
        agent=_vector_agent,
        actor_critic=_vector_actor_critic,
    ),
}

"""Every model by its name: one line each, and nothing else anywhere knows them all."""

from __future__ import annotations

from pkgutil import resolve_name

from worldmodel.errors import ConfigError
from worldmodel.models.learned import LearnedModel
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import ObservationSpace

MODELS: dict[str, type[LearnedModel]] = {
    name: resolve_name(place)
    for name, place in {
        "dvbf": "worldmodel.models.dvbf:DVBF",
        "dkf": "worldmodel.models.dkf:DKF",
        "e2c": "worldmodel.models.e2c:E2C",
        "ekvae": "worldmodel.models.ekvae:EKVAE",
        "rssm": "worldmodel.models.rssm:RSSM",
        "kalman": "worldmodel.models.linear_gaussian:LinearGaussian",
    }.items()
}


def model_type(name: str) -> type[LearnedModel]:
    """The model of a name.

    Raises:
        ConfigError: There is none; the message names those that there are.
    """
    if name not in MODELS:
        raise ConfigError(f"model must be one of {', '.join(MODELS)}, got {name!r}")
    return MODELS[name]


def registered(model: StateSpaceModel) -> LearnedModel:
    """The same, which can be trained further.

    Raises:
        ConfigError: It is none of those that are registered, but somebody's own.
    """
    if not isinstance(model, LearnedModel):
        raise ConfigError(f"expected a model of {', '.join(MODELS)}, got {type(model).__name__}")
    return model


def fitting(observation_spec: ObservationSpace) -> tuple[str, ...]:
    """Names of the models that take such observations."""
    linear = observation_spec.linear
    return tuple(name for name, kind in MODELS.items() if linear or not kind.linear)

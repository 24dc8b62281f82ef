"""Errors that name the offending value and what was expected."""

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

# What ``np.asarray`` raises of what is no array; the last comes from tensors, which belong to
# another device or to a gradient.
NO_ARRAY = (TypeError, ValueError, RuntimeError)


class WorldModelError(Exception):
    """Base of every error that this package raises on purpose."""


class ShapeError(WorldModelError, ValueError):
    """An array has another shape or dtype than was expected."""


class SpecError(WorldModelError, ValueError):
    """A space, dataset or model does not fit the other it is used with."""


class ConfigError(WorldModelError, ValueError):
    """A setting lies outside its range."""


class DeviceError(WorldModelError, RuntimeError):
    """There is no such device, or it lacks what is asked of it; the message says what there is."""


class FileFormatError(WorldModelError, ValueError):
    """A file or folder is truncated, corrupt, foreign, or of another format version."""


class FolderInUse(WorldModelError, RuntimeError):
    """Another process writes to a folder that only one may write to; the message names it."""


class WorkerError(WorldModelError, RuntimeError):
    """A process that worked for this one has failed."""


class DivergenceError(WorldModelError, ArithmeticError):
    """Training, or a filter, produced a value that is not finite."""


class ConvergenceError(WorldModelError, ArithmeticError):
    """An iteration did not reach its tolerance."""


class SourceError(WorldModelError, RuntimeError):
    """A real environment, or a rig, fails: while it is recorded, or learning, again and again."""


class ResetNeeded(WorldModelError, RuntimeError):
    """An environment was stepped before it was reset."""


class NotCompiled(WorldModelError):
    """A part of a model offers no compiled form; the message says which and why."""


class MissingExtraError(WorldModelError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


def meant(name: str, names: Iterable[str]) -> str:
    """What somebody who typed a name may have meant, as the end of a sentence; else nothing."""
    close = get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def require_extra(module: str, extra: str) -> None:
    """Raise unless an optional dependency can be imported.

    Args:
        module: Name of the module that is about to be imported.
        extra: The extra of this package that installs it.

    Raises:
        MissingExtraError: ``module`` is not installed.
    """
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise MissingExtraError(
            f"{module!r} is not installed; install it with: pip install 'worldmodel[{extra}]'"
        )


def require_at_least(least: int, **settings: int) -> None:
    """Raise unless every setting reaches ``least``.

    Raises:
        ConfigError: One does not; the message names it.
    """
    for name, value in settings.items():
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")


def require_finite(least: float | int, **settings: float | int) -> None:
    """Raise unless every setting is finite and reaches ``least``.

    Raises:
        ConfigError: One is not or does not; the message names it.
    """
    for name, value in settings.items():
        if not least <= value < math.inf:
            raise ConfigError(f"{name} must be finite and >= {least:g}, got {value}")


def require_positive(**settings: float) -> None:
    """Raise unless every setting is more than 0; infinity is.

    Raises:
        ConfigError: One is not; the message names it.
    """
    for name, value in settings.items():
        if not value > 0:
            raise ConfigError(f"{name} must be more than 0, got {value}")


def require_fraction(**settings: float) -> None:
    """Raise unless every setting lies in [0, 1].

    Raises:
        ConfigError: One does not; the message names it.
    """
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} must lie in [0, 1], got {value}")


def require_choices(config: Any) -> None:
    """Raise unless every field that a dataclass declares as ``Literal`` holds one of its values.

    Raises:
        ConfigError: One does not; the message names it and the choice there is.
    """
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            raise ConfigError(
                f"{name} must be one of {get_args(hint)}, got {getattr(config, name)!r}"
            )

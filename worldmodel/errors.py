"""Errors that name the offending value and what was expected."""


class WorldModelError(Exception):
    """Base of every error that this package raises on purpose."""


class ShapeError(WorldModelError, ValueError):
    """An array has another shape or dtype than was expected."""


class SpecError(WorldModelError, ValueError):
    """A space, dataset or model does not fit the other it is used with."""


class ConfigError(WorldModelError, ValueError):
    """A setting lies outside its range."""


class FileFormatError(WorldModelError, ValueError):
    """A file or folder is truncated, corrupt, foreign, or of another format version."""


class DivergenceError(WorldModelError, ArithmeticError):
    """Training produced a value that is not finite."""


class ResetNeeded(WorldModelError, RuntimeError):
    """An environment was stepped before it was reset."""


class MissingExtraError(WorldModelError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


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

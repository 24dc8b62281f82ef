"""What arguments several commands have, and how they are read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import tyro
from tyro.conf import Positional, arg
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

from worldmodel.errors import SpecError
from worldmodel.models.registry import MODELS
from worldmodel.systems import PRESETS

REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Paths may begin at the home folder: no shell expands the ~ of --out=~/x."""
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(words[0]).expanduser(),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


@REGISTRY.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """One value or None, refused in the words of the one: a union lists what failed, as types.

    Of a choice, None is the default alone: it is not among the names that can be chosen.
    """
    kinds = get_args(info.type) if get_origin(info.type) in (Union, UnionType) else ()
    other = [kind for kind in kinds if kind is not type(None)]
    if len(kinds) != 2 or len(other) != 1:
        return None
    made = PrimitiveTypeInfo.make(other[0], info.markers)
    spec = ConstructorRegistry.get_primitive_spec(made)
    if isinstance(spec, UnsupportedTypeAnnotationError) or spec.nargs != 1:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{None}}|{spec.metavar}",
        instance_from_str=lambda words: (
            None if words == ["None"] else spec.instance_from_str(words)
        ),
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: (
            ["None"] if value is None else spec.str_from_instance(value)
        ),
        choices=spec.choices,
    )


_NAME_OR_PATH = PrimitiveConstructorSpec(
    nargs=1,
    metavar="RUN",
    instance_from_str=lambda words: os.path.expanduser(words[0]),
    is_instance=lambda value: isinstance(value, str),
    str_from_instance=lambda name: [name],
)
Data = Annotated[Path, Positional, arg(metavar="DATA")]
Env = Annotated[str, Positional, arg(metavar="ENV")]

if TYPE_CHECKING:
    Run = ModelName = PresetName = str
    AnyModelConfig = Any
else:
    Run = Annotated[str, Positional, _NAME_OR_PATH]
    ModelName = Literal[tuple(MODELS)]
    PresetName = Literal[tuple(PRESETS)]
    # Which of them it is follows from the model's name, by the default that ``defaults`` sets.
    AnyModelConfig = tyro.conf.AvoidSubcommands[
        Union[tuple(kind.config_type for kind in MODELS.values())]  # noqa: UP007 (not known before)
    ]


def parse_kwargs(text: str) -> dict[str, Any]:
    """Read environment arguments given as a JSON object.

    Raises:
        SpecError: It is not one.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(f"expected a JSON object, got {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise SpecError(f"expected a JSON object, got {text!r}")
    return value

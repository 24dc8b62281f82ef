"""No setting that a flag can reach takes a number that makes no sense."""

import dataclasses
import math
import typing

import pytest

from agents.empowerment.variational import VariationalConfig
from agents.sac import SACConfig
from worldmodel.cli import COMMANDS
from worldmodel.cli.collect import Acting
from worldmodel.errors import ConfigError
from worldmodel.models.registry import MODELS

# Without bounds on purpose: no clipping of gradients, and agents that may go anywhere.
UNBOUNDED = {"max_grad_norm", "ood_radius"}


def settings(hint: object) -> set[type]:
    """Dataclasses that a type hint names, and those within them."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint, include_extras=True)
        inner = (settings(hints[field.name]) for field in dataclasses.fields(hint))
        return {hint}.union(*inner)
    return set().union(*(settings(part) for part in typing.get_args(hint)))


def cases():
    found = {VariationalConfig, SACConfig}
    for command in COMMANDS.values():
        for hint in typing.get_type_hints(command, include_extras=True).values():
            found |= settings(hint)
    found |= {kind.config_type for kind in MODELS.values()}
    for kind in sorted(found, key=lambda kind: kind.__qualname__):
        fields = dataclasses.fields(kind)
        without = (dataclasses.MISSING, dataclasses.MISSING)
        if any((f.default, f.default_factory) == without for f in fields):
            continue  # a demo's, whose parts are tried by themselves
        hints = typing.get_type_hints(kind)
        for field in fields:
            kinds = typing.get_args(hints[field.name]) or (hints[field.name],)
            bad = [-1] if int in kinds else [math.nan, math.inf, -1.0] if float in kinds else []
            for value in bad:
                if not (value == math.inf and field.name in UNBOUNDED):
                    yield pytest.param(kind, field.name, value, id=f"{kind.__name__}.{field.name}")


@pytest.mark.parametrize(("kind", "name", "value"), list(cases()))
def test_what_makes_no_sense_is_refused_by_name(kind, name, value):
    with pytest.raises(ConfigError) as refused:
        changed = dataclasses.replace(kind(), **{name: value})
        if isinstance(changed, Acting):  # judged once it is known who acts
            dataclasses.replace(changed, process="held").drawn()
            dataclasses.replace(changed, policy="math:sqrt").behaviour()
    assert {"hold": "steps", "policy_share": "share"}.get(name, name) in str(refused.value)

"""What a stream or a model is, is asked where kinds are: everything else asks what it can do."""

import ast
from functools import cache
from pathlib import Path

import pytest

from worldmodel.models.registry import MODELS
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.models.transition import Transition
from worldmodel.spaces.kinds import KINDS

ROOT = Path(__file__).parents[1]
ROOMS = ("worldmodel", "agents")
# Actions are one-hot if they are an index, and are told apart by that word.
OF_OBSERVATIONS = KINDS.keys() - {"discrete"}


def subclasses(kind):
    return {kind.__name__}.union(*(subclasses(each) for each in kind.__subclasses__()))


assert MODELS, "imports them all"
CLASSES = subclasses(StateSpaceModel) | subclasses(Transition)
ASKING = ast.Compare | ast.Call
STREAMS = {kind.__name__ for kind in KINDS.values()}


def names(node):
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} | {
        each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)
    }


def texts(node):
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}


def asks_for_kind(node) -> bool:
    """``stream.kind == "pixels"``, ``isinstance(stream, Pixels)`` and the like."""
    if isinstance(node, ast.Compare):
        of_stream = "kind" in names(node.left) and any("stream" in n for n in names(node.left))
        asked = set().union(*(texts(each) for each in node.comparators))
        return of_stream or ("kind" in names(node.left) and bool(asked & OF_OBSERVATIONS))
    return asks_for_class(node, STREAMS)


def asks_for_class(node, classes) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if called and node.func.id in ("isinstance", "issubclass"):
        asked = node.args[1]
        # Gymnasium's spaces have some names in common with ours.
        gym = any(isinstance(each, ast.Name) and each.id == "gym" for each in ast.walk(asked))
        return not gym and bool(names(asked) & classes)
    if isinstance(node, ast.Compare) and isinstance(node.left, ast.Call):
        of_type = isinstance(node.left.func, ast.Name) and node.left.func.id == "type"
        return of_type and any(names(each) & classes for each in node.comparators)
    return False


@cache
def asked_anywhere():
    """Comparisons and calls of every file."""
    return {
        path: [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ASKING)]
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
    }


def places(asks, home):
    """Where a question is asked, outside of the folders that may."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, nodes in asked_anywhere().items()
        if not any((ROOT / folder) in path.parents for folder in home)
        for node in nodes
        if asks(node)
    ]


def test_nobody_asks_what_kind_an_observation_is():
    assert places(asks_for_kind, ["worldmodel/spaces", "worldmodel/models/codec"]) == []


def test_nobody_asks_what_class_a_model_is():
    asked = places(lambda node: asks_for_class(node, CLASSES), ["worldmodel/models"])
    assert asked == []


@pytest.mark.parametrize(
    ("code", "kinds", "classes"),
    [
        ("stream.kind == 'pixels'", True, False),
        ("part.kind in ('vector', 'pixels')", True, False),
        ("'a' if spec[stream.name].kind != 'discrete' else 'b'", True, False),
        ("isinstance(each, Pixels)", True, False),
        ("actions.kind == 'discrete'", False, False),
        ("isinstance(space, gym.spaces.Discrete)", False, False),
        ("isinstance(world.model, models.DVBF | EKVAE)", False, True),
        ("type(self.model.transition_model) is LocallyLinear", False, True),
        ("array.dtype.kind == 'f'", False, False),
    ],
)
def test_the_questions_are_found(code, kinds, classes):
    nodes = list(ast.walk(ast.parse(code)))
    assert any(map(asks_for_kind, nodes)) == kinds
    assert any(asks_for_class(node, CLASSES) for node in nodes) == classes

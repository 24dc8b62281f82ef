"""Without extras, everything that is imported when a module is imported is a dependency."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"worldmodel", "agents", "envs"}
# By what they are imported as; cloudpickle is Gymnasium's own dependency.
NAMES = {"pillow": "PIL"}
TRANSITIVE = {"cloudpickle", "mpl_toolkits"}
# Modules that are imported only once the extra is known to be there.
WITH_EXTRA = re.compile(
    r"worldmodel/(play/|world/(kernels/|(interpreter|lanes)\.py))|agents/sb3\.py"
)


def needed() -> set[str]:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w-]+", each)[0] for each in told}  # type: ignore[index]
    return {NAMES.get(name, name) for name in names} | TRANSITIVE


def imported_at_once(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - OURS


FILES = [path.relative_to(ROOT) for name in sorted(OURS) for path in (ROOT / name).rglob("*.py")]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_it_needs_no_extra(path):
    if WITH_EXTRA.match(path.as_posix()):
        pytest.skip("imported only where its extra is")
    assert imported_at_once(ROOT / path) <= needed()

"""Commands are judged by what they write and say, not by what is reached in minutes."""

import sys
from functools import partial

import pytest

import worldmodel.cli  # noqa: F401 (for its modules)
from worldmodel.evaluation import evaluate


@pytest.fixture(autouse=True, scope="module")
def hardly_taught():
    """Networks that are told the truth, on which ``evaluate`` spends most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ceiling", "tracked_by_network"):
            patch.setattr(evaluate, name, partial(getattr(evaluate, name), updates=20))
        # The module, whose place in the package its function took.
        patch.setattr(sys.modules["worldmodel.cli.evaluate"], "PROBED", {True: 4, False: 2})
        yield

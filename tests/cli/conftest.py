"""Commands are judged by what they write and say, not by what is reached in minutes."""

from functools import partial

import pytest

from worldmodel.evaluation import evaluate


@pytest.fixture(autouse=True, scope="module")
def hardly_taught():
    """Networks that are told the truth, on which ``evaluate`` spends most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ceiling", "tracked_by_network"):
            patch.setattr(evaluate, name, partial(getattr(evaluate, name), updates=20))
        yield

import pytest
from linear_model import LinearModel, fit_support

from worldmodel.world.world import World


@pytest.fixture
def world() -> World:
    """A point that turns and can be pushed; the reward asks for the origin."""
    model = LinearModel()
    model.can_terminate = False
    return fit_support(model, 0.7)

import pytest
from linear_model import LinearModel, fit_support


@pytest.fixture
def model() -> LinearModel:
    """A point that turns and can be pushed; the reward asks for the origin."""
    model = LinearModel()
    model.can_terminate = False
    return fit_support(model, 0.7)

"""What every test shares; helpers that are no fixtures are in the modules beside this one."""

import pytest
import torch

import envs  # noqa: F401 (registers the real systems, whichever file runs first)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors gain nothing from threads, and one thread makes sums repeat bit for bit."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    """Layers that a test builds by hand have the same weights whatever ran before them."""
    torch.manual_seed(0)

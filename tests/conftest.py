"""What every test shares; helpers that are no fixtures are in the modules beside this one."""

import signal

import pytest
import torch

import envs  # noqa: F401 (registers the real systems, whichever file runs first)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors gain nothing from threads, and one thread makes sums repeat bit for bit."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def interruptible():
    """A shell has what it starts in the background ignore Ctrl-C, and so would what is tested."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded():
    """Layers that a test builds by hand have the same weights whatever ran before them."""
    torch.manual_seed(0)

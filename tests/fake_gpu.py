"""A GPU that computes nothing: it refuses to mix its tensors with the host's, as a real one does.

Shapes, dtypes and devices are PyTorch's own (``FakeTensorMode``); numbers are not there. What a
program asks of numbers is answered "True" and "1", unless it must not ask at all.
"""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._pytree import tree_map

_ASKS = {
    Tensor.__bool__: True,
    Tensor.item: 1.0,
    Tensor.__float__: 1.0,
    Tensor.__int__: 1,
    Tensor.__index__: 1,
}
# A device that PyTorch knows, but has no code for: older ones know of none.
_HAS_FAKES = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
if _HAS_FAKES:
    backend_registration._setup_privateuseone_for_python_backend("fake")
_DRAWS = (torch.randn, torch.rand, torch.randint, torch.randperm)


class _Answers(TorchFunctionMode):
    """Answers for numbers; draws without the host's generator, but where the generator would be.

    Args:
        waits: Whether a program may wait for numbers.
    """

    def __init__(self, waits: bool) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in _ASKS:
            assert self.waits, f"it waits for the device, by {func.__name__}"
            return _ASKS[func]
        if func in _DRAWS:
            assert "device" in kwargs, f"{func.__name__} without a device"
            kwargs.pop("generator", None)
        # It has no code to make a tensor of Python's numbers; a GPU is sent one, too.
        if func is Tensor.new_tensor:
            like = args[0]
            return like.new_empty(np.shape(args[1]), **kwargs)
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
            kwargs.setdefault("dtype", torch.tensor(np.asarray(args[0]).flat[0].item()).dtype)
            return torch.empty(np.shape(args[0]), **kwargs)
        return func(*args, **kwargs)


def _recur(self: nn.GRU, inputs: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What PyTorch has no code for with fakes: the same shapes, of all that a GRU looks at."""
    ways = 2 if self.bidirectional else 1
    looked = inputs.sum() + sum(weight.sum() for weight in self.parameters())
    if hidden is not None:
        looked = looked + hidden.sum()
    batch = inputs.shape[0 if self.batch_first else 1]
    last = looked.expand(ways * self.num_layers, batch, self.hidden_size)
    return looked.expand(*inputs.shape[:2], ways * self.hidden_size), last


@contextmanager
def fake_gpu(waits: bool = True):
    """Yields what moves tensors, and modules in place, to the GPU; only inside are they alive."""
    if not _HAS_FAKES:
        pytest.skip("needs a PyTorch that takes a device written in Python")
    recurrent = mock.patch.object(nn.GRU, "forward", _recur)
    with FakeTensorMode() as mode, _Answers(waits), recurrent:

        def move(value):
            if isinstance(value, nn.Module):
                for module in value.modules():
                    for group in (module._parameters, module._buffers):
                        for name, held in group.items():
                            if held is not None:
                                group[name] = move(held)
                return value
            if not isinstance(value, Tensor):
                return value
            # PyTorch itself may look at a number that it is given.
            with torch.no_grad(), torch._C.DisableTorchFunction():
                fake = mode.from_tensor(value)
            fake = fake.detach().to("fake")
            return nn.Parameter(fake) if isinstance(value, nn.Parameter) else fake

        yield lambda tree: tree_map(move, tree)

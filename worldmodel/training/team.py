"""The processes that train one model together: each takes its rows of every batch.

All of them hold the same weights, optimiser, objective and generator, draw alike, and see the same
validations, so that the result is that of one process with the joint batch, up to rounding; and so
what one of them writes is enough to go on from. PyTorch's DistributedDataParallel averages the
gradients; ``torchrun`` starts the processes, watches them, and ends all if one dies.
"""

from __future__ import annotations

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from worldmodel.draws import SharedGenerator
from worldmodel.errors import ConfigError, WorkerError
from worldmodel.models.learned import LearnedModel
from worldmodel.models.terms import Terms
from worldmodel.types import Batch

T = TypeVar("T")
# Of silence, until the others are given up: the first process validates and writes meanwhile. Of
# one that dies they hear at once.
_PATIENCE = timedelta(minutes=10)


class Team(ABC):
    """What the trainer asks of those it trains with.

    Attributes:
        rank: Which of them this process is; the first, 0, alone writes, shows and validates.
        size: How many they are.
    """

    rank: int
    size: int

    def require_divides(self, sizes: set[int]) -> None:
        """Refuse batches that cannot be shared equally.

        Raises:
            ConfigError: One of them cannot; the message names it.
        """
        if odd := sorted(size for size in sizes if size % self.size):
            raise ConfigError(
                f"batches of {', '.join(map(str, odd))} sequences cannot be shared equally among "
                f"{self.size} processes; choose batch_size, and with halved_until window, so "
                "that they can"
            )

    def generator(self, device: torch.device, seed: int) -> torch.Generator:
        """A generator for draws of the joint batch."""
        return SharedGenerator.seeded(device, seed, self.rank, self.size)

    @abstractmethod
    def wrap(self, loss: nn.Module) -> nn.Module:
        """The module of which the gradients are those of the joint batch."""

    @abstractmethod
    def told(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them."""

    @abstractmethod
    def summed(self, numbers: Tensor) -> Tensor:
        """Sums over all processes."""

    @abstractmethod
    def even(self, terms: Terms, model: LearnedModel, batch: Batch) -> Terms:
        """The same terms, with the unevenness of the joint batch, which is no mean over rows."""

    @abstractmethod
    def joined(self, terms: Terms) -> Terms:
        """The joint batch's terms, without a gradient."""


class Alone(Team):
    """One process."""

    rank, size = 0, 1

    def wrap(self, loss: nn.Module) -> nn.Module:
        """See the base class."""
        return loss

    def told(self, make: Callable[[], T]) -> T:
        """See the base class."""
        return make()

    def summed(self, numbers: Tensor) -> Tensor:
        """See the base class."""
        return numbers

    def even(self, terms: Terms, model: LearnedModel, batch: Batch) -> Terms:
        """See the base class."""
        return terms

    def joined(self, terms: Terms) -> Terms:
        """See the base class."""
        return terms


class Joined(Team):
    """Several processes, whose group has been set up."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def wrap(self, loss: nn.Module) -> nn.Module:
        """See the base class."""
        parallel = nn.parallel.DistributedDataParallel
        # Of this name since PyTorch 2.13. All buffers are alike, and some are large.
        known = inspect.signature(parallel).parameters
        synced = next(n for n in ("forward_sync_buffers", "broadcast_buffers") if n in known)
        # Which weights a loss depends on changes with what is drawn.
        options: dict[str, Any] = {synced: False}
        return parallel(loss, find_unused_parameters=True, **options)

    def told(self, make: Callable[[], T]) -> T:
        """See the base class; an error of the first process is one in all."""
        told: list[Any] = [None, None]
        if self.rank == 0:
            try:
                told[0] = make()
            except Exception as error:
                told[1] = error
        dist.broadcast_object_list(told)
        if told[1] is not None:
            raise told[1]
        return told[0]

    def summed(self, numbers: Tensor) -> Tensor:
        """See the base class."""
        dist.all_reduce(numbers)
        return numbers

    def even(self, terms: Terms, model: LearnedModel, batch: Batch) -> Terms:
        """See the base class."""
        shared = partial(model.unevenness, rank=self.rank, ranks=self.size, total=_Total.apply)
        return replace(terms, measure_unevenness=partial(shared, terms.states, batch.span))

    def joined(self, terms: Terms) -> Terms:
        """See the base class."""
        rows = {f.name: value for f in fields(terms) if _by_row(value := getattr(terms, f.name))}
        flat = [value.detach().flatten(1).double() for value in rows.values()]
        gathered = _gathered(torch.cat(flat, 1))
        parts = gathered.split([part.shape[1] for part in flat], 1)
        return replace(
            terms,
            **{
                name: part.unflatten(1, value.shape[1:]).to(value.dtype)
                for (name, value), part in zip(rows.items(), parts, strict=True)
            },
        )


class _Total(torch.autograd.Function):
    """The sum over all processes; backwards that of what each of them makes of it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """From this process's."""
        return _total(own)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """To this process's."""
        return _total(grads[0])


def _total(own: Tensor) -> Tensor:
    total = own.clone()
    dist.all_reduce(total)
    return total


def _gathered(rows: Tensor) -> Tensor:
    rows = rows.contiguous()
    out = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(out, rows)
    return torch.cat(out)


def _by_row(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 1


@contextmanager
def team(device: torch.device) -> Iterator[Team]:
    """Those that ``torchrun`` started together with this process; this one alone, if nobody did.

    Args:
        device: Where this one computes.

    Raises:
        WorkerError: Another of them has died.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Alone()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Joined()
    except (dist.DistError, RuntimeError) as error:
        if not _of_a_peer(error):
            raise
        name = f"process {dist.get_rank()} of {dist.get_world_size()}"
        raise WorkerError(
            f"{name}: another process has died, which torchrun names; start the same command "
            f"again and it goes on ({error})"
        ) from error
    finally:
        dist.destroy_process_group()


def _of_a_peer(error: Exception) -> bool:
    told = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in told or "connection" in told

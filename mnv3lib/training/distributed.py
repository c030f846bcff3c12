"""Distributed data-parallel training: the process group, its collective operations, and the device of each process.

The processes are started by ``torchrun``, which tells each its rank through environment variables; without them
there is one process and nothing to communicate. The backend is gloo on CPUs and NCCL on GPUs.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mnv3lib._checks import one_of
from mnv3lib.training.errors import TrainingError
from mnv3lib.training.launch import launched

__all__ = ["Processes", "choose_device", "process_group", "synchronise_batch_norm"]

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: number of this process, from 0; the first one writes the files.
        world: number of processes.
        device: where this process computes.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def all_reduce(self, values: Tensor) -> Tensor:
        """Add a tensor up over all processes, in place."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every process's ``value`` in the order of the ranks; any object that can be pickled."""
        values = [value] * self.world
        if self.world > 1:
            distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """The first process's ``value``; any object that can be pickled."""
        values = [value]
        if self.world > 1:
            distributed.broadcast_object_list(values, src=0)
        return values[0]

    def copy_first(self, module: nn.Module) -> None:
        """Overwrite a network's weights and statistics by the first process's."""
        if self.world > 1:
            for value in module.state_dict().values():
                distributed.broadcast(value, src=0)

    @contextmanager
    def one_after_first(self) -> Iterator[None]:
        """Run a block in the first process, then in the others: the first may have files to make.

        If the first fails, the others are told and fail too, instead of waiting.
        """
        if self.first:
            try:
                yield
            except BaseException:
                self.broadcast(False)
                raise
            self.broadcast(True)
        else:
            if not self.broadcast(None):
                raise TrainingError(f"process {self.rank}: the first process failed")
            yield

    def wrap(self, model: nn.Module) -> nn.Module:
        """Wrap a network so that its backward pass averages the gradients over the processes."""
        return DistributedDataParallel(model) if self.world > 1 else model

    @staticmethod
    def accumulating(wrapped: nn.Module) -> AbstractContextManager[None]:
        """Keep gradients to oneself: around all but the last backward pass of a step."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()


def choose_device(name: str = "auto") -> torch.device:
    """Return this process's device: ``"auto"`` is the GPU if there is one.

    Raises:
        ValueError: for another name, or ``"cuda"`` on a machine without a GPU that PyTorch can use.
    """
    one_of("device", name, DEVICES)
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise ValueError("device must be 'cpu' or 'auto' on a machine without a GPU that PyTorch can use, got 'cuda'")
    if name == "cpu" or not found:
        return torch.device("cpu")
    device = torch.device("cuda", launched().local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


@contextmanager
def process_group(device: torch.device, *, timeout: timedelta = timedelta(minutes=30)) -> Iterator[Processes]:
    """Set up communication with the other processes that ``torchrun`` started, and end it after the block.

    Without ``torchrun`` there is one process and nothing to set up.

    Args:
        device: from :func:`choose_device`.
        timeout: how long to wait for another process before giving up.

    Raises:
        ValueError: as in :func:`~mnv3lib.training.launch.launched`.
        TrainingError: if the processes do not find each other.
    """
    if launched().world == 1:
        yield Processes(device=device)
        return
    started_here = not distributed.is_initialized()
    if started_here:
        backend = "nccl" if device.type == "cuda" else "gloo"
        try:
            store, rank, world = next(distributed.rendezvous("env://", timeout=timeout))  # type: ignore[attr-defined]
            store = _fresh_store(store, rank, world, timeout)
            distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
        except TrainingError:
            raise
        except RuntimeError as error:
            place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            reason = str(error).partition("\n")[0]
            raise TrainingError(f"the processes do not find each other at {place}: {reason}") from error
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        if started_here:
            distributed.destroy_process_group()


def _fresh_store(store: Any, rank: int, world: int, timeout: timedelta) -> Any:
    """Agree on a prefix for the keys of a key-value store, so that nothing written by earlier processes is read.

    When torchrun starts processes again, its store still holds the addresses of those that died, and the new ones would
    wait for them in vain (pytorch/pytorch#135712). The prefix is a random number that process 0 draws. How the others
    learn it: each writes a random number of its own under ``number/RANK``; process 0 writes the prefix under
    ``answer/NUMBER``; whoever has read it confirms that under ``PREFIX/read/RANK``. Numbers that are left from earlier
    processes may be answered as well, but nobody reads those answers.
    """
    number = uuid.uuid4().hex
    if rank > 0:
        store.set(f"number/{rank}", number)
        prefix = store.get(f"answer/{number}").decode()  # waits until it is there
        store.set(f"{prefix}/read/{rank}", "")
        return distributed.PrefixStore(prefix, store)  # type: ignore[attr-defined]
    end, missing = time.monotonic() + timeout.total_seconds(), set(range(1, world))
    while missing:
        if time.monotonic() > end:
            raise TrainingError(f"processes {sorted(missing)} did not start within {timeout}")
        for other in list(missing):
            if store.check([f"number/{other}"]):
                store.set(f"answer/{store.get(f'number/{other}').decode()}", number)
            if store.check([f"{number}/read/{other}"]):
                missing.discard(other)
        time.sleep(0.01)
    return distributed.PrefixStore(number, store)  # type: ignore[attr-defined]


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Take batch norm's statistics over all processes; run before :meth:`Processes.wrap`.

    Raises:
        ValueError: on CPUs, where PyTorch's SyncBatchNorm does not run.
    """
    if device.type != "cuda":
        raise ValueError(
            "sync_batch_norm must be False on a CPU, where PyTorch's SyncBatchNorm does not run, got True; "
            'accumulate does not replace it, model.freeze="norm" (fixed statistics) does'
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]

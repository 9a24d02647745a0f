"""Processes that train together, as torchrun starts them."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Workers:
    """The processes that train together, and which of them this one is.

    Args:
        rank: the number of this one; 0 writes and tells.
        count: how many.
        device: where this one computes.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def any(self, said: bool) -> bool:
        """Tell whether any of them says so; all come to the same answer.

        Args:
            said: what this one says.

        Returns:
            Whether any does.
        """
        if self.count == 1:
            return said
        flag = torch.tensor(said, dtype=torch.int32)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return bool(flag)

    def added(self, values: Tensor) -> Tensor:
        """Add what each of them has.

        Args:
            values: a tensor of the same shape everywhere.

        Returns:
            The sum.
        """
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values


@contextmanager
def workers(device: str) -> Iterator[Workers]:
    """Join the processes that torchrun started; without torchrun there is one.

    Args:
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        A context that gives the processes.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Workers(device=torch.device(device))
        return
    place = torch.device(device, int(os.environ["LOCAL_RANK"])) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    # What one process says to the others on the CPU must not wait for the GPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield Workers(distributed.get_rank(), distributed.get_world_size(), place)
    finally:
        # Were DistributedDataParallel the last that knows the group, it would wait for the group's threads to end while
        # it holds the interpreter's lock, for which they may be waiting.
        gc.collect()
        distributed.destroy_process_group()

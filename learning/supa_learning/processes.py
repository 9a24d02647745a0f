"""Processes that train together, as torchrun starts them."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """The processes that train together.

    Args:
        rank: rank of this process; rank 0 writes files and prints.
        count: number of processes.
        device: device of this process.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def any(self, value: bool) -> bool:
        """Return whether a value is True in any process; the result is the same in all of them.

        Args:
            value: the value in this process.

        Returns:
            Whether it is True in any.
        """
        if self.count == 1:
            return value
        flag = torch.tensor(value, dtype=torch.int32)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return bool(flag)

    def sum(self, values: Tensor) -> Tensor:
        """Add a tensor over all processes.

        Args:
            values: a tensor of the same shape in each process.

        Returns:
            The sum.
        """
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values


@contextmanager
def torchrun_processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun there is one.

    Args:
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        A context that gives the processes.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Processes(device=torch.device(device))
        return
    own = torch.device(device, int(os.environ["LOCAL_RANK"])) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(own)
    # Flags are reduced on the CPU, without a synchronisation of the GPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), own)
    finally:
        # If DistributedDataParallel held the last reference to the group, its finaliser would wait for the group's
        # threads while it holds the interpreter lock, which these threads may be waiting for.
        gc.collect()
        distributed.destroy_process_group()


def choose_device(name: str) -> str:
    """Return the kind of device that a name stands for.

    Args:
        name: ``"auto"`` (a GPU if there is one), ``"cpu"`` or ``"cuda"``.

    Returns:
        ``"cpu"`` or ``"cuda"``.

    Raises:
        ValueError: ``"cuda"`` was given, but there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("The device cuda was given, but PyTorch finds no CUDA device; use cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"

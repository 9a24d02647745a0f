"""Groups of processes that train together, and devices."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """The group of processes that train one model together.

    Args:
        rank: Rank of this process. Rank 0 writes files and prints.
        count: Number of processes.
        device: Device of this process, by default the CPU.

    Example:
        >>> import torch
        >>> from supa_learning import Processes
        >>> processes = Processes()  # a single process
        >>> processes.any(True), processes.sum(torch.tensor([1.0, 2.0]))
        (True, tensor([1., 2.]))
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def any(self, value: bool) -> bool:
        """Return whether a value is True in any process. All processes get the same result.

        Args:
            value: Value of this process.

        Returns:
            True if the value is True in at least one process.
        """
        if self.count == 1:
            return value
        flag = torch.tensor(value, dtype=torch.int32)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return bool(flag)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes.

        Args:
            values: Tensor with the same shape and dtype in each process.

        Returns:
            Tensor of the same shape and dtype.
        """
        if self.count > 1:
            values = values.clone()
            self.sum_(values)
        return values

    def sum_(self, values: Tensor) -> None:
        """Replace a tensor by its sum over all processes.

        Args:
            values: Contiguous tensor with the same shape and dtype in each process, which is changed.
        """
        if self.count > 1:
            distributed.all_reduce(values)

    def broadcast_(self, values: Tensor) -> None:
        """Replace a tensor by that of process 0.

        Args:
            values: Contiguous tensor with the same shape and dtype in each process, which is changed.
        """
        if self.count > 1:
            distributed.broadcast(values, 0)


@contextmanager
def torchrun_processes(device: str) -> Iterator[Processes]:
    """Join the group of processes that torchrun started. Without torchrun, the group is this process alone.

    Args:
        device: Kind of device, ``"cpu"`` or ``"cuda"``. With ``"cuda"`` each process uses the GPU of its local rank.

    Returns:
        Context manager that returns the `Processes` and leaves the group at its end.

    Example:
        >>> from supa_learning import torchrun_processes
        >>> with torchrun_processes("cpu") as processes:  # without torchrun
        ...     processes.rank, processes.count
        (0, 1)
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
        # If a module of DistributedDataParallel owned the last reference to the group, its finaliser would wait for the
        # threads of the group while it holds the interpreter lock, which these threads may need.
        gc.collect()
        distributed.destroy_process_group()


def choose_device(name: str) -> str:
    """Return the kind of device for a name.

    Args:
        name: ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU if there is one and the CPU otherwise.

    Returns:
        ``"cpu"`` or ``"cuda"``.

    Raises:
        ValueError: If the name is ``"cuda"``, but PyTorch finds no GPU.

    Example:
        >>> from supa_learning import choose_device
        >>> choose_device("cpu")
        'cpu'
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("The device cuda was given, but PyTorch finds no CUDA device; use cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"

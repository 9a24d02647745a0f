"""Which path an operation takes: Triton kernels for tensors on a GPU, plain PyTorch for tensors on a CPU."""

import importlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def on_gpu(x: Tensor) -> bool:
    """Return whether the Triton kernels run.

    Args:
        x: An input of the operation.

    Returns:
        Whether it is on a CUDA device.
    """
    return x.is_cuda


def through_operator(x: Tensor) -> bool:
    """Return whether an operation calls its custom operator; otherwise autograd records the plain path.

    Args:
        x: An input of the operation.

    Returns:
        True on a GPU and in compiled programs.
    """
    return on_gpu(x) or torch.compiler.is_compiling()


def device_of(x: Tensor) -> AbstractContextManager[Any]:
    """Make the device of a tensor the current one, on which kernels start.

    Args:
        x: An input of the operation.

    Returns:
        A context manager, which does nothing for a tensor on a CPU.
    """
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def path(x: Tensor, package: str) -> Any:
    """Import the module that runs an operation; Triton is imported on this path only.

    Args:
        x: An input of the operation.
        package: The package of the operation, with the modules ``launch`` and ``cpu``.

    Returns:
        The module.

    Raises:
        ImportError: Triton is needed but not installed.
    """
    if not on_gpu(x):
        return importlib.import_module(f"{package}.cpu")
    try:
        return importlib.import_module(f"{package}.launch")
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ImportError("On a GPU supa_mamba needs Triton: pip install 'supa-showers[gpu]'.") from None

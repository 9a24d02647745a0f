"""Selection of the backend: Triton kernels on a GPU, compiled loops or plain PyTorch on a CPU."""

import importlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

_SHARED_MEMORY = {(8, 0): 163, (8, 7): 163, (9, 0): 227, (10, 0): 227, (10, 3): 227}
_LEAST_SHARED_MEMORY = 99
"""Kilobytes of shared memory that a program can have, by compute capability; on other GPUs since Ampere the least.

Source: CUDA C++ programming guide, technical specifications per compute capability."""


def is_cuda(x: Tensor) -> bool:
    """Return whether an operation uses the Triton kernels.

    Args:
        x: An input of the operation.

    Returns:
        Whether the input is on a CUDA device.
    """
    return x.is_cuda


def use_custom_op(x: Tensor) -> bool:
    """Return whether an operation calls its custom operator, which compiled programs and torch.export need.

    Args:
        x: An input of the operation.

    Returns:
        True on a GPU and in compiled programs.
    """
    return is_cuda(x) or torch.compiler.is_compiling()


def device_guard(x: Tensor) -> AbstractContextManager[Any]:
    """Make the device of a tensor the current CUDA device, on which kernels are launched.

    Args:
        x: An input of the operation.

    Returns:
        A context manager that does nothing for a tensor on a CPU.
    """
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def shared_memory() -> int:
    """Return the shared memory that a program of a kernel can have on the current CUDA device.

    Returns:
        Kilobytes, by compute capability of NVIDIA GPUs since Ampere; the least of them on all other devices.
    """
    if not torch.cuda.is_available() or torch.version.hip:  # AMD numbers its capabilities differently
        return _LEAST_SHARED_MEMORY
    return _SHARED_MEMORY.get(torch.cuda.get_device_capability(), _LEAST_SHARED_MEMORY)


def load_backend(x: Tensor, package: str, *, compiled: bool = False) -> Any:
    """Import the module that runs an operation. Triton is imported only if it is needed.

    Args:
        x: An input of the operation.
        package: Package of the operation, with the modules ``launch`` and ``cpu``.
        compiled: Whether to use its module ``compiled`` on a CPU instead of ``cpu``.

    Returns:
        The module.

    Raises:
        ImportError: If Triton is required but not installed.
    """
    if not is_cuda(x):
        return importlib.import_module(f"{package}.{'compiled' if compiled else 'cpu'}")
    try:
        return importlib.import_module(f"{package}.launch")
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ImportError("On a GPU supa_mamba needs Triton: pip install 'supa-showers[gpu]'.") from None

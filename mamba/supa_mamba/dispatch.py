"""Which path an operation takes: Triton kernels for tensors on a GPU, plain PyTorch for those on a processor."""

import importlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def on_gpu(x: Tensor) -> bool:
    """Tell whether the kernels are to run.

    Args:
        x: an input of the operation.

    Returns:
        Whether it lies on a CUDA device.
    """
    return x.is_cuda


def through_operator(x: Tensor) -> bool:
    """Tell whether an operation goes through its custom operator, or autograd records the plain path.

    Args:
        x: an input of the operation.

    Returns:
        True on a GPU and in compiled programs.
    """
    return on_gpu(x) or torch.compiler.is_compiling()


def device_of(x: Tensor) -> AbstractContextManager[Any]:
    """Make the device of a tensor the current one, where kernels start.

    Args:
        x: an input of the operation.

    Returns:
        A context, which does nothing for a tensor on a processor.
    """
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def path(x: Tensor, package: str) -> Any:
    """Load what runs an operation; Triton is imported only where it is used.

    Args:
        x: an input of the operation.
        package: the package of the operation, with the modules ``launch`` and ``cpu``.

    Returns:
        The module.

    Raises:
        ImportError: Triton is needed, but not installed.
    """
    if not on_gpu(x):
        return importlib.import_module(f"{package}.cpu")
    try:
        return importlib.import_module(f"{package}.launch")
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ImportError("On a GPU supa_mamba needs Triton: pip install 'supa-showers[gpu]'.") from None

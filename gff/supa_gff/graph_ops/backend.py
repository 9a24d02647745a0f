"""Selection of the backend: Triton kernels on a GPU, operations of PyTorch elsewhere."""

import functools
import importlib.metadata
import os
import shutil
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

_LOWEST_TRITON = (3, 3)
_LOWEST_CAPABILITY = (7, 0)
"""Lowest compute capability for which Triton's relaxed atomic additions compile."""


def uses_kernels(x: Tensor) -> bool:
    """Return whether Triton kernels process a tensor.

    Operations of PyTorch do it in programs that are compiled, exported, traced or transformed by ``torch.func``, and if
    deterministic algorithms are requested: the kernels add in random order.

    Args:
        x: The tensor.

    Returns:
        True on a CUDA device for which Triton can compile kernels.
    """
    return (
        x.is_cuda
        and type(x) in (Tensor, Parameter)  # others, such as fake tensors, have no values
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and torch._C._get_tracing_state() is None
        and not torch.are_deterministic_algorithms_enabled()
        and torch.cuda.get_device_capability(x.device) >= _LOWEST_CAPABILITY
        and triton_compiles()
    )


@functools.cache
def triton_compiles() -> bool:
    """Return whether Triton can compile kernels: whether it is installed, recent, and has the C compiler it needs.

    Returns:
        False if operations of PyTorch are needed on a GPU, too.
    """
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return False
    has_compiler = "CC" in os.environ or any(map(shutil.which, ("gcc", "clang")))
    return has_compiler and tuple(map(int, version.split(".")[:2])) >= _LOWEST_TRITON


def device_guard(x: Tensor) -> AbstractContextManager[Any]:
    """Make the device of a tensor the one on which kernels are launched.

    Args:
        x: The tensor.

    Returns:
        A context manager that does nothing for a tensor on a CPU.
    """
    return torch.cuda.device_of(x)  # type: ignore[no-untyped-call]

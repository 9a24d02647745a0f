"""Selection of the backend: Triton kernels on a GPU, operations of PyTorch elsewhere."""

from importlib.util import find_spec

from torch import Tensor

_HAS_TRITON = find_spec("triton") is not None


def uses_kernels(x: Tensor) -> bool:
    """Return whether Triton kernels process a tensor.

    Args:
        x: The tensor.

    Returns:
        True on a CUDA device if Triton is installed.
    """
    return x.is_cuda and _HAS_TRITON

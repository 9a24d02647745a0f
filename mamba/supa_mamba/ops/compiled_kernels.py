"""Loops over channels that several compiled kernels share.

Each loop is a stage of its own: LLVM vectorises it there, but often not inside a larger kernel. The number of channels
is that of the array which is written.
"""

from typing import Any

from supa.compiler import fast_stage
from supa_mamba.ops.compiled_math import sigmoid


@fast_stage
def add(values: Any, sums: Any) -> None:
    """Add values to sums."""
    for d in range(len(sums)):
        sums[d] += values[d]


@fast_stage
def multiply(a: Any, b: Any, products: Any) -> None:
    """Write the products of two arrays."""
    for d in range(len(products)):
        products[d] = a[d] * b[d]


@fast_stage
def add_product(a: Any, b: Any, sums: Any) -> None:
    """Add the products of two arrays to sums."""
    for d in range(len(sums)):
        sums[d] += a[d] * b[d]


@fast_stage
def gate(z: Any, y: Any) -> None:
    """Multiply values by SiLU of a gate."""
    for d in range(len(y)):
        y[d] *= z[d] * sigmoid(z[d])


@fast_stage
def differentiate_silu(y: Any, grad: Any) -> None:
    """Multiply gradients by the derivative of SiLU."""
    one = y.dtype.type(1)  # Numba would convert the result of a float32 and an integer to float64
    for d in range(len(y)):
        opened = sigmoid(y[d])
        grad[d] *= opened * (one + y[d] * (one - opened))

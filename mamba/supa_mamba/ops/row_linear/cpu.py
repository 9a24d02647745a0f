"""Linear layer of a step on a CPU, in a compiled loop."""

from typing import Any

from torch import Tensor

from supa_mamba.ops.compiled import array_of, run_rows
from supa_mamba.ops.row_linear import compiled_kernels


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None, use_silu: bool) -> Tensor:
    """Multiply rows by a matrix, add a bias, and apply an activation."""
    y = weight.new_empty(x.shape[0], weight.shape[0])
    shift = weight.new_zeros(weight.shape[0]) if bias is None else bias
    given: list[Any] = [array_of(tensor, weight, ()) for tensor in (x, weight, shift)]
    of_y = y.numpy()

    def run(first: int, last: int) -> None:
        arguments: list[Any] = [*given, use_silu, first, last, of_y]
        compiled_kernels.multiply_rows(*arguments)

    run_rows(run, x.shape[0], weight.numel())
    return y

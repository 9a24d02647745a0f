"""Single steps of causal attention on a CPU, whose result for a row does not depend on the other rows."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from supa_mamba.ops.attention_step.compiled_kernels import take_steps
from supa_mamba.ops.compiled import array_of, run_rows
from supa_mamba.ops.transforms import needs_plain_code


def runs_compiled(qkv: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Return whether `attention_step` supports a step.

    Args:
        qkv: (M, 3, H, D) queries, keys and values.
        keys: (R, L, H, D) stored keys.
        values: (R, L, H, D) stored values.

    Returns:
        True on a CPU in single or double precision, unless a program is recorded.
    """
    supported = qkv.device.type == "cpu" and qkv.dtype in (torch.float32, torch.float64)
    stored = all(x.dtype == qkv.dtype and x.is_contiguous() for x in (keys, values))
    return supported and stored and not torch.compiler.is_compiling() and not needs_plain_code(qkv, keys, values)


def attention_step(
    qkv: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, slots: Tensor, *, rates: Tensor
) -> Tensor:
    """Attend from one more row of each of M sequences to all rows of the sequence.

    Only the stored rows of a sequence are read. The bits of a row do not depend on the other rows.

    Args:
        qkv: (M, 3, H, D) queries, keys and values of the new rows.
        keys: (R, L, H, D) stored keys, modified in place.
        values: (R, L, H, D) stored values, modified in place.
        lengths: (R,) int64 numbers of stored rows, less than L, modified in place.
        slots: (M,) int64 slot of each sequence, without duplicates. Negative for a finished sequence.
        rates: (P,) float64 angles by position of the rotary embedding; none for no rotation.

    Returns:
        (M, H, D) result.
    """
    count, _, heads, width = qkv.shape
    y = qkv.new_empty(count, heads, width)
    given: list[Any] = [np.array(array_of(qkv, qkv, ())), *(x.numpy() for x in (keys, values, lengths, rates, slots))]
    of_y = y.numpy()

    def run(first: int, last: int) -> None:
        arguments: list[Any] = [*given, first, last, of_y]
        take_steps(*arguments)

    run_rows(run, count, heads * width * max(1, int(lengths.max()) if len(lengths) else 1))
    return y

"""Steps of causal attention on a CPU, in a compiled loop."""

from typing import Any

import numpy as np
from torch import Tensor

from supa_mamba.ops.attention_step.compiled_kernels import take_steps
from supa_mamba.ops.compiled import array_of, run_rows


def step(qkv: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, slots: Tensor, rates: Tensor) -> Tensor:
    """Store keys and values in place, increase the lengths, and return y."""
    count, _, heads, width = qkv.shape
    y = qkv.new_empty(count, heads, width)
    given: list[Any] = [np.array(array_of(qkv, qkv, ())), *(x.numpy() for x in (keys, values, lengths, rates, slots))]
    of_y = y.numpy()

    def run(first: int, last: int) -> None:
        arguments: list[Any] = [*given, first, last, of_y]
        take_steps(*arguments)

    run_rows(run, count, heads * width * max(1, int(lengths.max()) if len(lengths) else 1))
    return y

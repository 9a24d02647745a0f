"""Steps of the causal convolution on a CPU in compiled loops."""

from typing import Any

import torch
from torch import Tensor

from supa_mamba.ops.causal_conv1d_update.compiled_kernels import take_steps
from supa_mamba.ops.causal_conv1d_update.inputs import ConvStepInputs
from supa_mamba.ops.compiled import array_of, run_rows
from supa_mamba.ops.state_slots import active_accepted, active_slots


def step(given: ConvStepInputs) -> Tensor:
    """Update the states in place and return y, of the shape of ``x``.

    Raises:
        ValueError: If a slot does not exist, or a number of accepted inputs or of earlier steps is out of range.
    """
    state, cache, x, weight, bias, accepted, begins, slots, use_silu = given
    live, places = active_slots("conv_state_indices", slots, state)
    if begins is not None:
        _check_begins(begins, live)
    if cache is None and state.dtype == weight.dtype and state.is_contiguous():
        return _run(given, slots)
    # The loops work on copies of the states and inputs of unfinished sequences.
    held = state.index_select(0, places).to(weight.dtype, memory_format=torch.contiguous_format)
    new = x.index_select(0, live)
    taken = None if accepted is None else active_accepted(accepted, live, x.shape[1])
    cached = None if cache is None else cache.index_select(0, places)
    begin = None if begins is None else begins.index_select(0, live)
    copied = ConvStepInputs(held, cached, new, weight, bias, taken, begin, slots, use_silu)
    y = _run(copied, torch.arange(len(live)))
    state.index_copy_(0, places, held.to(state.dtype))
    if cache is not None:
        cache.index_copy_(0, places, new.to(cache.dtype))
    return y.new_zeros(x.shape).index_copy_(0, live, y)


def _run(given: ConvStepInputs, slots: Tensor) -> Tensor:
    """Update contiguous states in the precision of the sums, and return y."""
    state, cache, x, weight, bias, accepted, begins, _, use_silu = given
    y = weight.new_empty(x.shape)
    inputs: list[Any] = [
        state.numpy(),
        array_of(cache, weight, (0, *x.shape[1:])),
        array_of(x, weight, ()),
        array_of(weight.t(), weight, ()),
        array_of(weight.new_zeros(len(weight)) if bias is None else bias, weight, ()),
        array_of(accepted, slots, (0,)),
        array_of(begins, slots, (0,)),
        slots.numpy(),
        use_silu,
    ]
    of_y = y.numpy()

    def run(first: int, last: int) -> None:
        arguments: list[Any] = [*inputs, first, last, of_y]
        take_steps(*arguments)

    run_rows(run, len(x), x.shape[1] * weight.numel())
    return y.to(x.dtype)


def _check_begins(begins: Tensor, live: Tensor) -> None:
    before = begins.numpy()[live.numpy()]
    if len(before) and before.min() < 0:
        raise ValueError(
            f"cache_seqlens: {before.min()} was given, but it must be at least 0, the number of earlier steps."
        )

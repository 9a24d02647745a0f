"""Steps on a CPU in compiled loops."""

from typing import Any

import torch
from torch import Tensor

from supa_mamba.ops.compiled import array_of, run_rows
from supa_mamba.ops.selective_state_update.compiled_kernels import take_steps
from supa_mamba.ops.selective_state_update.inputs import StateStepInputs
from supa_mamba.ops.state_slots import active_accepted, active_slots


def step(given: StateStepInputs) -> Tensor:
    """Update the states in place and return y, of the shape of ``x``.

    Raises:
        ValueError: If a slot does not exist, or a number of accepted inputs is out of range.
    """
    state, dtype, slots = given.state, given.A.dtype, given.slots
    live, places = active_slots("state_batch_indices", slots, state)
    caches = given.cache_x, given.cache_dt, given.cache_B
    if given.accepted is None and state.dtype == dtype and state.is_contiguous():
        return _run(given, slots)
    # The loops work on copies of the states and inputs of unfinished sequences.
    held = state.index_select(0, places).to(dtype, memory_format=torch.contiguous_format)
    of_caches = [None if v is None else v.index_select(0, places) for v in caches]
    x, dt, B, C = (v.index_select(0, live) for v in (given.x, given.dt, given.B, given.C))
    copied = given._replace(
        state=held,
        cache_x=of_caches[0],
        cache_dt=of_caches[1],
        cache_B=of_caches[2],
        x=x,
        dt=dt,
        B=B,
        C=C,
        z=None if given.z is None else given.z.index_select(0, live),
        accepted=None if given.accepted is None else active_accepted(given.accepted, live, x.shape[1]),
    )
    y = _run(copied, torch.arange(len(live)))
    state.index_copy_(0, places, held.to(state.dtype))
    for cache, new in zip(caches, (x, dt, B), strict=True):
        if cache is not None:
            cache.index_copy_(0, places, new.to(cache.dtype))
    return y.new_zeros(given.x.shape).index_copy_(0, live, y)


def _run(given: StateStepInputs, slots: Tensor) -> Tensor:
    """Update contiguous states in the precision of the sums, and return y."""
    state, cache_x, cache_dt, cache_B, x, dt, A, B, C, D, z, dt_bias, accepted, _, dt_softplus = given
    count, inputs, heads, width = x.shape
    groups, states = B.shape[2:]
    channels = heads * width
    y = A.new_empty(count, inputs, channels)

    def flat(v: Tensor | None, *missing: int) -> Any:
        # The last dimensions are heads and channels of a head.
        return array_of(None if v is None else v.flatten(-2), A, missing)

    tensors: list[Any] = [
        state.view(-1, channels, states).numpy(),
        flat(cache_x, 0, inputs, channels),
        flat(cache_dt, 0, inputs, 1),
        array_of(cache_B, A, (0, inputs, groups, states)),
        flat(x),
        flat(dt),
        array_of(A.flatten(0, 1), A, ()),
        array_of(B, A, ()),
        array_of(C, A, ()),
        flat(D, 0),
        flat(z, 0, inputs, channels),
        flat(dt_bias, 0),
        array_of(accepted, slots, (0,)),
        slots.numpy(),
        dt_softplus,
    ]
    of_y = y.numpy()

    def run(first: int, last: int) -> None:
        arguments: list[Any] = [*tensors, first, last, of_y]
        take_steps(*arguments)

    run_rows(run, count, inputs * channels * states)
    return y.view(x.shape).to(x.dtype)

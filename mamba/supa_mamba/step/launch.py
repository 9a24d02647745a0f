"""Start the Triton kernels of steps. Nothing here waits for the device."""

import torch
from torch import Tensor

from supa_mamba.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride
from supa_mamba.step import kernels


def step(
    state: Tensor,
    cache_x: Tensor | None,
    cache_delta: Tensor | None,
    cache_B: Tensor | None,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    accepted: Tensor | None,
    rows: Tensor,
    delta_softplus: bool,
) -> Tensor:
    """Walk over the inputs of rows in place.

    Without caches the states move past all K inputs; with them they move past the accepted cached ones, and the K
    inputs are cached. Mamba-1 has E = D heads of one channel and G = 1 group; Mamba-2 has E = H heads, D = H P.

    Args:
        state: (R, D, N), changed in place.
        cache_x: (R, K, D), changed in place as all caches.
        cache_delta: (R, K, E).
        cache_B: (R, K, G N).
        x: (M, K, D).
        delta: (M, K, E).
        A: (E, N), or (E, 1) where all states of a head decay alike; as D and delta_bias in the precision of the states.
        B: (M, K, G N).
        C: (M, K, G N).
        D: (E,).
        z: (M, K, D).
        delta_bias: (E,).
        accepted: (M,) int64, with caches.
        rows: (M,) int64.
        delta_softplus: whether steps are softplus of what was given.

    Returns:
        y (M, K, D).
    """
    (count, inputs, channels), states, heads = x.shape, state.shape[2], len(A)
    groups = B.shape[2] // states
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not count:
        return y
    x, delta, B, C = (_flat(v) for v in (x, delta, B, C))
    z = None if z is None else _flat(z)
    padded = power_of_two(states)
    one_decay = A.shape[1] < states
    block = _block(padded, one_decay=one_decay)
    kernels.step_kernel[(count * groups * -(-channels // groups // block),)](
        state, cache_x, cache_delta, cache_B, x, delta, A.contiguous(), B, C, contiguous(D), z,
        contiguous(delta_bias), contiguous(accepted), rows, y,
        x.stride(0), delta.stride(0), B.stride(0), C.stride(0), 0 if z is None else z.stride(0),
        inputs, groups, channels // groups, channels // heads, states,
        SOFTPLUS=delta_softplus, ONE_DECAY=one_decay, BLOCK=block, STATES=padded, DTYPE=triton_dtype(state),
        num_warps=1,
    )  # fmt: skip
    for cache, new in ((cache_delta, delta), (cache_B, B)):
        if cache is not None:
            values = new.shape[1]
            block = min(1024, power_of_two(values))
            kernels.cache_kernel[(len(new) * -(-values // block),)](
                cache, new, rows, new.stride(0), inputs, values, BLOCK=block, num_warps=1
            )
    return y


def _flat(x: Tensor) -> Tensor:
    return with_unit_stride(x.reshape(-1, x.shape[2]))


def _block(states: int, *, one_decay: bool) -> int:
    # As many states as 16 registers of a warp's lanes hold, or 32 where no matrix of decays stands beside them. Compute
    # capability 9.0 then takes 64 to 130 registers in all, and nothing spills but 256 states in double precision.
    return max(8, min(128, (1024 if one_decay else 512) // states))

"""Public function for steps of Mamba-2 with a buffer of inputs."""

import torch
from torch import Tensor

from supa_mamba.ops.buffered_state_update.buffer import LONGEST, MOST_INPUTS, InputBuffer
from supa_mamba.ops.buffered_state_update.operator import buffered_step
from supa_mamba.ops.selective_state_update.inputs import StepTensors, canonicalize, check_step_inputs
from supa_mamba.ops.state_slots import check_cached, check_no_gradients, check_state, normalize_slots


def buffered_state_update(
    state: Tensor,
    buffer: InputBuffer,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    *,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """Take K steps of Mamba-2 for M sequences, and write their states only when the buffer of inputs is full.

    y is the same as that of `selective_state_update`, up to rounding. A GPU spends most of the time of a step on
    reading and writing the state. Here the new inputs are appended to a buffer, and y is computed from the state h
    before the buffered inputs, with S_j = Delta_1 + ... + Delta_j::

        y_t = exp(A S_t) <C_t, h> + sum_j exp(A (S_t - S_j)) Delta_j <C_t, B_j> x_j + D x_t

    If the K inputs do not fit into the buffer of a sequence, its state first advances past all buffered inputs, and the
    buffer then contains the K new inputs only. Sequences may have different numbers of buffered inputs, and the lengths
    stay on the device, so a CUDA graph can capture the call.

    The inputs of the latest call are always in the buffer. In speculative decoding, rejected inputs are therefore
    removed by a subtraction from ``buffer.lengths``.

    Slots and precision are the same as in `selective_state_update`. The function has no gradients.

    Args:
        state: (R, H, P, N) state table; float16, bfloat16, float32 or float64, with any strides. Modified in place.
        buffer: Buffer of L inputs for each of the R slots, L >= K, contiguous. Modified in place.
        x: (M, H, P) input, or (M, K, H, P) inputs of K steps, K <= 8; float16, bfloat16, float32 or float64, like all
            other tensors.
        dt: (M, H) or (M, K, H) step sizes before bias and softplus.
        A: (H,) decay rates, usually negative.
        B: (M, N) or (M, G, N) input matrix; (M, K, N) or (M, K, G, N) for K steps.
        C: Output matrix, of the shape of ``B``.
        D: (H,) skip weights; no skip connection by default.
        z: Gate, of the shape of ``x``; no gate by default.
        dt_bias: (H,) bias of the step sizes; none by default.
        dt_softplus: Whether to apply softplus to ``dt + dt_bias``.
        state_batch_indices: (M,) integers, the slot of each sequence, without duplicates; 0 to M - 1 by default. A
            negative slot marks a finished sequence, which is skipped. The values are checked on a CPU only; on a GPU,
            a slot beyond the table accesses memory out of bounds.

    Returns:
        y, of the shape and the dtype of ``x``; zeros for finished sequences.

    Raises:
        ValueError: If shapes, dtypes or devices do not match, or gradients are required.

    Example:
        >>> import torch
        >>> from supa_mamba import InputBuffer, buffered_state_update
        >>> states, A = torch.zeros(6, 4, 16, 8), -torch.rand(4)  # (R, H, P, N), (H,)
        >>> buffer = InputBuffer.empty(states, 8)
        >>> slots = torch.tensor([5, 0])  # two sequences in a table with 6 slots
        >>> for _ in range(3):
        ...     x, dt, B, C = torch.randn(2, 4, 16), torch.randn(2, 4), torch.randn(2, 8), torch.randn(2, 8)
        ...     y = buffered_state_update(states, buffer, x, dt, A, B, C, dt_softplus=True, state_batch_indices=slots)
        >>> y.shape
        torch.Size([2, 4, 16])
        >>> buffer.lengths[5] -= 1  # discard the last input of the first sequence
        >>> buffer.lengths
        tensor([3, 0, 0, 0, 0, 2])

    Source:
        Mamba-2 (arXiv 2405.21060), section 6, for the sum over the buffered inputs; The Mamba in the Llama
        (arXiv 2408.15237), section 4, for the cache of inputs.
    """
    if not isinstance(buffer, InputBuffer):
        raise ValueError(f"buffer: a {type(buffer).__name__} was given, but it must be an InputBuffer.")
    check_state("state", state, (4,), "(R, H, P, N)")
    several = x.ndim == 4
    check_step_inputs(StepTensors(state, x, dt, A, B, C, D, z, dt_bias), "M, K" if several else "M")
    check_no_gradients("buffered_state_update", "ssd", state, x, dt, A, B, C, D, z, dt_bias)
    if not several:
        x, dt, B, C, z = x[:, None], dt[:, None], B[:, None], C[:, None], None if z is None else z[:, None]
    form = canonicalize(StepTensors(state, x, dt, A, B, C, D, z, dt_bias))
    dt, A = _of_heads("dt", form.dt, 3), _of_heads("A", form.A, 1)
    D, dt_bias = (
        None if v is None else _of_heads(name, v, 1) for name, v in (("D", form.D), ("dt_bias", form.dt_bias))
    )
    slots = normalize_slots("state_batch_indices", state_batch_indices, x, state)
    _check_buffer(buffer, state, x, dt, form.B)
    y: Tensor = buffered_step(
        state, buffer.x, buffer.dt, buffer.B, buffer.lengths, x, dt, A, form.B, form.C, D, z, dt_bias, slots,
        dt_softplus,
    )  # fmt: skip
    return y if several else y[:, 0]


def _of_heads(name: str, v: Tensor, dims: int) -> Tensor:
    """Return entries of heads without the dimensions after the first ``dims``, which must have length 1."""
    if any(size != 1 for size in v.shape[dims:]):
        raise ValueError(
            f"{name}: one entry per channel was given, but it must have one per head; use selective_state_update."
        )
    return v.flatten(dims - 1)


def _check_buffer(buffer: InputBuffer, state: Tensor, x: Tensor, dt: Tensor, B: Tensor) -> None:
    slots, length = state.shape[0], buffer.x.shape[1] if buffer.x.ndim > 1 else 0
    for name, cached, new in (("x", buffer.x, x), ("dt", buffer.dt, dt), ("B", buffer.B, B)):
        check_cached(f"buffer.{name}", cached, (slots, length, *new.shape[2:]), new, f"(R, L, ...) as {name}")
    if x.shape[1] > MOST_INPUTS:
        raise ValueError(f"x: {x.shape[1]} inputs were given, but a call takes at most {MOST_INPUTS}; divide them.")
    if not x.shape[1] <= length <= LONGEST:
        raise ValueError(
            f"buffer: it can store {length} inputs per slot, but it must be at least the {x.shape[1]} inputs of a "
            f"call, and at most {LONGEST}."
        )
    lengths = buffer.lengths
    right = lengths.shape == (slots,) and lengths.dtype == torch.int64 and lengths.device == x.device
    if not right or not lengths.is_contiguous():
        raise ValueError(
            f"buffer.lengths: shape {tuple(lengths.shape)}, {lengths.dtype} on {lengths.device} was given, but it must "
            f"be (R,) = ({slots},) torch.int64, contiguous, on {x.device}."
        )

"""Launch of the Triton kernels of the recurrence of Mamba-2, without host-device synchronisation."""

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride
from supa_mamba.ops.ssd import block_sizes
from supa_mamba.ops.ssd.inputs import SsdInputs, SsdOptions
from supa_mamba.ops.ssd.kernels.pairs import pairs_kernel
from supa_mamba.ops.ssd.kernels.steps import step_gradients_kernel, steps_kernel
from supa_mamba.ops.ssd.kernels.walk import walk_kernel

HEAD_LANES = 8
"""Number of heads per program of the kernels for step sizes."""


class RowGradients(NamedTuple):
    """Tensors for the gradients of the inputs with a value for each row. The values of a row are contiguous.

    Args:
        x: (T, H * P) gradient of x.
        dt: (T, H) gradient of dt.
        B: (T, G * N) gradient of B.
        C: (T, G * N) gradient of C, with the strides of ``B``.
    """

    x: Tensor
    dt: Tensor
    B: Tensor
    C: Tensor


def _numbers(A: Tensor, operand: torch.dtype, precision: str) -> dict[str, Any]:
    rounded = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32, torch.float64: tl.float64}[operand]
    # The interpreter would multiply the bits of bfloat16 operands as integers.
    interpreted = not isinstance(pairs_kernel, triton.runtime.JITFunction)
    multiplied = tl.float32 if interpreted and rounded == tl.bfloat16 else rounded
    return {"DTYPE": triton_dtype(A), "ROUND": rounded, "OPERAND": multiplied, "PRECISION": precision}


def _step_options(options: SsdOptions) -> dict[str, Any]:
    reverse, dt_softplus, dt_min, dt_max = options
    # Softplus is positive, so limits without an effect are omitted from the kernels.
    limited = dt_min > (0.0 if dt_softplus else -math.inf) or dt_max < math.inf
    return {"REVERSE": reverse, "SOFTPLUS": dt_softplus, "LIMITED": limited, "DT_MIN": dt_min, "DT_MAX": dt_max}


def _steps(inputs: SsdInputs, options: SsdOptions, chunk: int) -> tuple[Tensor, Tensor]:
    """Compute the step sizes, and the cumulative sums of Delta A / log 2 from the start of each chunk.

    Both tensors are (H, chunks, chunk), in the order in which the rows are processed. The chunks of sequence s begin at
    index start // chunk + s. The last chunk of a sequence is filled with step sizes of zero, so that kernels read the
    tensors without masks.
    """
    dt, A, offset = with_unit_stride(inputs.dt), inputs.A, inputs.offset
    (rows, heads), sequences, lanes = dt.shape, len(offset) - 1, min(HEAD_LANES, power_of_two(dt.shape[1]))
    step, elapsed = (A.new_empty(heads, rows // chunk + sequences, chunk) for _ in range(2))
    steps_kernel[(sequences, -(-heads // lanes))](
        dt, A.contiguous(), contiguous(inputs.dt_bias), offset, step, elapsed, dt.stride(0), step.shape[1],
        HEADS=heads, CHUNK=chunk, LANES=lanes, DTYPE=triton_dtype(A), **_step_options(options), num_warps=2,
    )  # fmt: skip
    return step, elapsed


def _walk(
    x: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    offset: Tensor,
    steps: tuple[Tensor, Tensor],
    initial_states: Tensor | None,
    y: Tensor,
    final_states: Tensor | None,
    states_saved: Tensor | None,
    saved: int,
    reverse: bool,
    back: bool,
) -> None:
    (heads, width), (groups, states) = x.shape[1:], B.shape[1:]
    operand, precision = block_sizes.operands(x, A, B, C)
    chosen = block_sizes.walk_blocks(width, states, operand)
    x, B, C = (with_unit_stride(v.flatten(1)) for v in (x, B, C))
    walk_kernel[((len(offset) - 1) * heads * -(-width // chosen.width),)](
        x, *steps, B, C, contiguous(D), offset, contiguous(initial_states), y, final_states, states_saved,
        x.stride(0), B.stride(0), C.stride(0), y.stride(0), steps[0].shape[1],
        HEADS=heads, GROUPS=groups, WIDTH=width, STATES=states, BACK=back, REVERSE=reverse,
        CHUNK=chosen.chunk, SAVED=saved, WIDTH_BLOCK=chosen.width, STATE_BLOCK=block_sizes.padded(states),
        num_warps=chosen.warps, maxnreg=chosen.registers, **_numbers(A, operand, precision),
    )  # fmt: skip


def forward(
    inputs: SsdInputs, options: SsdOptions, return_final_states: bool, save_checkpoints: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply the recurrence to packed sequences; see ``operators.sequence_operator``."""
    x, _, A, B, C, D, _, offset, initial_states = inputs
    (heads, width), (groups, states), sequences = x.shape[1:], B.shape[1:], len(offset) - 1
    operand, _ = block_sizes.operands(x, A, B, C)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    final_states = inputs.new_final_states(sequences if return_final_states else 0)
    checkpoints = inputs.new_checkpoints(save=save_checkpoints)
    if sequences:
        steps = _steps(inputs, options, block_sizes.walk_blocks(width, states, operand).chunk)
        saved = block_sizes.pairs_blocks(heads // groups, width, states, operand).chunk
        _walk(
            x, A, B, C, D, offset, steps, initial_states, y, final_states if return_final_states else None,
            checkpoints if save_checkpoints else None, saved, options.reverse, back=False,
        )  # fmt: skip
    return y, final_states, checkpoints


def backward(
    y_grad: Tensor, final_grad: Tensor | None, inputs: SsdInputs, checkpoints: Tensor, options: SsdOptions
) -> tuple[Tensor | None, ...]:
    """Compute the gradients; see ``operators.sequence_operator``."""
    x, dt, B, C = (torch.empty(v.shape, dtype=v.dtype, device=v.device) for v in (inputs.x, inputs.dt, *inputs[3:5]))
    rows = RowGradients(x.flatten(1), dt, B.flatten(1), C.flatten(1))
    of_A, of_D, of_bias, of_initial = backward_into(rows, y_grad, final_grad, inputs, checkpoints, options)
    return x, dt, of_A, B, C, of_D, of_bias, of_initial


def backward_into(
    grads: RowGradients,
    y_grad: Tensor,
    final_grad: Tensor | None,
    inputs: SsdInputs,
    checkpoints: Tensor,
    options: SsdOptions,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Compute the gradients, and write those with a value for each row into given tensors.

    Args:
        grads: Tensors for the gradients of x, dt, B and C.
        y_grad: (T, H, P) gradient of y.
        final_grad: (S, H, P, N) gradient of the final states, or None.
        inputs: Inputs of the recurrence.
        checkpoints: Checkpoints of `forward`.
        options: Options of the recurrence.

    Returns:
        Gradients of A, D, dt_bias and the initial states; None for a missing input.
    """
    x, dt, A, B, C, D, dt_bias, offset, initial_states = inputs
    (rows, heads, width), (groups, states), sequences = x.shape, B.shape[1:], len(offset) - 1
    operand, precision = block_sizes.operands(x, A, B, C)
    chosen = block_sizes.pairs_blocks(heads // groups, width, states, operand)
    slices, parts = -(-width // chosen.width), heads // groups // chosen.heads
    shares = min(sequences, block_sizes.SHARES)

    # Several programs contribute to the gradients of B and C if a group has many heads.
    partial = [v if parts * slices == 1 else A.new_empty(parts * slices, *v.shape) for v in (grads.B, grads.C)]
    head_sums = A.new_empty(3, shares, heads)
    initial_grad = None if initial_states is None else A.new_empty(initial_states.shape)
    if sequences:
        steps = _steps(inputs, options, chosen.chunk)
        short = block_sizes.walk_blocks(width, states, operand).chunk
        short_steps = steps if short == chosen.chunk else _steps(inputs, options, short)
        state_grads = torch.empty_like(checkpoints)
        _walk(
            y_grad, A, C, B, D, offset, short_steps, final_grad, grads.x, initial_grad, state_grads, chosen.chunk,
            options.reverse, back=True,
        )  # fmt: skip
        x, B, C, y_grad = (with_unit_stride(v.flatten(1)) for v in (x, B, C, y_grad))
        row_sums = A.new_empty(6, slices, *steps[0].shape)
        # Prefetching takes shared memory; with initial states or their gradients most GPUs do not have enough.
        stages = chosen.stages if initial_states is None and final_grad is None else 1
        pairs_kernel[(sequences * groups * parts * slices,)](
            x, *steps, B, C, offset, contiguous(initial_states), checkpoints, y_grad, contiguous(final_grad),
            state_grads, row_sums, *partial,
            x.stride(0), B.stride(0), C.stride(0), y_grad.stride(0), partial[0].stride(-2), rows, steps[0].shape[1],
            HEADS=heads, GROUPS=groups, WIDTH=width, STATES=states, REVERSE=options.reverse,
            CHUNK=chosen.chunk, WIDTH_BLOCK=chosen.width, STATE_BLOCK=block_sizes.padded(states),
            HEAD_BLOCK=chosen.heads, STAGES=stages,
            num_warps=chosen.warps, maxnreg=chosen.registers, **_numbers(A, operand, precision),
        )  # fmt: skip
        dt, lanes = with_unit_stride(dt), min(HEAD_LANES, power_of_two(heads))
        step_gradients_kernel[(shares, -(-heads // lanes))](
            dt, A.contiguous(), contiguous(dt_bias), offset, row_sums, grads.dt, head_sums,
            dt.stride(0), grads.dt.stride(0), steps[0].shape[1], sequences,
            HEADS=heads, SLICES=slices, CHUNK=chosen.chunk, LANES=lanes, DTYPE=triton_dtype(A),
            **_step_options(options), num_warps=2,
        )  # fmt: skip
    if parts * slices > 1:
        for grad, parts_of_grad in zip((grads.B, grads.C), partial, strict=True):
            grad.copy_(parts_of_grad.sum(0))
    of_A, of_D, of_bias = head_sums.sum(1).unbind()
    return (
        of_A.clone(),
        None if D is None else of_D.clone(),
        None if dt_bias is None else of_bias.clone(),
        initial_grad,
    )

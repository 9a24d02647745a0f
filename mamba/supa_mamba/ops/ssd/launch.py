"""Start the Triton kernels of Mamba-2's recurrence. Nothing here waits for the device or looks at a length."""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride
from supa_mamba.ops.ssd import block_sizes, kernels

HEAD_LANES = 8
"""Heads that a program of the kernels on steps takes."""


def _numbers(A: Tensor, operand: torch.dtype, precision: str) -> dict[str, Any]:
    rounded = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32, torch.float64: tl.float64}[operand]
    # The interpreter multiplies the bits of bfloat16 as if they were integers.
    interpreted = not isinstance(kernels.pairs_kernel, triton.runtime.JITFunction)
    multiplied = tl.float32 if interpreted and rounded == tl.bfloat16 else rounded
    return {"DTYPE": triton_dtype(A), "ROUND": rounded, "OPERAND": multiplied, "PRECISION": precision}


def _step_options(dt_softplus: bool, dt_min: float, dt_max: float) -> dict[str, Any]:
    # Softplus is positive: limits that cannot change it are left out of the kernels.
    limited = dt_min > (0.0 if dt_softplus else -math.inf) or dt_max < math.inf
    return {"SOFTPLUS": dt_softplus, "LIMITED": limited, "DT_MIN": dt_min, "DT_MAX": dt_max}


def _steps(
    dt: Tensor, A: Tensor, dt_bias: Tensor | None, offset: Tensor, reverse: bool, options: dict[str, Any], chunk: int
) -> tuple[Tensor, Tensor]:
    """Give the steps, and of each the sum of Delta A, in units of log 2, from the start of its chunk.

    Both are (H, slots, chunk), in the order in which they are walked. Each sequence fills slots of its own, from
    start // chunk + its number on, and the rest of its last one with steps of zero: kernels read them without masks.
    """
    (rows, heads), sequences, lanes = dt.shape, len(offset) - 1, min(HEAD_LANES, power_of_two(dt.shape[1]))
    dt = with_unit_stride(dt)
    step, elapsed = (A.new_empty(heads, rows // chunk + sequences, chunk) for _ in range(2))
    kernels.steps_kernel[(sequences, -(-heads // lanes))](
        dt, A.contiguous(), contiguous(dt_bias), offset, step, elapsed, dt.stride(0), step.shape[1],
        HEADS=heads, REVERSE=reverse, CHUNK=chunk, LANES=lanes, DTYPE=triton_dtype(A), **options, num_warps=2,
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
    initial_state: Tensor | None,
    y: Tensor,
    final_state: Tensor | None,
    states_saved: Tensor | None,
    saved: int,
    reverse: bool,
    back: bool,
) -> None:
    (heads, width), (groups, states) = x.shape[1:], B.shape[1:]
    operand, precision = block_sizes.operands(x, A, B, C)
    chosen = block_sizes.walk_blocks(width, states, operand)
    x, B, C = (with_unit_stride(v.flatten(1)) for v in (x, B, C))
    kernels.walk_kernel[((len(offset) - 1) * heads * -(-width // chosen.width),)](
        x, *steps, B, C, contiguous(D), offset, contiguous(initial_state), y, final_state, states_saved,
        x.stride(0), B.stride(0), C.stride(0), steps[0].shape[1],
        HEADS=heads, GROUPS=groups, WIDTH=width, STATES=states, BACK=back, REVERSE=reverse,
        CHUNK=chosen.chunk, SAVED=saved, WIDTH_BLOCK=chosen.width, STATE_BLOCK=block_sizes.padded(states),
        num_warps=chosen.warps, maxnreg=chosen.registers, **_numbers(A, operand, precision),
    )  # fmt: skip


def forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    dt_softplus: bool,
    dt_min: float,
    dt_max: float,
    finish: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Walk over packed sequences.

    Args:
        x: (T, H, P), as dt, B, C (T, G, N), D (H,) and dt_bias: as in ``ssd``.
        dt: (T, H).
        A: (H,), in the precision of states.
        B: (T, G, N).
        C: (T, G, N).
        D: (H,), in the precision of states.
        dt_bias: (H,), in the precision of states.
        offset: (S + 1,) int64.
        initial_state: (S, H, P, N), in the precision of states.
        reverse: whether to walk from the ends.
        dt_softplus: whether steps are softplus of what was given.
        dt_min: the shortest step.
        dt_max: the longest step.
        finish: whether to give the final states.
        save: whether to store states for the backward kernel.

    Returns:
        y (T, H, P), final state (S or 0, H, P, N), and checkpoints (T // chunk or 0, H, P, N).
    """
    (rows, heads, width), (groups, states), sequences = x.shape, B.shape[1:], len(offset) - 1
    operand, _ = block_sizes.operands(x, A, B, C)
    y = torch.empty(rows, heads, width, dtype=x.dtype, device=x.device)
    final_state = A.new_empty(sequences if finish else 0, heads, width, states)
    saved = block_sizes.pairs_blocks(heads // groups, width, states, operand).chunk
    checkpoints = x.new_empty(rows // saved if save else 0, heads, width, states, dtype=operand)
    if sequences:
        chunk = block_sizes.walk_blocks(width, states, operand).chunk
        options = _step_options(dt_softplus, dt_min, dt_max)
        steps = _steps(dt, A, dt_bias, offset, reverse, options, chunk)
        _walk(
            x, A, B, C, D, offset, steps, initial_state, y, final_state if finish else None,
            checkpoints if save else None, saved, reverse, back=False,
        )  # fmt: skip
    return y, final_state, checkpoints


def backward(
    y_grad: Tensor,
    final_grad: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    checkpoints: Tensor,
    reverse: bool,
    dt_softplus: bool,
    dt_min: float,
    dt_max: float,
) -> tuple[Tensor, ...]:
    """Give the gradients of everything; arguments as in ``forward``, with the gradients of what it gave.

    Returns:
        Gradients of x, dt, A, B, C, D, dt_bias and initial_state; of one that is missing an empty tensor.
    """
    (rows, heads, width), (groups, states), sequences = x.shape, B.shape[1:], len(offset) - 1
    operand, precision = block_sizes.operands(x, A, B, C)
    chosen = block_sizes.pairs_blocks(heads // groups, width, states, operand)
    slices, parts = -(-width // chosen.width), heads // groups // chosen.heads
    shares = min(sequences, block_sizes.SHARES)

    def partial(like: Tensor) -> Tensor:
        alone = parts * slices == 1
        return like.new_empty(parts * slices, *like.shape, dtype=like.dtype if alone else A.dtype)

    x_grad = torch.empty(rows, heads, width, dtype=x.dtype, device=x.device)
    dt_grad = torch.empty(rows, heads, dtype=dt.dtype, device=x.device)
    B_partial, C_partial = partial(B), partial(C)
    head_sums = A.new_empty(3, shares, heads)
    initial_grad = A.new_empty(0) if initial_state is None else A.new_empty(initial_state.shape)
    dtypes = B.dtype, C.dtype
    if sequences:
        given, options = (dt, A, dt_bias, offset, reverse), _step_options(dt_softplus, dt_min, dt_max)
        steps = _steps(*given, options, chosen.chunk)
        short = block_sizes.walk_blocks(width, states, operand).chunk
        short_steps = steps if short == chosen.chunk else _steps(*given, options, short)
        state_grads = torch.empty_like(checkpoints)
        _walk(
            y_grad, A, C, B, D, offset, short_steps, final_grad, x_grad,
            None if initial_state is None else initial_grad, state_grads, chosen.chunk, reverse, back=True,
        )  # fmt: skip
        x, B, C, y_grad = (with_unit_stride(v.flatten(1)) for v in (x, B, C, y_grad))
        row_sums = A.new_empty(6, slices, *steps[0].shape)
        # What is under way takes shared memory: states from outside, too, would need more than most GPUs have.
        stages = chosen.stages if initial_state is None and final_grad is None else 1
        kernels.pairs_kernel[(sequences * groups * parts * slices,)](
            x, *steps, B, C, offset, contiguous(initial_state), checkpoints, y_grad, contiguous(final_grad),
            state_grads, row_sums, B_partial, C_partial,
            x.stride(0), B.stride(0), C.stride(0), y_grad.stride(0), rows, steps[0].shape[1],
            HEADS=heads, GROUPS=groups, WIDTH=width, STATES=states, REVERSE=reverse,
            CHUNK=chosen.chunk, WIDTH_BLOCK=chosen.width, STATE_BLOCK=block_sizes.padded(states),
            HEAD_BLOCK=chosen.heads, STAGES=stages,
            num_warps=chosen.warps, maxnreg=chosen.registers, **_numbers(A, operand, precision),
        )  # fmt: skip
        dt, lanes = with_unit_stride(dt), min(HEAD_LANES, power_of_two(heads))
        kernels.step_gradients_kernel[(shares, -(-heads // lanes))](
            dt, A.contiguous(), contiguous(dt_bias), offset, row_sums, dt_grad, head_sums,
            dt.stride(0), steps[0].shape[1], sequences,
            HEADS=heads, SLICES=slices, REVERSE=reverse, CHUNK=chosen.chunk, LANES=lanes, DTYPE=triton_dtype(A),
            **options, num_warps=2,
        )  # fmt: skip
    of_B, of_C = (
        v[0] if len(v) == 1 else v.sum(0).to(dtype) for v, dtype in zip((B_partial, C_partial), dtypes, strict=True)
    )
    of_A, of_D, of_bias = head_sums.sum(1).unbind()
    return (
        x_grad,
        dt_grad,
        of_A.clone(),
        of_B,
        of_C,
        A.new_empty(0) if D is None else of_D.clone(),
        A.new_empty(0) if dt_bias is None else of_bias.clone(),
        initial_grad,
    )

"""Launch of the Triton kernels of sparse attention, without host-device synchronisation."""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from supa_mamba.ops.kernel_inputs import power_of_two, triton_dtype, with_unit_stride
from supa_mamba.ops.sparse_attention import block_sizes
from supa_mamba.ops.sparse_attention.inputs import BucketInputs, SparseGradients, SparseInputs
from supa_mamba.ops.sparse_attention.kernels.backward import sparse_key_grads_kernel, sparse_query_grad_kernel
from supa_mamba.ops.sparse_attention.kernels.forward import sparse_forward_kernel
from supa_mamba.ops.sparse_attention.kernels.order import sparse_groups_kernel, sparse_ranges_kernel

_BITS = {torch.int8: 8, torch.uint8: 9, torch.int16: 16}
"""Bits for a bucket and for dropped rows, by dtype of the buckets."""
_MOST_BITS = 32


def _reach(count: int) -> int:
    """Return the first step of a binary search among the numbers 0 to ``count`` - 1."""
    return power_of_two(max(1, count)) // 2


def order(inputs: BucketInputs) -> tuple[Tensor, Tensor]:
    """Sort queries and keys; see `SparseInputs`."""
    query_buckets, key_buckets, offset = inputs
    (rows, heads), sequences = query_buckets.shape, offset.shape[0] - 1
    of_rows, ranges = inputs.new_order()
    if not rows:
        return of_rows, ranges
    buckets = (query_buckets,) if key_buckets is None else (query_buckets, key_buckets)
    bits = _BITS.get(query_buckets.dtype, _MOST_BITS)
    # Sorting takes most of the time, and that of 32-bit numbers half of that of 64-bit numbers.
    short = len(buckets) * heads * sequences << bits < 2**31
    groups = torch.empty(len(buckets) * heads * rows, dtype=torch.int32 if short else torch.int64, device=offset.device)
    programs = -(-rows // block_sizes.LANES), heads
    constants: dict[str, Any] = {"BITS": bits, "BLOCK": block_sizes.LANES}
    for side, of_side in enumerate(buckets):
        sparse_groups_kernel[programs](
            of_side, offset, groups, *of_side.stride(), side * heads, rows, sequences, _reach(sequences), **constants
        )
    groups, places = groups.sort(stable=True)
    sparse_ranges_kernel[(*programs, 2)](
        groups, places, of_rows, ranges, rows, sequences, _reach(rows + 1), HEADS=heads, SIDES=len(buckets), **constants
    )
    return of_rows, ranges


def _constants(inputs: SparseInputs, blocks: block_sizes.Blocks) -> dict[str, Any]:
    operand, precision = block_sizes.operands(inputs.q.dtype)
    rounded = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32, torch.float64: tl.float64}[operand]
    # The interpreter would multiply the bits of bfloat16 operands as integers.
    interpreted = not isinstance(sparse_forward_kernel, triton.runtime.JITFunction)
    multiplied = tl.float32 if interpreted and rounded == tl.bfloat16 else rounded
    width = inputs.q.shape[2]
    return {
        "WIDTH": width, "BLOCK": _padded(width), "QUERIES": blocks.queries, "KEYS": blocks.keys,
        "STAGES": blocks.stages, "SCALE": 1 / math.sqrt(width), "DTYPE": triton_dtype(inputs.new_log_sums()),
        "ROUND": rounded, "OPERAND": multiplied, "PRECISION": precision, "num_warps": blocks.warps,
    }  # fmt: skip


def _padded(width: int) -> int:
    """Round a head size up to a block size that ``tl.dot`` supports."""
    return max(16, power_of_two(width))


def _strides(inputs: SparseInputs) -> list[int]:
    return [x.stride(dim) for x in inputs[:3] for dim in range(2)]


def _readable(inputs: SparseInputs) -> SparseInputs:
    return inputs._replace(**{name: with_unit_stride(getattr(inputs, name)) for name in ("q", "k", "v")})


def _sizes(inputs: SparseInputs, tile: int) -> tuple[tuple[int, int], tuple[int, int, int]]:
    """Return the numbers of programs, and the arguments by which a program finds its tile."""
    (rows, heads, _), sequences = inputs.q.shape, inputs.offset.shape[0] - 1
    return (rows // tile + sequences, heads), (rows, sequences, _reach(sequences))


def forward(inputs: SparseInputs) -> tuple[Tensor, Tensor]:
    """Return y, and the logarithms to base 2 of the sums of weights."""
    inputs = _readable(inputs)
    q, k, v, of_rows, ranges, offset = inputs
    y, log_sums = torch.empty(q.shape, dtype=q.dtype, device=q.device), inputs.new_log_sums()
    blocks = block_sizes.forward_blocks(_padded(q.shape[2]), block_sizes.operands(q.dtype)[0])
    if q.shape[0]:
        programs, sizes = _sizes(inputs, blocks.queries)
        sparse_forward_kernel[programs](
            q, k, v, of_rows[0], of_rows[-1], ranges, offset, y, log_sums, *_strides(inputs), *sizes,
            **_constants(inputs, blocks),
        )  # fmt: skip
    return y, log_sums


def backward(inputs: SparseInputs, given: SparseGradients) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of q, k and v."""
    inputs = _readable(inputs)
    q, k, v, of_rows, ranges, offset = inputs
    y_grad, y, log_sums = given.y_grad.contiguous(), given.y.contiguous(), given.log_sums
    grads = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)]
    q_grad, k_grad, v_grad = grads
    blocks = block_sizes.backward_blocks(_padded(q.shape[2]), block_sizes.operands(q.dtype)[0])
    if q.shape[0]:
        constants, means = _constants(inputs, blocks), torch.empty_like(log_sums)
        programs, sizes = _sizes(inputs, blocks.queries)
        sparse_query_grad_kernel[programs](
            q, k, v, of_rows[0], of_rows[-1], ranges, offset, y, y_grad, log_sums, means, q_grad,
            *_strides(inputs), *sizes, **constants,
        )  # fmt: skip
        programs, sizes = _sizes(inputs, blocks.keys)
        sparse_key_grads_kernel[programs](
            q, k, v, of_rows[0], of_rows[-1], ranges, offset, y_grad, log_sums, means, k_grad, v_grad,
            *_strides(inputs), *sizes, **constants,
        )  # fmt: skip
    return q_grad, k_grad, v_grad

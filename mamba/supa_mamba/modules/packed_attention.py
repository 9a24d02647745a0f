"""Causal attention over packed rows with PyTorch's kernels.

On a GPU, half precision uses the kernel for packed rows. In all other cases the rows are padded. The padding follows
the rows of a sequence, so causal attention needs no additional mask.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from supa_mamba.ops.packing import check_offsets
from supa_mamba.ops.transforms import first_derivative_only


def _packed_kernel() -> Callable[..., Any] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    # Before PyTorch 2.11, another argument selected causal attention.
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


_PACKED_KERNEL = _packed_kernel()
_FUSED = (
    "CausalAttention: PyTorch's fused attention supports first derivatives only; for forward-mode and second "
    "derivatives call the module inside torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)."
)


def values_readable(x: Tensor) -> bool:
    """Return whether the values of a tensor can be read without a synchronisation or a graph break.

    Args:
        x: Any tensor.

    Returns:
        False for a tensor on a GPU and in compiled programs.
    """
    return not x.is_cuda and not torch.compiler.is_compiling()


def longest_length(x: Tensor, offset: Tensor, max_length: int | None) -> int:
    """Return the length of the longest sequence, or the given upper bound.

    Args:
        x: (T, ...) packed or (B, L, ...) padded rows.
        offset: (S + 1,) int64 offsets.
        max_length: The upper bound if it is known. Otherwise the length is computed, which synchronises with a GPU.

    Returns:
        Length of at least 0.

    Raises:
        ValueError: If a sequence is longer than the bound, or the offset does not match the rows.
    """
    if x.ndim == 3:
        return x.shape[1]
    if values_readable(offset):
        check_offsets(offset, x.shape[0])
    if max_length is None:
        return int(offset.diff().max()) if offset.shape[0] > 1 else 0
    if values_readable(offset) and (offset.diff() > max_length).any():
        raise ValueError(
            f"max_length: {max_length} was given, but a sequence has {int(offset.diff().max())} rows; pass a bound."
        )
    return max_length


def row_positions(offset: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return the sequence of each packed row, and its position in the sequence.

    Args:
        offset: (S + 1,) int64 offsets.
        rows: Number of rows, T.

    Returns:
        (T,) int64 index of the sequence, and (T,) int64 position in the sequence, from 0.
    """
    row = torch.arange(rows, device=offset.device)
    sequence = torch.searchsorted(offset, row, right=True) - 1
    return sequence, row - offset[sequence]


def padded(x: Tensor, sequence: Tensor, place: Tensor, sequences: int, longest: int) -> tuple[Tensor, Tensor]:
    """Copy packed rows into a padded batch.

    Args:
        x: (T, ...) rows.
        sequence: (T,) int64 sequences from `row_positions`.
        place: (T,) int64 positions from `row_positions`.
        sequences: Number of sequences, S.
        longest: Upper bound of the lengths, L.

    Returns:
        (S, L, ...) batch, padded with zeros, and (T,) int64 index of each row in the flattened first two dimensions.
    """
    # A row beyond the bound gets an index out of bounds, so that PyTorch raises an error on a GPU.
    index = torch.where(place < longest, sequence * longest + place, sequences * longest)
    batch = x.new_zeros(sequences * longest, *x.shape[1:]).index_copy(0, index, x)
    return batch.reshape(sequences, longest, *x.shape[1:]), index


def differentiable(x: Tensor) -> Tensor:
    """Prepare an input of PyTorch's fused attention kernels, which support first derivatives only.

    Args:
        x: Queries, keys or values.

    Returns:
        The tensor. Forward-mode and second derivatives through it raise ``ValueError``, except inside
        ``torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)``.
    """
    return x if torch.compiler.is_compiling() or not _fused() else first_derivative_only(x, _FUSED)


def attend(qkv: Tensor, offset: Tensor, longest: int) -> Tensor:
    """Compute causal attention within each sequence.

    Args:
        qkv: (T, 3, heads, head_dim) queries, keys and values.
        offset: (S + 1,) int64 offsets.
        longest: Upper bound of the lengths.

    Returns:
        (T, heads, head_dim) attention outputs.
    """
    if not qkv.shape[0]:
        return qkv[:, 0]
    qkv = differentiable(qkv)
    if _PACKED_KERNEL is not None and _kernel_takes(qkv):
        q, k, v = qkv.unbind(1)
        begins = offset.to(torch.int32)
        packed: Tensor = _PACKED_KERNEL(q, k, v, begins, begins, longest, longest, window_size=(-1, 0))
        return packed
    sequence, place = row_positions(offset, qkv.shape[0])
    batch, index = padded(qkv, sequence, place, offset.shape[0] - 1, longest)
    q, k, v = batch.permute(2, 0, 3, 1, 4)
    y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).flatten(0, 1).index_select(0, index)


def _fused() -> bool:
    # sdpa_kernel sets these flags, which also apply on a CPU.
    cuda = torch.backends.cuda
    return bool(cuda.flash_sdp_enabled() or cuda.mem_efficient_sdp_enabled())  # type: ignore[no-untyped-call]


def _kernel_takes(qkv: Tensor) -> bool:
    head_dim = qkv.shape[-1]
    return (
        qkv.is_cuda
        and (torch.compiler.is_compiling() or _fused())
        and qkv.dtype in (torch.float16, torch.bfloat16)
        and head_dim % 8 == 0
        and head_dim <= 256
        and torch.cuda.get_device_capability(qkv.device) >= (8, 0)
    )

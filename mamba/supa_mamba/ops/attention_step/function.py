"""Single steps of causal attention whose result for a row does not depend on the other rows."""

import torch
from torch import Tensor

from supa_mamba.ops import backend
from supa_mamba.ops.operators import run_backend
from supa_mamba.ops.transforms import needs_plain_code


def supports_step(qkv: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Return whether `attention_step` supports a step.

    Args:
        qkv: (M, 3, H, D) queries, keys and values.
        keys: (R, L + 1, H, D) stored keys.
        values: (R, L + 1, H, D) stored values.

    Returns:
        True on a CPU in single or double precision and on a GPU in single precision, unless a program is recorded.
    """
    if torch.compiler.is_compiling() or needs_plain_code(qkv, keys, values):
        return False
    if backend.is_cuda(qkv):
        supported = qkv.dtype == torch.float32
    else:
        supported = qkv.device.type == "cpu" and qkv.dtype in (torch.float32, torch.float64)
    return supported and all(x.dtype == qkv.dtype and x.is_contiguous() for x in (keys, values))


def attention_step(
    qkv: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, slots: Tensor, *, rates: Tensor
) -> Tensor:
    """Attend from one more row of each of M sequences to all rows of the sequence.

    Only the stored rows of a sequence are read. The bits of a row do not depend on the other rows. On a GPU, a slot
    that does not exist or has no room raises an error on the device; on a CPU the caller checks the slots.

    Args:
        qkv: (M, 3, H, D) queries, keys and values of the new rows.
        keys: (R, L + 1, H, D) stored keys, modified in place.
        values: (R, L + 1, H, D) stored values, modified in place.
        lengths: (R,) int64 numbers of stored rows, less than L, modified in place.
        slots: (M,) int64 slot of each sequence, without duplicates. Negative for a finished sequence.
        rates: (P,) float64 angles by position of the rotary embedding; none for no rotation.

    Returns:
        (M, H, D) result; zeros for finished sequences.

    Raises:
        ImportError: If Triton is required but not installed.
    """
    y: Tensor = run_backend(__package__, "step", qkv, qkv, keys, values, lengths, slots, rates)
    for table in (keys, values, lengths):
        if not table.is_inference():  # autograd then refuses to use values from before the step
            torch.autograd.graph.increment_version(table)
    return y

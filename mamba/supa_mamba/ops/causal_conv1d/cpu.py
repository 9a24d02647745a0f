"""The causal convolution on a CPU: each tap gathers its rows, and autograd computes the gradients."""

import torch
from torch import Tensor
from torch.nn.functional import silu

from supa_mamba.ops.packing import check_offset
from supa_mamba.ops.vjp import gradients


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    use_silu: bool,
) -> tuple[Tensor, Tensor]:
    """Convolve packed sequences; shapes as in ``causal_conv1d``, all but x in the states' precision.

    Returns:
        y (T, D) in the precision of x, and the final states (S, D, W - 1).

    Raises:
        ValueError: the offset does not fit the rows.
    """
    check_offset(offset, x.shape[0])
    (channels, width), sequences = weight.shape, offset.shape[0] - 1
    if initial_state is None:
        initial_state = weight.new_zeros(sequences, channels, width - 1)
    earlier = initial_state.transpose(1, 2).reshape(-1, channels)
    seen = torch.cat([x.to(weight.dtype), earlier])

    def row(sequence: Tensor, step: Tensor) -> Tensor:
        walked = offset[1:][sequence] - 1 - step if reverse else offset[:-1][sequence] + step
        return torch.where(step >= 0, walked, x.shape[0] + sequence * (width - 1) + width - 1 + step)

    lengths = offset.diff()
    sequence = torch.arange(sequences).repeat_interleave(lengths)
    rows = torch.arange(x.shape[0])
    step = offset[1:][sequence] - 1 - rows if reverse else rows - offset[:-1][sequence]
    y = torch.zeros_like(seen[: x.shape[0]]) if bias is None else bias.expand(x.shape[0], channels)
    for tap in range(width):
        y = torch.addcmul(y, seen.index_select(0, row(sequence, step - tap)), weight[:, width - 1 - tap])
    y = silu(y) if use_silu else y
    last = lengths[:, None] - (width - 1) + torch.arange(width - 1)
    of_state = row(torch.arange(sequences)[:, None], last)
    final_state = seen.index_select(0, of_state.reshape(-1)).reshape(sequences, width - 1, channels).transpose(1, 2)
    return y.to(x.dtype), final_state.contiguous()


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    use_silu: bool,
    finish: bool,
) -> tuple[Tensor, Tensor]:
    """Convolve as ``launch.forward``."""
    y, final_state = convolve(x, weight, bias, offset, initial_state, reverse, use_silu)
    return y, final_state if finish else weight.new_empty(0, *final_state.shape[1:])


def backward(
    y_grad: Tensor,
    final_grad: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    use_silu: bool,
) -> tuple[Tensor, ...]:
    """Return the gradients as ``launch.backward``: convolve again and let autograd record it."""

    def again(x: Tensor, weight: Tensor, bias: Tensor | None, start: Tensor | None) -> tuple[Tensor, Tensor]:
        return convolve(x, weight, bias, offset, start, reverse, use_silu)

    return gradients(again, (x, weight, bias, initial_state), (y_grad, final_grad))

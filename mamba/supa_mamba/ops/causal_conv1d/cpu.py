"""Causal convolution on a CPU. Each kernel position gathers its rows, and autograd computes the gradients."""

import torch
from torch import Tensor
from torch.nn.functional import silu

from supa_mamba.ops.causal_conv1d.inputs import ConvInputs, ConvOptions
from supa_mamba.ops.packing import check_offsets


def forward(inputs: ConvInputs, options: ConvOptions, return_final_states: bool) -> tuple[Tensor, Tensor]:
    """Convolve packed sequences; see ``operators.sequence_operator``.

    Raises:
        ValueError: If the offset does not match the rows.
    """
    x, weight, bias, offset, initial_states = inputs
    check_offsets(offset, x.shape[0])
    (channels, width), sequences = weight.shape, offset.shape[0] - 1
    if initial_states is None:
        initial_states = weight.new_zeros(sequences, channels, width - 1)
    earlier = initial_states.transpose(1, 2).reshape(-1, channels)
    seen = torch.cat([x.to(weight.dtype), earlier])

    def row(sequence: Tensor, step: Tensor) -> Tensor:
        walked = offset[1:][sequence] - 1 - step if options.reverse else offset[:-1][sequence] + step
        return torch.where(step >= 0, walked, x.shape[0] + sequence * (width - 1) + width - 1 + step)

    lengths = offset.diff()
    sequence = torch.arange(sequences).repeat_interleave(lengths)
    rows = torch.arange(x.shape[0])
    step = offset[1:][sequence] - 1 - rows if options.reverse else rows - offset[:-1][sequence]
    y = torch.zeros_like(seen[: x.shape[0]]) if bias is None else bias.expand(x.shape[0], channels)
    for tap in range(width):
        y = torch.addcmul(y, seen.index_select(0, row(sequence, step - tap)), weight[:, width - 1 - tap])
    y = silu(y) if options.use_silu else y
    if not return_final_states:
        return y.to(x.dtype), inputs.new_final_states(0)
    last = lengths[:, None] - (width - 1) + torch.arange(width - 1)
    of_state = row(torch.arange(sequences)[:, None], last)
    final_states = seen.index_select(0, of_state.reshape(-1)).reshape(sequences, width - 1, channels).transpose(1, 2)
    return y.to(x.dtype), final_states.contiguous()

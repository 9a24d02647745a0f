"""States of modules between calls. Each state is a table with one slot per sequence."""

from typing import NamedTuple

from torch import Tensor

from supa_mamba.ops.buffered_state_update.buffer import InputBuffer


class MambaState(NamedTuple):
    """State of a `Mamba` or `Mamba2` mixer with R slots, float32 or float64.

    Args:
        conv: (R, channels, d_conv - 1) last inputs of the convolution, the latest one last.
        ssm: (R, d_inner, d_state) states of Mamba-1, or (R, heads, headdim, d_state) states of Mamba-2.

    Example:
        >>> from supa_mamba import Mamba
        >>> state = Mamba(16, d_state=8).init_state(3)  # three sequences
        >>> state.conv.shape, state.ssm.shape
        (torch.Size([3, 32, 3]), torch.Size([3, 32, 8]))
    """

    conv: Tensor
    ssm: Tensor


class BufferedMambaState(NamedTuple):
    """State of a `Mamba2` mixer with R slots, whose steps write ``ssm`` only when a buffer of inputs is full.

    To start a new sequence in a slot, set its ``conv``, its ``ssm`` and its ``buffer.lengths`` to 0.

    Args:
        conv: (R, channels, d_conv - 1) last inputs of the convolution, the latest one last.
        ssm: (R, heads, headdim, d_state) states before the inputs in the buffer.
        buffer: Latest inputs of each slot.

    Example:
        >>> from supa_mamba import Mamba2
        >>> mixer = Mamba2(16, d_state=8, headdim=8)
        >>> state = mixer.with_buffer(mixer.init_state(3), 16)  # three sequences
        >>> state.ssm.shape, state.buffer.x.shape
        (torch.Size([3, 4, 8, 8]), torch.Size([3, 16, 4, 8]))
    """

    conv: Tensor
    ssm: Tensor
    buffer: InputBuffer


class AttentionState(NamedTuple):
    """Keys and values of an attention layer for R slots, with a fixed maximum number of rows.

    Args:
        keys: (R, max_length + 1, heads, head_dim) keys. The last position receives the rows of finished sequences and
            is never read.
        values: (R, max_length + 1, heads, head_dim) values.
        lengths: (R,) int64 number of stored rows.

    Example:
        >>> from supa_mamba import CausalAttention
        >>> state = CausalAttention(16, num_heads=2).init_state(3, max_length=10)  # three sequences
        >>> state.keys.shape, state.lengths
        (torch.Size([3, 11, 2, 8]), tensor([0, 0, 0]))
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor


LayerState = MambaState | BufferedMambaState | AttentionState
StackState = tuple[LayerState, ...]


def clear_slots(state: StackState, slots: Tensor) -> None:
    """Prepare slots for new sequences.

    Args:
        state: States of the layers of a stack, modified in place.
        slots: (M,) int64 slots.
    """
    for layer in state:
        if isinstance(layer, AttentionState):  # positions beyond the length are never read
            layer.lengths[slots] = 0
            continue
        layer.conv[slots] = 0
        layer.ssm[slots] = 0
        if isinstance(layer, BufferedMambaState):
            layer.buffer.lengths[slots] = 0

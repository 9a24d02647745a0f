"""What modules remember of sequences between calls. All are tables: one row a sequence."""

from typing import NamedTuple

from torch import Tensor


class MambaState(NamedTuple):
    """The state of a Mamba or Mamba-2 mixer, float32 or float64.

    Args:
        conv: (R, channels, d_conv - 1) the last inputs of the convolution, the latest one last.
        ssm: (R, d_inner, d_state) of Mamba, (R, heads, headdim, d_state) of Mamba-2.
    """

    conv: Tensor
    ssm: Tensor


class AttentionState(NamedTuple):
    """The keys and values of an attention layer, up to a fixed number of steps.

    Args:
        keys: (R, max_length + 1, heads, head_dim); the last place is where finished sequences write, never read.
        values: as keys.
        lengths: (R,) int64, how many places are taken.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor


LayerState = MambaState | AttentionState
StackState = tuple[LayerState, ...]

"""Inputs of the backends of the causal convolution."""

from typing import NamedTuple

from torch import Tensor


class ConvInputs(NamedTuple):
    """Tensors of `causal_conv1d`: packed, and all except ``x`` in the precision of states.

    Args:
        x: (T, D) input.
        weight: (D, W) kernel.
        bias: (D,) bias.
        offset: (S + 1,) int64 offsets.
        initial_states: (S, D, W - 1) inputs before the first row.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    offset: Tensor
    initial_states: Tensor | None

    def new_final_states(self, sequences: int) -> Tensor:
        """Return an uninitialised tensor of shape (sequences, D, W - 1)."""
        channels, width = self.weight.shape
        return self.weight.new_empty(sequences, channels, width - 1)

    def new_checkpoints(self, *, save: bool) -> Tensor:
        """Return an empty tensor, because the gradients need no checkpoints."""
        return self.weight.new_empty(0)


class ConvOptions(NamedTuple):
    """Options of `causal_conv1d`.

    Args:
        reverse: Whether to process each sequence from its last row to its first.
        use_silu: Whether to apply SiLU.
    """

    reverse: bool
    use_silu: bool

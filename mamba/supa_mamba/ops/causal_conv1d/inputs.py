"""The inputs of the convolution's backends."""

from typing import NamedTuple

from torch import Tensor


class ConvInputs(NamedTuple):
    """Tensors, as in ``causal_conv1d``: packed, all but x in the states' precision.

    Args:
        x: (T, D).
        weight: (D, W).
        bias: (D,).
        offset: (S + 1,) int64.
        initial_states: (S, D, W - 1).
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    offset: Tensor
    initial_states: Tensor | None

    def new_final_states(self, sequences: int) -> Tensor:
        """Return an uninitialized tensor (sequences, D, W - 1)."""
        channels, width = self.weight.shape
        return self.weight.new_empty(sequences, channels, width - 1)

    def new_checkpoints(self, *, save: bool) -> Tensor:
        """Return an empty tensor: the inputs are all that the gradients need."""
        return self.weight.new_empty(0)


class ConvOptions(NamedTuple):
    """Options, as in ``causal_conv1d``.

    Args:
        reverse: Whether each sequence runs from its own end to its start.
        use_silu: Whether silu follows.
    """

    reverse: bool
    use_silu: bool

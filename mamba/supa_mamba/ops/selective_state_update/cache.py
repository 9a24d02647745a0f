"""Inputs that are kept until the next call says which of them are accepted."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReplayCache:
    """The last inputs of ``selective_state_replay`` for each slot of its table of states, which it overwrites in place.

    Args:
        x: (R, K, D), or (R, K, H, P) of Mamba-2.
        dt: (R, K, D), or (R, K, H), before bias and softplus; (R, K, H, P) where each channel has a step of its own.
        B: (R, K, N), or (R, K, G, N).
    """

    x: Tensor
    dt: Tensor
    B: Tensor

    @classmethod
    def empty(cls, state: Tensor, inputs: int, *, groups: int = 1, dtype: torch.dtype = torch.float32) -> Self:
        """Make the cache of a table whose slots have seen nothing yet; its values mean nothing.

        Args:
            state: (R, D, N), or (R, H, P, N) of Mamba-2, where all channels of a head have one step.
            inputs: K, the inputs of one call.
            groups: G of Mamba-2.
            dtype: The precision of the inputs.

        Returns:
            The cache, on the device of the states.
        """
        slots, *channels, states = state.shape
        of_group = (states,) if len(channels) == 1 else (groups, states)
        shapes = (tuple(channels), (channels[0],), of_group)
        return cls(*(torch.empty(slots, inputs, *shape, dtype=dtype, device=state.device) for shape in shapes))

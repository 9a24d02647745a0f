"""Cache of the inputs of speculative decoding."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReplayCache:
    """Inputs of the previous call of `selective_state_replay` for R slots. Each call overwrites them in place.

    Args:
        x: (R, K, D) inputs of Mamba-1, or (R, K, H, P) inputs of Mamba-2.
        dt: (R, K, D) or (R, K, H) step sizes before bias and softplus; (R, K, H, P) if each channel of Mamba-2 has its
            own step size.
        B: (R, K, N) or (R, K, G, N) input matrix.

    Example:
        >>> import torch
        >>> from supa_mamba import ReplayCache
        >>> states = torch.zeros(8, 64, 16)  # (R, D, N), a table with 8 slots
        >>> cache = ReplayCache.empty(states, inputs=4)
        >>> cache.x.shape, cache.B.shape
        (torch.Size([8, 4, 64]), torch.Size([8, 4, 16]))

    Source:
        The Mamba in the Llama (arXiv 2408.15237), section 4.
    """

    x: Tensor
    dt: Tensor
    B: Tensor

    @classmethod
    def empty(cls, state: Tensor, inputs: int, *, groups: int = 1, dtype: torch.dtype = torch.float32) -> Self:
        """Return an uninitialised cache for a state table.

        Args:
            state: (R, D, N) state table of Mamba-1, or (R, H, P, N) of Mamba-2 with one step size per head.
            inputs: Number of inputs per call, K.
            groups: Number of groups of channels or heads that share B, G.
            dtype: Dtype of the inputs.

        Returns:
            The cache, on the device of the states.
        """
        slots, *channels, states = state.shape
        of_group = (states,) if len(channels) == groups == 1 else (groups, states)
        shapes = (tuple(channels), (channels[0],), of_group)
        return cls(*(torch.empty(slots, inputs, *shape, dtype=dtype, device=state.device) for shape in shapes))

"""Buffer of the latest inputs of sequences, which their states do not contain yet."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from supa_mamba.ops.state_slots import check_state

LONGEST = 32
"""Maximum number of inputs in a buffer. Reading more of them would cost more than writing the state."""

MOST_INPUTS = 8
"""Maximum number of inputs of a call. The kernel is compiled for each number of them."""


@dataclass(frozen=True)
class InputBuffer:
    """Latest inputs of R sequences of Mamba-2. `buffered_state_update` modifies all tensors in place.

    The state after all inputs of slot r is the one in the state table, advanced past the first ``lengths[r]`` inputs of
    its buffer. To start a new sequence in a slot, set its length to 0 and its state to the initial state. To discard
    the last inputs, for example rejected drafts, subtract their number from the length.

    Args:
        x: (R, L, H, P) inputs.
        dt: (R, L, H) step sizes before bias and softplus.
        B: (R, L, G, N) input matrix.
        lengths: (R,) int64 number of inputs in the buffer of each slot.

    Example:
        >>> import torch
        >>> from supa_mamba import InputBuffer
        >>> states = torch.zeros(6, 4, 16, 8)  # (R, H, P, N), a table with 6 slots
        >>> buffer = InputBuffer.empty(states, 16)
        >>> buffer.x.shape, buffer.B.shape
        (torch.Size([6, 16, 4, 16]), torch.Size([6, 16, 1, 8]))
        >>> buffer.lengths
        tensor([0, 0, 0, 0, 0, 0])

    Source:
        The cache of inputs of The Mamba in the Llama (arXiv 2408.15237), section 4, with space for several calls.
    """

    x: Tensor
    dt: Tensor
    B: Tensor
    lengths: Tensor

    @classmethod
    def empty(cls, state: Tensor, length: int, *, groups: int = 1, dtype: torch.dtype = torch.float32) -> Self:
        """Return a buffer without inputs for a state table.

        Args:
            state: (R, H, P, N) state table of Mamba-2.
            length: Maximum number of inputs per slot, L, from 1 to 32. The state is written about once in L inputs, and
                L / 2 inputs are read per step on average: about 8 move the fewest bytes with 16 or 32 states per
                channel, and about 16 with 64 or 128.
            groups: Number of groups of Mamba-2, G.
            dtype: Dtype of the inputs.

        Returns:
            The buffer, on the device of the states.

        Raises:
            ValueError: If the state table or the length is invalid.
        """
        check_state("state", state, (4,), "(R, H, P, N)")
        if not 1 <= length <= LONGEST:
            raise ValueError(f"length: {length} was given, but it must be 1 to {LONGEST}.")
        slots, heads, width, states = state.shape
        x, dt, B = (
            torch.empty(slots, length, *shape, dtype=dtype, device=state.device)
            for shape in ((heads, width), (heads,), (groups, states))
        )
        return cls(x, dt, B, torch.zeros(slots, dtype=torch.int64, device=state.device))

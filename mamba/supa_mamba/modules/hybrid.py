"""Stacks of which some layers are attention."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.block import MambaBlock
from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.options import check_at_least
from supa_mamba.modules.packed_attention import longest_length
from supa_mamba.modules.stack import BlockStack
from supa_mamba.modules.states import StackState
from supa_mamba.ops.packing import normalize_offsets


class HybridStack(BlockStack):
    """Apply blocks of which some are causal attention, which recalls exactly what Mamba's states summarise.

    Args:
        d_model: features of a row.
        n_layer: number of blocks.
        attn_layer_idx: which of them, from 0, are attention.
        num_heads: heads of the attention.
        mixer: of the other blocks, as in ``MambaStack``.
        norm_epsilon: added to the mean squares that norms divide by.
        device: of the parameters.
        dtype: of the parameters, as in ``MambaStack``.
        options: of that mixer, such as ``d_state``.

    Raises:
        ValueError: There is no such layer or mixer, or a number is out of range.

    Source: Jamba (arXiv 2403.19887), section 2; names of parameters as mamba_ssm's ``MixerModel``.
    """

    def __init__(
        self,
        d_model: int,
        n_layer: int,
        attn_layer_idx: Collection[int],
        num_heads: int,
        mixer: str | Callable[..., Any] = "mamba",
        *,
        norm_epsilon: float = 1e-5,
        device: Device = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        check_at_least(1, d_model=d_model, n_layer=n_layer)
        for number in attn_layer_idx:
            if number not in range(n_layer):
                raise ValueError(f"attn_layer_idx: {number} was given, but the layers are 0 to {n_layer - 1}.")

        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        of_all = {"norm_epsilon": norm_epsilon, **factory}

        def block(number: int) -> MambaBlock:
            if number in attn_layer_idx:
                return MambaBlock(d_model, CausalAttention, num_heads=num_heads, **of_all)
            return MambaBlock(d_model, mixer, **of_all, **options)

        super().__init__([block(number) for number in range(n_layer)], d_model, norm_epsilon, **factory)

    def forward(
        self,
        x: Tensor,
        offset: Tensor | None = None,
        state: StackState | None = None,
        *,
        max_length: int | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, StackState]:
        """Apply all blocks.

        Args:
            x: (T, d_model) packed with an offset, or (B, L, d_model) padded without.
            offset: (S + 1,) int64, where each packed sequence begins, and the number of rows.
            state: the state before the first rows, of ``init_state`` or an earlier call; it is not changed.
            max_length: the length of the longest packed sequence, or a bound. Without it a GPU is waited for, once, and
                ``torch.compile`` cannot make one program.
            return_state: whether to return the state after the last rows, too; that needs a state, which says for how
                many rows attention has room.

        Returns:
            y, of the shape of x, normalised, in the precision of the parameters, and with ``return_state`` the states
            of all layers.

        Raises:
            ValueError: Shapes, dtypes or devices do not fit, or there is no room.
        """
        longest = longest_length(x, normalize_offsets("x", x, offset), max_length)
        return self.apply_blocks(x, offset, state, return_state=return_state, max_length=longest)

    def init_state(self, batch: int, max_length: int, *, dtype: torch.dtype | None = None) -> StackState:
        """Return the states of sequences that have not begun.

        Args:
            batch: how many slots the tables have, R.
            max_length: how long sequences can become.
            dtype: of the states, keys and values; that of each mixer's ``init_state`` if not given.

        Returns:
            The state of each layer, on the device of the parameters.

        Raises:
            ValueError: The mixer keeps no state.
        """
        options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
        return tuple(
            block.init_state(batch, max_length=max_length, **options)
            if isinstance(block.mixer, CausalAttention)
            else block.init_state(batch, **options)
            for block in self.blocks()
        )

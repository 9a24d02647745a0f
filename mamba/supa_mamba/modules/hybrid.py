"""Stacks of which some layers are attention."""

from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor

from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.block import MambaBlock
from supa_mamba.modules.options import check_at_least
from supa_mamba.modules.packed_attention import longest_of
from supa_mamba.modules.stack import BlockStack
from supa_mamba.modules.states import StackState
from supa_mamba.packing import offset_of


class HybridStack(BlockStack):
    """Put rows through blocks of which some are causal attention: these recall exactly what Mamba's states summarise.

    Args:
        d_model: features of a row.
        n_layer: number of blocks.
        attn_layer_idx: which of them, from 0, are attention.
        num_heads: heads of the attention.
        mixer: of the other blocks, as in ``MambaStack``.
        norm_epsilon: added to the mean squares that norms divide by.
        options: of that mixer, such as ``d_state``.

    Raises:
        ValueError: there is no such layer or mixer, or a number is out of range.

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
        **options: Any,
    ) -> None:
        check_at_least(1, d_model=d_model, n_layer=n_layer)
        for number in attn_layer_idx:
            if number not in range(n_layer):
                raise ValueError(f"attn_layer_idx: {number} was given, but the layers are 0 to {n_layer - 1}.")

        def block(number: int) -> MambaBlock:
            if number in attn_layer_idx:
                return MambaBlock(d_model, CausalAttention, norm_epsilon=norm_epsilon, num_heads=num_heads)
            return MambaBlock(d_model, mixer, norm_epsilon=norm_epsilon, **options)

        super().__init__([block(number) for number in range(n_layer)], d_model, norm_epsilon)

    def forward(
        self,
        x: Tensor,
        offset: Tensor | None = None,
        state: StackState | None = None,
        *,
        max_length: int | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, StackState]:
        """Put rows through all blocks.

        Args:
            x: (T, d_model) packed with an offset, or (B, L, d_model) padded without.
            offset: (S + 1,) int64, where each packed sequence begins, and the number of rows.
            state: what was before the first rows, of ``init_state`` or an earlier call; it is not changed.
            max_length: the length of the longest packed sequence, or a bound. Without it a GPU is waited for, once, and
                ``torch.compile`` cannot make one program.
            return_state: whether to give the state after the last rows, too; that needs a state, which says for how
                many rows attention has room.

        Returns:
            y, of the shape of x, normalised, in the precision of the parameters, and with ``return_state`` the states
            of all layers.

        Raises:
            ValueError: shapes, kinds or devices do not fit, or there is no room.
        """
        longest = longest_of(x, offset_of("x", x, offset), max_length)
        return self.walk(x, offset, state, return_state=return_state, max_length=longest)

    def init_state(self, batch: int, max_length: int) -> StackState:
        """Give the states of sequences that have not begun.

        Args:
            batch: how many rows the tables have, R.
            max_length: how long sequences can become.

        Returns:
            The state of each layer, on the device of the parameters.

        Raises:
            ValueError: the mixer keeps no state.
        """
        return tuple(
            block.init_state(batch, max_length=max_length)
            if isinstance(block.mixer, CausalAttention)
            else block.init_state(batch)
            for block in self.blocks()
        )

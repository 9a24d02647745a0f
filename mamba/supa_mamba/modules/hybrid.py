"""Stacks of Mamba and attention layers."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.block import MambaBlock
from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.options import BlockKind, check_at_least
from supa_mamba.modules.packed_attention import longest_length
from supa_mamba.modules.sparse_attention import SparseAttention
from supa_mamba.modules.stack import BlockStack, block_options
from supa_mamba.modules.states import StackState
from supa_mamba.ops.packing import normalize_offsets


class HybridStack(BlockStack):
    """Stack of Mamba blocks in which some blocks use causal attention instead.

    Mamba layers summarise the preceding rows in a state of fixed size; attention layers access each of them exactly.
    With attention in all blocks, ``d_intermediate`` and ``rotary_emb_dim``, the stack is a causal Transformer.

    With ``block="outlier-protected"``, the blocks have no norms, so that no feature of the residual must be large to
    pass them. There is one norm before the first block. The results of the mixers and MLPs have trained factors, which
    begin at 1 / sqrt(number of mixers and MLPs). Queries and keys are normalised; in Mamba and Mamba-2, step sizes, B
    and C are.

    Args:
        d_model: Number of features per row.
        n_layer: Number of blocks.
        attn_layer_idx: Indices, from 0, of the blocks that use attention.
        num_heads: Number of attention heads.
        mixer: Mixer of the other blocks, as in `MambaStack`.
        norm_epsilon: Epsilon of the RMS norms.
        d_intermediate: Number of hidden features of the MLP of each block, as in `MambaBlock`; 0 for none.
        rotary_emb_dim: Number of rotated features of each attention head, as in `CausalAttention`; 0 for none.
        sparse_buckets: Number of buckets of `SparseAttention`, which then replaces `CausalAttention`; 0 for none. Such
            a stack has no state and no single steps.
        block: ``"pre-norm"``, or ``"outlier-protected"`` for blocks without norms.
        device: Device of the parameters.
        dtype: Dtype of the parameters, as in `MambaStack`.
        options: Options of the other mixers, such as ``d_state``.

    Raises:
        ValueError: If an index, the mixer or the block is unknown, an argument is out of range, or options are given
            although no layer uses the mixer.

    Example:
        >>> import torch
        >>> from supa_mamba import HybridStack
        >>> stack = HybridStack(16, n_layer=3, attn_layer_idx=[1], num_heads=2, d_state=8).eval()
        >>> x, offset = torch.randn(8, 16), torch.tensor([0, 3, 8])  # sequences of 3 and 5 rows
        >>> with torch.no_grad():
        ...     state = stack.init_state(2, max_length=20)  # two sequences of at most 20 rows
        ...     y, state = stack(x, offset, state, return_state=True)
        ...     y = stack.step(torch.randn(2, 16), state)  # one more row of each sequence
        >>> y.shape
        torch.Size([2, 16])

    Source:
        Jamba (arXiv 2403.19887), section 2. The parameters have the names of mamba_ssm's ``MixerModel``.
        Outlier-protected blocks: arXiv 2405.19279, section 4.
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
        d_intermediate: int = 0,
        rotary_emb_dim: int = 0,
        sparse_buckets: int = 0,
        block: BlockKind = "pre-norm",
        device: Device = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        check_at_least(1, d_model=d_model, n_layer=n_layer)
        for number in attn_layer_idx:
            if number not in range(n_layer):
                raise ValueError(f"attn_layer_idx: {number} was given, but the layers are 0 to {n_layer - 1}.")

        if options and set(range(n_layer)) == set(attn_layer_idx):
            raise ValueError(f"{', '.join(options)}: given for the mixer, but all layers use attention; leave it out.")

        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        of_all = {"norm_epsilon": norm_epsilon, "d_intermediate": d_intermediate, **factory}
        of_attention: dict[str, Any] = {"num_heads": num_heads, "rotary_emb_dim": rotary_emb_dim}
        check_at_least(0, sparse_buckets=sparse_buckets)
        attention: Callable[..., Any] = CausalAttention
        if sparse_buckets:
            attention = SparseAttention
            of_attention["buckets"] = sparse_buckets

        def layer(number: int) -> MambaBlock:
            kind, further = (attention, of_attention) if number in attn_layer_idx else (mixer, options)
            of_block = block_options(block, kind, n_layer, d_intermediate)
            return MambaBlock(d_model, kind, **of_all, **(further | of_block))

        super().__init__([layer(number) for number in range(n_layer)], d_model, norm_epsilon, block=block, **factory)

    def forward(
        self,
        x: Tensor,
        offset: Tensor | None = None,
        state: StackState | None = None,
        *,
        max_length: int | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, StackState]:
        """Apply all blocks and the final norm.

        Args:
            x: (T, d_model) packed rows if ``offset`` is given, otherwise a (B, L, d_model) padded batch.
            offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1``.
            state: State before the first rows, from `init_state` or an earlier call. It is not modified.
            max_length: Length of the longest packed sequence, or an upper bound. Without it the call synchronises with
                the GPU once, and ``torch.compile`` cannot produce a single graph.
            return_state: Whether to also return the state after the last rows. This requires ``state``, whose size
                sets the maximum number of rows that attention can store.

        Returns:
            y, of the shape of ``x``, normalised, in the precision of the parameters, and with ``return_state`` the
            states of all layers.

        Raises:
            ValueError: If shapes, dtypes or devices do not match, or the state has too little capacity.
        """
        dense = any(isinstance(block.mixer, CausalAttention) for block in self.blocks())
        longest = longest_length(x, normalize_offsets("x", x, offset), max_length) if dense else None
        return self.apply_blocks(x, offset, state, return_state=return_state, max_length=longest)

    def init_state(self, batch: int, max_length: int, *, dtype: torch.dtype | None = None) -> StackState:
        """Return the initial states of empty sequences.

        Args:
            batch: Number of slots, R.
            max_length: Maximum number of rows per sequence.
            dtype: Dtype of the states, keys and values; by default that of each mixer's ``init_state``.

        Returns:
            The state of each layer, on the device of the parameters.

        Raises:
            ValueError: If the mixer has no state.
        """
        options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
        return tuple(
            block.init_state(batch, max_length=max_length, **options)
            if isinstance(block.mixer, CausalAttention)
            else block.init_state(batch, **options)
            for block in self.blocks()
        )

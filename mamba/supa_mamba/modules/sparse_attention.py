"""Causal self-attention between rows of similar direction as a mixer for the layers of a stack."""

from typing import Literal, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.inputs import check_fits, packed_rows
from supa_mamba.modules.options import check_at_least, check_rotary, named_options
from supa_mamba.modules.packed_attention import row_positions
from supa_mamba.modules.rotary import rotated
from supa_mamba.ops.dtypes import state_dtype
from supa_mamba.ops.sparse_attention.function import MOST_WIDTH, sparse_attention
from supa_mamba.ops.sparse_attention.hashing import random_rotations, rotated_buckets


class SparseAttention(nn.Module):
    """Mix the rows of each sequence by causal multi-head self-attention within hash buckets.

    Each head assigns its queries and keys to buckets by random rotations, and a row attends to itself and earlier rows
    of its bucket. This pays for sequences of many thousand rows, such as whole events; for single showers use
    `CausalAttention`.

    By default queries and keys share a projection, and keys have unit length. Rows of similar direction then share a
    bucket, and a row always attends at least to itself. With projections of their own, a query may find no key in its
    bucket; its head then adds nothing. The matrices of the hash do not change in training and are part of the state
    dictionary, under ``rotations``.

    There are no single steps and no state, so a stack with this mixer processes whole sequences only.

    Args:
        d_model: Number of features per row.
        num_heads: Number of attention heads. Must divide ``d_model``; a head has at most 128 features.
        buckets: Number of buckets, an even number from 2 to 32,768.
        bias: Whether the projections have a bias.
        shared_qk: Whether queries and keys share a projection. Otherwise the parameters have the names and shapes of
            `CausalAttention`.
        seed: Seed of the matrices of the hash.
        rotary_emb_dim: Number of rotated features of each head, as in `CausalAttention`. The buckets do not depend on
            the positions.
        device: Device of the parameters.
        dtype: Dtype of the parameters.

    Raises:
        ValueError: If ``num_heads`` does not divide ``d_model``, or an argument is out of range.

    Example:
        >>> import torch
        >>> from supa_mamba import HybridStack, SparseAttention
        >>> attention = SparseAttention(16, num_heads=2, buckets=4)
        >>> x, offset = torch.randn(8, 16), torch.tensor([0, 3, 8])  # sequences of 3 and 5 rows
        >>> attention(x, offset).shape
        torch.Size([8, 16])
        >>> stack = HybridStack(16, n_layer=3, attn_layer_idx=[1], num_heads=2, sparse_buckets=4, d_state=8)
        >>> stack(x, offset).shape
        torch.Size([8, 16])

    Source:
        Faster Causal Attention Over Large Sequences Through Sparse Flash Attention (arXiv 2306.01160), section 3.
        There a row never attends to itself.
    """

    rotations: Tensor

    @named_options
    def __init__(
        self,
        d_model: int,
        num_heads: int,
        buckets: int = 16,
        bias: bool = False,
        *,
        shared_qk: bool = True,
        seed: int = 0,
        rotary_emb_dim: int = 0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, d_model=d_model, num_heads=num_heads)
        if d_model % num_heads or d_model // num_heads > MOST_WIDTH:
            raise ValueError(
                f"num_heads: {num_heads} was given, but it must divide d_model, {d_model}, into heads of at most "
                f"{MOST_WIDTH} features."
            )
        self.d_model, self.num_heads, self.head_dim = d_model, num_heads, d_model // num_heads
        check_rotary(rotary_emb_dim, self.head_dim)
        self.buckets, self.shared_qk, self.rotary_emb_dim = buckets, shared_qk, rotary_emb_dim
        parts = 2 if shared_qk else 3
        self.in_proj = nn.Linear(d_model, parts * d_model, bias=bias, device=device, dtype=dtype)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias, device=device, dtype=dtype)
        rotations = random_rotations(num_heads, self.head_dim, buckets, seed)
        self.register_buffer("rotations", rotations.to(self.in_proj.weight))

    def forward(
        self, x: Tensor, offset: Tensor | None = None, state: None = None, *, return_state: Literal[False] = False
    ) -> Tensor:
        """Mix the rows of each sequence.

        Args:
            x: (T, d_model) packed rows if ``offset`` is given, otherwise a (B, L, d_model) padded batch.
            offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1``.
            state: Must be None, because this mixer has no state.
            return_state: Must be False.

        Returns:
            y, of the shape of ``x``.

        Raises:
            ValueError: If shapes, dtypes or devices do not match, or a state is passed or requested.
        """
        if state is not None or return_state:
            _refuse()
        rows, begins = packed_rows(x, offset, self.d_model)
        check_fits(rows, self.in_proj.weight)
        q, *own_k, v = self.in_proj(rows).unflatten(-1, (-1, self.num_heads, self.head_dim)).unbind(1)
        rotations = self.rotations.to(state_dtype(self.rotations))
        of_queries = rotated_buckets(q, rotations)
        of_keys = rotated_buckets(own_k[0], rotations) if own_k else None
        k = own_k[0] if own_k else functional.normalize(q, dim=-1).to(q.dtype)
        if self.rotary_emb_dim:
            position = row_positions(begins, rows.shape[0])[1]
            q, k, v = rotated(torch.stack([q, k, v], 1), position, self.rotary_emb_dim).unbind(1)
        mixed = sparse_attention(q, k, v, of_queries, of_keys, offset=begins)
        y: Tensor = self.out_proj(mixed.flatten(1))
        return y.reshape(x.shape)

    def step(self, x: Tensor, state: None, slots: Tensor | None = None) -> NoReturn:
        """Raise an error, because this mixer has no single steps.

        Args:
            x: Not used.
            state: Not used.
            slots: Not used.

        Raises:
            ValueError: Always.
        """
        _refuse()

    def init_state(self, batch: int) -> NoReturn:
        """Raise an error, because this mixer has no state.

        Args:
            batch: Not used.

        Raises:
            ValueError: Always.
        """
        _refuse()

    def extra_repr(self) -> str:
        """Return the options for the ``repr`` of the module."""
        rotary = f", rotary_emb_dim={self.rotary_emb_dim}" if self.rotary_emb_dim else ""
        numbers = f"d_model={self.d_model}, num_heads={self.num_heads}, buckets={self.buckets}"
        return f"{numbers}, shared_qk={self.shared_qk}{rotary}"


def _refuse() -> NoReturn:
    raise ValueError(
        "SparseAttention processes whole sequences, so it has no state and no single steps; "
        "use CausalAttention to generate row by row."
    )

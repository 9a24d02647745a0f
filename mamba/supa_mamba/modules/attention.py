"""Causal self-attention as a mixer for the attention layers of a stack."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa.checks import counted
from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.inputs import check_fits, check_step_rows, packed_rows
from supa_mamba.modules.norm import RMSNorm
from supa_mamba.modules.options import check_at_least, check_rotary, named_options
from supa_mamba.modules.packed_attention import (
    attend,
    differentiable,
    longest_length,
    padded,
    row_positions,
    values_readable,
)
from supa_mamba.modules.rotary import rotary_rates, rotated
from supa_mamba.modules.states import AttentionState
from supa_mamba.ops.attention_step.function import attention_step, supports_step
from supa_mamba.ops.row_linear.function import step_linear
from supa_mamba.ops.state_slots import check_no_gradients, normalize_slots

_EPS = 1e-5


class CausalAttention(nn.Module):
    """Mix the rows of each sequence by causal multi-head self-attention.

    By default the module has no positional encoding, because the Mamba layers of a stack encode the order of the rows.
    A stack without such layers needs rotary embeddings: ``rotary_emb_dim``. Names and shapes of the parameters are
    those of mamba_ssm's ``MHA``.

    On a GPU, half precision uses PyTorch's kernel for packed rows (PyTorch 2.11 or later). In all other cases the rows
    are padded internally. Gradients are bitwise reproducible only under ``torch.use_deterministic_algorithms``.

    Args:
        d_model: Number of features per row.
        num_heads: Number of attention heads.
        bias: Whether the projections have a bias.
        rotary_emb_dim: Number of features of each head that are rotated by angles proportional to the position of the
            row; an even number up to the features of a head, or 0. The base of the angles is 10000.
        head_dim: Number of features of each head, by default ``d_model / num_heads``.
        qk_norm: Whether the queries and keys of each head have an RMS norm, before rotation.
        device: Device of the parameters.
        dtype: Dtype of the parameters.

    Raises:
        ValueError: If ``num_heads`` does not divide ``d_model`` and there is no ``head_dim``, or ``rotary_emb_dim`` is
            not allowed.

    Example:
        >>> import torch
        >>> from supa_mamba import CausalAttention
        >>> attention = CausalAttention(16, num_heads=2)
        >>> x, offset = torch.randn(8, 16), torch.tensor([0, 3, 8])  # sequences of 3 and 5 rows
        >>> attention(x, offset).shape
        torch.Size([8, 16])
        >>> state = attention.init_state(2, max_length=10)  # two sequences of at most 10 rows
        >>> y, state = attention(x, offset, state, return_state=True)
        >>> attention.step(torch.randn(2, 16), state).shape  # one more row of each sequence
        torch.Size([2, 16])
        >>> state.lengths
        tensor([4, 6])

    Source:
        Attention Is All You Need (arXiv 1706.03762), equation 1: softmax(Q K^T / sqrt(head_dim)) V. Rotary
        embeddings: RoFormer (arXiv 2104.09864), section 3.2.
    """

    @named_options
    def __init__(
        self,
        d_model: int,
        num_heads: int,
        bias: bool = False,
        *,
        rotary_emb_dim: int = 0,
        head_dim: int | None = None,
        qk_norm: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, d_model=d_model, num_heads=num_heads)
        if head_dim is None and d_model % num_heads:
            raise ValueError(f"num_heads: {num_heads} was given, but it must divide d_model, {d_model}.")
        width = d_model // num_heads if head_dim is None else head_dim
        check_at_least(1, head_dim=width)
        self.d_model, self.num_heads, self.head_dim = d_model, num_heads, width
        check_rotary(rotary_emb_dim, self.head_dim)
        self.rotary_emb_dim = rotary_emb_dim
        inner = num_heads * width
        self.in_proj = nn.Linear(d_model, 3 * inner, bias=bias, device=device, dtype=dtype)
        self.out_proj = nn.Linear(inner, d_model, bias=bias, device=device, dtype=dtype)
        self.q_norm = RMSNorm(width, eps=_EPS, device=device, dtype=dtype) if qk_norm else None
        self.k_norm = RMSNorm(width, eps=_EPS, device=device, dtype=dtype) if qk_norm else None

    def forward(
        self,
        x: Tensor,
        offset: Tensor | None = None,
        state: AttentionState | None = None,
        *,
        max_length: int | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, AttentionState]:
        """Mix the rows of each sequence.

        Args:
            x: (T, d_model) packed rows if ``offset`` is given, otherwise a (B, L, d_model) padded batch.
            offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1``.
            state: Keys and values of the preceding rows, from `init_state` or an earlier call. It is not modified.
            max_length: Length of the longest packed sequence, or an upper bound. Without it the call synchronises with
                the GPU, and ``torch.compile`` cannot produce a single graph.
            return_state: Whether to also return the state after the last rows. This requires ``state``, whose size
                sets the maximum number of rows.

        Returns:
            y, of the shape of ``x``, and with ``return_state`` the state with S slots. Gradients flow through both.

        Raises:
            ValueError: If shapes, dtypes or devices do not match, or the state has too little capacity.
        """
        rows, begins = packed_rows(x, offset, self.d_model)
        check_fits(rows, self.in_proj.weight)
        longest = longest_length(x, begins, max_length)
        qkv = self.heads_of(self.in_proj(rows))
        if state is not None:
            mixed, state = _attend_and_remember(qkv, begins, longest, state, self.rotary_emb_dim)
        elif return_state:
            raise ValueError(
                "return_state: attention stores a fixed number of rows, which its state sets; "
                "also pass state=init_state(batch, max_length)."
            )
        else:
            if self.rotary_emb_dim:
                qkv = rotated(qkv, row_positions(begins, rows.shape[0])[1], self.rotary_emb_dim)
            mixed = attend(qkv, begins, longest)
        y: Tensor = self.out_proj(mixed.flatten(1)).reshape(x.shape)
        return y if state is None or not return_state else (y, state)

    def heads_of(self, projected: Tensor) -> Tensor:
        """Divide the results of ``in_proj`` into heads, and normalise queries and keys if they have norms.

        Args:
            projected: (T, 3 heads head_dim) results.

        Returns:
            (T, 3, heads, head_dim) queries, keys and values.
        """
        qkv = projected.view(-1, 3, self.num_heads, self.head_dim)
        if self.q_norm is None or self.k_norm is None:
            return qkv
        q, k, v = qkv.unbind(1)
        q, k = (norm(x, autocast=True)[0].to(v.dtype) for norm, x in ((self.q_norm, q), (self.k_norm, k)))
        return torch.stack([q, k, v], 1)

    @torch.no_grad()
    def step(self, x: Tensor, state: AttentionState, slots: Tensor | None = None) -> Tensor:
        """Mix one more row of each of M sequences and update their states in place, without gradients.

        On a CPU in single or double precision, and on a GPU in single precision, only the stored rows are read, and
        the bits of a row do not depend on the other rows. Otherwise all positions are read, and with ``slots`` the keys
        and values of these slots are copied before the computation.

        Args:
            x: (M, d_model) rows.
            state: State table with R slots, from `init_state` or `forward`.
            slots: (M,) integers, the slot of each sequence; see `Mamba.step`.

        Returns:
            (M, d_model) mixed rows.

        Raises:
            ValueError: If shapes, dtypes or devices do not match, or the state has too little capacity.
        """
        check_step_rows(x, self.d_model)
        check_fits(x, self.in_proj.weight)
        check_no_gradients("CausalAttention.step", "CausalAttention.forward", x)
        table, capacity, count = normalize_slots("slots", slots, x, state.lengths), _capacity(state), x.shape[0]
        if values_readable(table):
            if count and table.max() >= state.lengths.shape[0]:
                raise ValueError(
                    f"slots: {int(table.max())} was given, but the state has slots 0 to {state.lengths.shape[0] - 1}."
                )
            _check_room(state.lengths[table[table >= 0]] + 1, capacity)
        qkv = self.heads_of(step_linear(self.in_proj, x))
        if supports_step(qkv, state.keys, state.values):
            rates = rotary_rates(self.rotary_emb_dim, device=x.device)
            mixed = attention_step(qkv, *state, table, rates=rates)
            return step_linear(self.out_proj, mixed.flatten(1))
        live, table = (table >= 0).long(), table.clamp(min=0)
        lengths = state.lengths[table]
        q, k, v = rotated(qkv, lengths, self.rotary_emb_dim).unbind(1)
        position = torch.where(live > 0, _position(lengths, capacity), capacity)
        state.keys.index_put_((table, position), k.to(state.keys.dtype))
        state.values.index_put_((table, position), v.to(state.values.dtype))
        state.lengths.index_add_(0, table, live)
        keys, values = (
            (of_all[:count] if slots is None else of_all.index_select(0, table)).to(q.dtype).transpose(1, 2)
            for of_all in (state.keys, state.values)
        )
        seen = torch.arange(capacity + 1, device=x.device) <= lengths[:, None]
        y = functional.scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=seen[:, None, None])
        return step_linear(self.out_proj, y[:, :, 0].flatten(1))

    def init_state(self, batch: int, max_length: int, *, dtype: torch.dtype | None = None) -> AttentionState:
        """Return the initial state of empty sequences.

        Args:
            batch: Number of slots, R.
            max_length: Maximum number of rows per sequence.
            dtype: Dtype of keys and values. The default is the dtype of autocast if it is enabled, otherwise that of
                the parameters.

        Returns:
            A state of zeros on the device of the parameters.

        Raises:
            ValueError: If ``batch`` is not an integer of at least 0, or ``max_length`` not an integer of at least 1.
        """
        check_at_least(0, batch=batch)
        check_at_least(1, max_length=max_length)
        weight = self.in_proj.weight
        kind = weight.device.type
        if dtype is None:
            dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        shape = (batch, max_length + 1, self.num_heads, self.head_dim)
        lengths = torch.zeros(batch, dtype=torch.int64, device=weight.device)
        return AttentionState(weight.new_zeros(shape, dtype=dtype), weight.new_zeros(shape, dtype=dtype), lengths)

    def extra_repr(self) -> str:
        """Return the options for the ``repr`` of the module."""
        rotary = f", rotary_emb_dim={self.rotary_emb_dim}" if self.rotary_emb_dim else ""
        own = "" if self.head_dim * self.num_heads == self.d_model else f", head_dim={self.head_dim}"
        return f"d_model={self.d_model}, num_heads={self.num_heads}{own}{rotary}"


def _attend_and_remember(
    qkv: Tensor, offset: Tensor, longest: int, state: AttentionState, rotary_emb_dim: int
) -> tuple[Tensor, AttentionState]:
    sequences, capacity = offset.shape[0] - 1, _capacity(state)
    if state.lengths.shape[0] != sequences:
        raise ValueError(
            f"state: it has {counted(state.lengths.shape[0], 'slot')}, but x has {counted(sequences, 'sequence')}."
        )
    lengths = state.lengths + offset.diff()
    if values_readable(lengths):
        _check_room(lengths, capacity)
    sequence, place = row_positions(offset, qkv.shape[0])
    position = state.lengths[sequence] + place
    where = (sequence, _position(position, capacity))
    q, k, v = rotated(qkv, position, rotary_emb_dim).unbind(1)
    keys = state.keys.index_put(where, k.to(state.keys.dtype))
    values = state.values.index_put(where, v.to(state.values.dtype))
    after = AttentionState(keys, values, lengths)
    if not qkv.shape[0]:
        return q, after
    batch, index = padded(q, sequence, place, sequences, longest)
    steps = torch.arange(longest, device=q.device)
    seen = torch.arange(capacity + 1, device=q.device) <= (state.lengths[:, None] + steps)[:, :, None]
    batch, keys, values = (differentiable(x.to(q.dtype).transpose(1, 2)) for x in (batch, keys, values))
    y = functional.scaled_dot_product_attention(batch, keys, values, attn_mask=seen[:, None])
    return y.transpose(1, 2).flatten(0, 1).index_select(0, index), after


def _capacity(state: AttentionState) -> int:
    return state.keys.shape[1] - 1


def _position(place: Tensor, capacity: int) -> Tensor:
    # An index beyond the spare position is out of bounds, so that PyTorch raises an error on a GPU, too.
    return torch.where(place < capacity, place, capacity + 1)


def _check_room(lengths: Tensor, capacity: int) -> None:
    if (lengths > capacity).any():
        raise ValueError(
            f"state: it can store {counted(capacity, 'row')} per sequence, but {int(lengths.max())} are required; "
            "pass a larger max_length to init_state."
        )

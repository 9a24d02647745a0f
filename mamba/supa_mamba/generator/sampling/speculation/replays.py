"""Passes of a stack over several drafted rows of each sequence, which can be rolled back."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.block import DeferredSum, scaled
from supa_mamba.modules.hybrid import HybridStack
from supa_mamba.modules.initialisation import rates
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.options import convolution_activation
from supa_mamba.modules.rotary import rotary_rates
from supa_mamba.modules.ssm_branch import normalised
from supa_mamba.modules.stack import BlockStack
from supa_mamba.modules.states import AttentionState, MambaState, StackState
from supa_mamba.ops.attention_step.function import attention_step
from supa_mamba.ops.causal_conv1d_update.replay import causal_conv1d_replay
from supa_mamba.ops.conv_ssd_norm.columns import Columns, Selected
from supa_mamba.ops.row_linear.function import row_linear, step_linear
from supa_mamba.ops.selective_state_update.cache import ReplayCache
from supa_mamba.ops.selective_state_update.replay import selective_state_replay


def stack_state(stack: Any, slots: int, most_rows: int) -> StackState:
    """Return the float32 state of a stack.

    Args:
        stack: The stack.
        slots: Number of slots.
        most_rows: Largest number of rows of a sequence.

    Returns:
        The states of the layers.
    """
    longest = (most_rows,) if isinstance(stack, HybridStack) else ()
    state: StackState = stack.init_state(slots, *longest, dtype=torch.float32)
    return state


class ReplayStack:
    """A stack that scores K drafted rows of each of R sequences in one pass.

    The states stay before the drafted rows. The next call says how many of them were accepted: layers of Mamba replay
    their inputs, and attention overwrites the keys and values of the others.

    Args:
        stack: Stack of `Mamba`, `Mamba2` and `CausalAttention`, in float32.
        slots: Number of sequences, R.
        inputs: Number of rows of a call, K.
        most_rows: Largest number of rows of a sequence, drafted ones included.
    """

    def __init__(self, stack: BlockStack, slots: int, inputs: int, most_rows: int) -> None:
        self._stack, self._inputs = stack, inputs
        self.state = stack_state(stack, slots, most_rows)
        self.lengths = stack.norm_f.weight.new_zeros(slots, dtype=torch.int64)
        self._slots = torch.arange(slots, device=self.lengths.device)
        self._caches = [self._cache(block.mixer, of) for block, of in zip(stack.blocks(), self.state, strict=True)]

    def _cache(self, mixer: Any, state: Any) -> tuple[Tensor, ReplayCache] | None:
        if isinstance(state, AttentionState):
            return None
        rows = state.conv.new_zeros(state.conv.shape[0], self._inputs, state.conv.shape[1])
        return rows, ReplayCache.empty(state.ssm, self._inputs, groups=mixer.ngroups)

    def clear(self, slots: Tensor) -> None:
        """Prepare slots for new sequences, of whose inputs none is accepted in the next call.

        Args:
            slots: (M,) int64 slots.
        """
        self.lengths.index_fill_(0, slots, 0)
        for layer in self.state:
            if isinstance(layer, MambaState):
                layer.conv.index_fill_(0, slots, 0.0)
                layer.ssm.index_fill_(0, slots, 0.0)

    def score(self, x: Tensor, accepted: Tensor) -> Tensor:
        """Advance the states past the accepted rows of the last call, and score new rows.

        Args:
            x: (R, K, d_model) rows.
            accepted: (R,) int64 numbers of accepted rows of the last call.

        Returns:
            (R, K, d_model) results.
        """
        self.lengths += accepted
        rows = self._stack.first_sum(x.flatten(0, 1))
        for block, state, cache in zip(self._stack.blocks(), self.state, self._caches, strict=True):
            normed, residual = block.norm(*rows)
            update = scaled(self._mixed(block.mixer, normed, state, cache, accepted), block.gain)
            if block.norm2 is not None and block.mlp is not None:
                normed, residual = block.norm2(residual, update)
                update = scaled(block.mlp.step(normed), block.gain2)
            rows = DeferredSum(residual, update)
        y: Tensor = self._stack.norm_f(*rows)[0]
        return y.view_as(x)

    def _mixed(self, mixer: Any, x: Tensor, state: Any, cache: Any, accepted: Tensor) -> Tensor:
        if isinstance(mixer, CausalAttention):
            return self._attended(mixer, x, state)
        projected = step_linear(mixer.in_proj, x)
        mix: Any = _replay_mamba2 if isinstance(mixer, Mamba2) else _replay_mamba
        return step_linear(mixer.out_proj, mix(mixer, projected, state, *cache, accepted))

    def _attended(self, mixer: CausalAttention, x: Tensor, state: AttentionState) -> Tensor:
        qkv = mixer.heads_of(step_linear(mixer.in_proj, x))
        qkv = qkv.view(-1, self._inputs, *qkv.shape[1:])
        state.lengths.copy_(self.lengths)
        of_position = rotary_rates(mixer.rotary_emb_dim, device=x.device)
        found = [
            attention_step(qkv[:, i].contiguous(), *state, self._slots, rates=of_position) for i in range(self._inputs)
        ]
        return step_linear(mixer.out_proj, torch.stack(found, 1).flatten(0, 1).flatten(1))


def _replay_mamba2(
    mixer: Mamba2, projected: Tensor, state: MambaState, rows: Tensor, cache: ReplayCache, accepted: Tensor
) -> Tensor:
    def by_sequence(values: Tensor) -> Tensor:
        return values.reshape(*rows.shape[:2], *values.shape[1:])

    z, mixed, delta = Columns.of(projected, mixer.d_inner, mixer.conv1d.in_channels)
    mixed = causal_conv1d_replay(
        by_sequence(mixed), state.conv, rows, mixer.conv1d.weight.squeeze(1), mixer.conv1d.bias,
        convolution_activation(mixer.activation), accepted=accepted,
    )  # fmt: skip
    u, B, C = Selected.of(mixed.flatten(0, 1), mixer.d_inner, mixer.nheads, mixer.ngroups)
    if mixer.norms is not None:
        delta, B, C = normalised(mixer.norms, delta, B, C)
    y = selective_state_replay(
        state.ssm, cache, by_sequence(u), by_sequence(delta), rates(mixer.A_log), by_sequence(B), by_sequence(C),
        mixer.D, None, mixer.dt_bias, True, accepted=accepted,
    ).flatten(2).flatten(0, 1)  # fmt: skip
    gated: Tensor = y * functional.silu(z) if mixer.norm is None else mixer.norm(y, z)
    return gated


def _replay_mamba(
    mixer: Mamba, projected: Tensor, state: MambaState, rows: Tensor, cache: ReplayCache, accepted: Tensor
) -> Tensor:
    def by_sequence(values: Tensor) -> Tensor:
        return values.reshape(*rows.shape[:2], *values.shape[1:])

    u, z = projected.chunk(2, dim=1)
    u = causal_conv1d_replay(
        by_sequence(u), state.conv, rows, mixer.conv1d.weight.squeeze(1), mixer.conv1d.bias,
        convolution_activation(mixer.activation), accepted=accepted,
    )  # fmt: skip
    steps, B, C = mixer.branch.split(step_linear(mixer.x_proj, u.flatten(0, 1)))
    delta = row_linear(steps.contiguous(), mixer.dt_proj.weight)
    return selective_state_replay(
        state.ssm, cache, u, by_sequence(delta), rates(mixer.A_log), by_sequence(B), by_sequence(C), mixer.D,
        by_sequence(z), mixer.dt_proj.bias, True, accepted=accepted,
    ).flatten(0, 1)  # fmt: skip

"""Steps of a stack on a CPU as calls of compiled loops.

The loops are those of the modules' ``step``. Here they are called without its checks and without tensors, because these
take a hundred times as long as a step of a single row. A call processes some rows, whose results do not depend on other
rows, so several threads may call at the same time for different rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from supa.arrays import Array, IntArray
from supa.compiler import fast_kernel
from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.block import MambaBlock, scaled
from supa_mamba.modules.initialisation import rates
from supa_mamba.modules.int8 import Int8Linear
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.mlp import GatedMLP
from supa_mamba.modules.norm import ResidualSum, RMSNorm
from supa_mamba.modules.rotary import rotary_rates
from supa_mamba.modules.stack import BlockStack
from supa_mamba.modules.states import AttentionState, MambaState, StackState
from supa_mamba.ops.attention_step import compiled_kernels as attention
from supa_mamba.ops.causal_conv1d_update import compiled_kernels as convolution
from supa_mamba.ops.compiled import array_of
from supa_mamba.ops.gated_rms_norm import compiled_kernels as gated_norm
from supa_mamba.ops.row_linear import compiled_kernels as linear
from supa_mamba.ops.selective_state_update import compiled_kernels as states

Step = Callable[[Array, IntArray, IntArray], Array]
"""Function of (M K, features) rows, K for each sequence, of the (M,) slots of the sequences, and of the (M,) numbers of
accepted rows of the last call, that returns (M K, features) rows."""

_NO_INTEGERS = np.zeros(0, np.int64)
_FLOAT32 = torch.empty(0)


def float_array(x: Tensor) -> Array:
    """Return a contiguous float32 array with the values of a parameter.

    Args:
        x: Parameter on the CPU.

    Returns:
        The array.
    """
    return array_of(x, _FLOAT32, ())


class Linear:
    """A linear layer for compiled loops.

    Args:
        layer: The layer.
        bias: Whether its bias is added.
        gain: Factor of the results, or None for 1.
    """

    def __init__(self, layer: nn.Linear, *, bias: bool = True, gain: Tensor | None = None) -> None:
        self.weight = float_array(scaled(layer.weight, gain))
        self.bias: Array = np.zeros(len(self.weight), np.float32)
        if bias and layer.bias is not None:
            self.bias = float_array(scaled(layer.bias, gain))

    def __call__(self, x: Array, *, use_silu: bool = False) -> Array:
        """Apply the layer.

        Args:
            x: (M, K) rows.
            use_silu: Whether to apply SiLU.

        Returns:
            (M, N) rows.
        """
        y = np.empty((len(x), len(self.weight)), np.float32)
        arguments: list[Any] = [x, self.weight, self.bias, use_silu, 0, len(x), y]
        linear.multiply_rows(*arguments)
        return y


def _projection(layer: nn.Linear, gain: Tensor | None = None) -> Callable[[Array], Array]:
    """Return a layer that can have integers of 8 bits, times a factor."""
    if not isinstance(layer, Int8Linear):
        return Linear(layer, gain=gain)
    if gain is None:
        return layer.multiply_rows
    factor: Any = np.float32(gain.item())
    return lambda x: layer.multiply_rows(x) * factor


class Perceptron:
    """A perceptron with one hidden layer and SiLU, for compiled loops.

    Args:
        layers: The layers.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        self._hidden, self._result = (Linear(layer) for layer in layers if isinstance(layer, nn.Linear))

    def __call__(self, x: Array) -> Array:
        """Apply the perceptron.

        Args:
            x: (M, K) rows.

        Returns:
            (M, N) rows.
        """
        return self._result(self._hidden(x, use_silu=True))


class CpuStack:
    """A stack and its states, for steps on a CPU.

    With drafted rows, a call scores K rows of each sequence. The states stay before these rows: the next call says how
    many of them were accepted. Layers of Mamba then replay their inputs, and attention overwrites the keys and values
    of the others.

    Args:
        stack: Stack of `Mamba`, `Mamba2` and `CausalAttention`, in float32.
        state: Its states, which the steps update in place.
        drafted: Number of drafted rows of each sequence in a call, K; 0 if each call is one step.
    """

    def __init__(self, stack: BlockStack, state: StackState, drafted: int = 0) -> None:
        self._first = None if stack.norm_in is None else _Norm(stack.norm_in)
        self._layers: list[tuple[_Norm | None, Step]] = []  # a norm, and what follows it
        for block, of_block in zip(stack.blocks(), state, strict=True):
            mix = _mixer_step(block, of_block, drafted)
            self._layers.append((_norm_of(block.norm), mix))
            if block.norm2 is not None and block.mlp is not None:
                self._layers.append((_norm_of(block.norm2), _mlp_step(block.mlp, block.gain2)))
        self._last = _Norm(stack.norm_f)

    def step(self, x: Array, slots: IntArray) -> Array:
        """Apply the stack to one more row of each of M sequences.

        Args:
            x: (M, d_model) float32 rows, which are overwritten.
            slots: (M,) int64 slots of the sequences.

        Returns:
            (M, d_model) float32 rows.
        """
        return self.score(x, slots, _NO_INTEGERS)

    def score(self, x: Array, slots: IntArray, accepted: IntArray) -> Array:
        """Advance the states past the accepted rows of the last call, and score K drafted rows of each sequence.

        Args:
            x: (M K, d_model) float32 rows, which are overwritten. Those of a sequence are neighbours.
            slots: (M,) int64 slots of the sequences.
            accepted: (M,) int64 numbers of accepted rows of the last call; 0 for a new sequence.

        Returns:
            (M K, d_model) float32 rows.
        """
        update = np.zeros_like(x)
        if self._first is not None:
            x = self._first(x)
        for norm, follow in self._layers:
            if norm is None:
                np.add(x, update, out=x)
                update = follow(x, slots, accepted)
            else:
                update = follow(norm.of_sum(x, update), slots, accepted)
        return self._last.of_sum(x, update)


class _Norm:
    """An RMS norm for compiled loops.

    Args:
        norm: The norm.
    """

    def __init__(self, norm: RMSNorm) -> None:
        self._weight, self._eps = float_array(norm.weight), norm.eps

    def of_sum(self, x: Array, update: Array) -> Array:
        """Add an update to rows in place, and return the norm of the sums."""
        y = np.empty_like(x)
        _add_and_normalise(x, update, self._weight, self._eps, y)
        return y

    def __call__(self, x: Array) -> Array:
        """Return the norm of consecutive pieces of contiguous rows."""
        pieces = x.reshape(-1, len(self._weight))
        return self.of_sum(pieces, np.zeros_like(pieces)).reshape(x.shape)


def _norm_of(norm: RMSNorm | ResidualSum | None) -> _Norm | None:
    return _Norm(norm) if isinstance(norm, RMSNorm) else None


def _as_given(x: Array) -> Array:
    return x


@fast_kernel
def _add_and_normalise(x: Any, update: Any, weight: Any, eps: float, y: Any) -> None:
    """Add updates to rows in place, and write the RMS norm of the sums."""
    width = x.shape[1]
    for m in range(len(x)):
        row, of_update, of_y = x[m], update[m], y[m]
        total = row.dtype.type(0)
        for d in range(width):
            row[d] += of_update[d]
        for d in range(width):
            total += row[d] * row[d]
        scale = row.dtype.type(1) / np.sqrt(total / row.dtype.type(width) + row.dtype.type(eps))
        for d in range(width):
            of_y[d] = row[d] * scale * weight[d]


def _mixer_step(block: MambaBlock, state: Any, drafted: int) -> Step:
    mixer = block.mixer
    if isinstance(mixer, Mamba2):
        return _mamba2_step(mixer, state, drafted, block.gain)
    if isinstance(mixer, Mamba):
        return _mamba_step(mixer, state, drafted, block.gain)
    if isinstance(mixer, CausalAttention):
        return _attention_step(mixer, state, drafted, block.gain)
    raise ValueError(f"{type(mixer).__name__} cannot be sampled; a generator has Mamba, Mamba2 and CausalAttention.")


def _mlp_step(mlp: GatedMLP, gain: Tensor | None) -> Step:
    fc1, fc2 = _projection(mlp.fc1), _projection(mlp.fc2, gain)

    def step(x: Array, _slots: IntArray, _accepted: IntArray) -> Array:
        hidden = fc1(x)
        y = np.empty((len(x), hidden.shape[1] // 2), np.float32)
        arguments: list[Any] = [hidden, 0, len(x), y]
        linear.gate_rows(*arguments)
        return fc2(y)

    return step


def _convolution_step(layer: nn.Conv1d, state: Array, drafted: int, *, use_silu: bool) -> Step:
    weight, channels = float_array(layer.weight.squeeze(1).t()), layer.in_channels
    bias = np.zeros(channels, np.float32) if layer.bias is None else float_array(layer.bias)
    cache = _cache(state, drafted, channels)

    def step(x: Array, slots: IntArray, accepted: IntArray) -> Array:
        inputs = x.reshape(len(slots), -1, channels)
        y = np.empty_like(inputs)
        arguments: list[Any] = [
            state, cache, inputs, weight, bias, accepted, _NO_INTEGERS, slots, use_silu, 0, len(slots), y
        ]  # fmt: skip
        convolution.take_steps(*arguments)
        if drafted:
            cache[slots] = inputs
        return y.reshape(-1, channels)

    return step


class _Recurrence:
    """Recurrence of Mamba or Mamba-2 with E entries of parameters.

    Args:
        A: (E, N) decay rates, or (E, 1).
        D: (E,) skip weights.
        bias: (E,) bias of the step sizes.
        state: (R, channels, N) states.
        groups: Number of groups of channels that share B and C.
        drafted: Number of drafted rows of each sequence in a call, or 0.
    """

    def __init__(self, A: Array, D: Array, bias: Array, state: Array, groups: int, drafted: int) -> None:
        self._A, self._D, self._bias, self._state, self._groups = A, D, bias, state, groups
        entries, self._drafted = len(A), drafted
        self._caches = (
            _cache(state, drafted, state.shape[1]), _cache(state, drafted, entries),
            _cache(state, drafted, groups, state.shape[2]),
        )  # fmt: skip

    def __call__(
        self, u: Array, dt: Array, B: Array, C: Array, gate: Array | None, slots: IntArray, accepted: IntArray
    ) -> Array:
        count, channels = len(slots), u.shape[1]
        per_group = (count, -1, self._groups, self._state.shape[2])
        inputs, dt, B, C = (
            u.reshape(count, -1, channels),
            dt.reshape(count, -1, dt.shape[1]),
            *(x.reshape(per_group) for x in (B, C)),
        )
        z = np.zeros((0, 1, channels), np.float32) if gate is None else gate.reshape(inputs.shape)
        y = np.empty_like(inputs)
        arguments: list[Any] = [
            self._state, *self._caches, inputs, dt, self._A, B, C, self._D, z, self._bias, accepted, slots, True, 0,
            count, y,
        ]  # fmt: skip
        states.take_steps(*arguments)
        if self._drafted:
            for cache, new in zip(self._caches, (inputs, dt, B), strict=True):
                cache[slots] = new
        return y.reshape(-1, channels)


def _cache(state: Array, drafted: int, *features: int) -> Array:
    """Return a table of the drafted inputs of all slots, or an empty one if there are none."""
    return np.zeros((len(state) if drafted else 0, max(drafted, 1), *features), np.float32)


def _mamba2_step(mixer: Mamba2, state: MambaState, drafted: int, gain: Tensor | None) -> Step:
    enter, leave = _projection(mixer.in_proj), _projection(mixer.out_proj, gain)
    convolve = _convolution_step(mixer.conv1d, state.conv.numpy(), drafted, use_silu=mixer.activation == "silu")
    recur = _Recurrence(
        float_array(rates(mixer.A_log))[:, None], float_array(mixer.D), float_array(mixer.dt_bias),
        state.ssm.flatten(1, 2).numpy(), mixer.ngroups, drafted,
    )  # fmt: skip
    inner, mixed, each = mixer.d_inner, mixer.conv1d.in_channels, mixer.ngroups * mixer.d_state
    of_dt, of_B, of_C = _state_norms(mixer)
    norm = None
    if mixer.norm is not None:
        norm = float_array(mixer.norm.weight), mixer.norm.groups, mixer.norm.eps, mixer.norm.norm_before_gate

    def step(x: Array, slots: IntArray, accepted: IntArray) -> Array:
        projected = enter(x)
        z, dt = _columns(projected, 0, inner), of_dt(_columns(projected, inner + mixed, None))
        u = convolve(_columns(projected, inner, inner + mixed), slots, accepted)
        B, C = of_B(_columns(u, inner, inner + each)), of_C(_columns(u, inner + each, None))
        if norm is None:
            return leave(recur(_columns(u, 0, inner), dt, B, C, z, slots, accepted))
        y = recur(_columns(u, 0, inner), dt, B, C, None, slots, accepted)
        normalised = np.empty_like(y)
        arguments: list[Any] = [y, z, *norm, 0, len(x), normalised]
        gated_norm.norm_forward(*arguments)
        return leave(normalised)

    return step


def _state_norms(mixer: Mamba | Mamba2) -> list[Callable[[Array], Array]]:
    """Return the norms of step sizes, B and C, or functions that change nothing."""
    return [_as_given] * 3 if mixer.norms is None else [_Norm(norm) for norm in mixer.norms]


def _mamba_step(mixer: Mamba, state: MambaState, drafted: int, gain: Tensor | None) -> Step:
    enter, leave = _projection(mixer.in_proj), _projection(mixer.out_proj, gain)
    select, spread = _projection(mixer.x_proj), Linear(mixer.dt_proj, bias=False)
    convolve = _convolution_step(mixer.conv1d, state.conv.numpy(), drafted, use_silu=mixer.activation == "silu")
    recur = _Recurrence(
        float_array(rates(mixer.A_log)), float_array(mixer.D), float_array(mixer.dt_proj.bias), state.ssm.numpy(),
        mixer.ngroups, drafted,
    )  # fmt: skip
    inner, rank, each = mixer.d_inner, mixer.dt_rank, mixer.ngroups * mixer.d_state
    of_dt, of_B, of_C = _state_norms(mixer)

    def step(x: Array, slots: IntArray, accepted: IntArray) -> Array:
        projected = enter(x)
        u = convolve(_columns(projected, 0, inner), slots, accepted)
        selected = select(u)
        dt, z = spread(of_dt(_columns(selected, 0, rank))), _columns(projected, inner, None)
        B, C = of_B(_columns(selected, rank, rank + each)), of_C(_columns(selected, rank + each, None))
        return leave(recur(u, dt, B, C, z, slots, accepted))

    return step


def _attention_step(mixer: CausalAttention, state: AttentionState, drafted: int, gain: Tensor | None) -> Step:
    enter, leave = _projection(mixer.in_proj), _projection(mixer.out_proj, gain)
    keys, values, lengths = (tensor.numpy() for tensor in state)
    angles, heads, width = rotary_rates(mixer.rotary_emb_dim).numpy(), mixer.num_heads, mixer.head_dim
    norms = [None if norm is None else _Norm(norm) for norm in (mixer.q_norm, mixer.k_norm)]

    def step(x: Array, slots: IntArray, accepted: IntArray) -> Array:
        if drafted:
            # The rows of a sequence are processed one after another, as in steps.
            lengths[slots] -= np.where(lengths[slots] > 0, drafted, 0) - accepted
            slots = np.repeat(slots, drafted)
        qkv, y = enter(x).reshape(-1, 3, heads, width), np.empty((len(x), heads, width), np.float32)
        for part, norm in enumerate(norms):
            if norm is not None:
                qkv[:, part] = norm(np.ascontiguousarray(qkv[:, part]))
        arguments: list[Any] = [qkv, keys, values, lengths, angles, slots, 0, len(x), y]
        attention.take_steps(*arguments)
        return leave(y.reshape(len(x), -1))

    return step


def _columns(x: Array, first: int, last: int | None) -> Array:
    """Return contiguous columns, for which the loops are compiled."""
    return np.ascontiguousarray(x[:, first:last])

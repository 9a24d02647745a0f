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
from supa_mamba.modules.block import MambaBlock
from supa_mamba.modules.initialisation import rates
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.mlp import GatedMLP
from supa_mamba.modules.rotary import rotary_rates
from supa_mamba.modules.stack import BlockStack
from supa_mamba.modules.states import AttentionState, MambaState, StackState
from supa_mamba.ops.attention_step import compiled_kernels as attention
from supa_mamba.ops.causal_conv1d_update import compiled_kernels as convolution
from supa_mamba.ops.compiled import array_of
from supa_mamba.ops.gated_rms_norm import compiled_kernels as gated_norm
from supa_mamba.ops.row_linear import compiled_kernels as linear
from supa_mamba.ops.selective_state_update import compiled_kernels as states

Step = Callable[[Array, IntArray], Array]
"""Function of (M, features) rows and their (M,) slots that returns (M, features) rows."""

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
    """

    def __init__(self, layer: nn.Linear, *, bias: bool = True) -> None:
        self.weight = float_array(layer.weight)
        self.bias: Array = np.zeros(len(self.weight), np.float32)
        if bias and layer.bias is not None:
            self.bias = float_array(layer.bias)

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

    Args:
        stack: Stack of `Mamba`, `Mamba2` and `CausalAttention`, in float32.
        state: Its states, which the steps update in place.
    """

    def __init__(self, stack: BlockStack, state: StackState) -> None:
        self._layers: list[tuple[Array, float, Step]] = []  # weight and epsilon of a norm, and what follows it
        for block, of_block in zip(stack.blocks(), state, strict=True):
            self._layers.append((float_array(block.norm.weight), block.norm.eps, _mixer_step(block, of_block)))
            if block.norm2 is not None and block.mlp is not None:
                self._layers.append((float_array(block.norm2.weight), block.norm2.eps, _mlp_step(block.mlp)))
        self._last = float_array(stack.norm_f.weight), stack.norm_f.eps

    def step(self, x: Array, slots: IntArray) -> Array:
        """Apply the stack to one more row of each of M sequences.

        Args:
            x: (M, d_model) float32 rows, which are overwritten.
            slots: (M,) int64 slots of the sequences.

        Returns:
            (M, d_model) float32 rows.
        """
        update = np.zeros_like(x)
        for weight, eps, follow in self._layers:
            update = follow(_added_and_normalised(x, update, weight, eps), slots)
        return _added_and_normalised(x, update, *self._last)


def _added_and_normalised(x: Array, update: Array, weight: Array, eps: float) -> Array:
    y = np.empty_like(x)
    _add_and_normalise(x, update, weight, eps, y)
    return y


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


def _mixer_step(block: MambaBlock, state: Any) -> Step:
    mixer = block.mixer
    if isinstance(mixer, Mamba2):
        return _mamba2_step(mixer, state)
    if isinstance(mixer, Mamba):
        return _mamba_step(mixer, state)
    if isinstance(mixer, CausalAttention):
        return _attention_step(mixer, state)
    raise ValueError(f"{type(mixer).__name__} cannot be sampled; a generator has Mamba, Mamba2 and CausalAttention.")


def _mlp_step(mlp: GatedMLP) -> Step:
    fc1, fc2 = Linear(mlp.fc1), Linear(mlp.fc2)

    def step(x: Array, _: IntArray) -> Array:
        hidden = fc1(x)
        y = np.empty((len(x), hidden.shape[1] // 2), np.float32)
        arguments: list[Any] = [hidden, 0, len(x), y]
        linear.gate_rows(*arguments)
        return fc2(y)

    return step


def _convolution_step(layer: nn.Conv1d, state: Array, *, use_silu: bool = True) -> Step:
    weight, channels = float_array(layer.weight.squeeze(1).t()), layer.in_channels
    bias = np.zeros(channels, np.float32) if layer.bias is None else float_array(layer.bias)
    no_cache = np.zeros((0, 1, channels), np.float32)

    def step(x: Array, slots: IntArray) -> Array:
        inputs, y = x[:, None], np.empty((len(x), 1, channels), np.float32)
        arguments: list[Any] = [
            state, no_cache, inputs, weight, bias, _NO_INTEGERS, _NO_INTEGERS, slots, use_silu, 0, len(x), y
        ]  # fmt: skip
        convolution.take_steps(*arguments)
        return y[:, 0]

    return step


class _Recurrence:
    """Recurrence of Mamba or Mamba-2 with E entries of parameters.

    Args:
        A: (E, N) decay rates, or (E, 1).
        D: (E,) skip weights.
        bias: (E,) bias of the step sizes.
        state: (R, channels, N) states.
        groups: Number of groups of channels that share B and C.
    """

    def __init__(self, A: Array, D: Array, bias: Array, state: Array, groups: int) -> None:
        self._A, self._D, self._bias, self._state, self._groups = A, D, bias, state, groups

    def __call__(self, u: Array, dt: Array, B: Array, C: Array, gate: Array | None, slots: IntArray) -> Array:
        count, states_ = len(u), self._state.shape[2]
        per_group = (count, 1, self._groups, states_)
        z = np.zeros((0, 1, u.shape[1]), np.float32) if gate is None else gate[:, None]
        none = np.zeros((0, 1, u.shape[1]), np.float32)
        y = np.empty((count, 1, u.shape[1]), np.float32)
        arguments: list[Any] = [
            self._state, none, np.zeros((0, 1, 1), np.float32), np.zeros((0, 1, self._groups, states_), np.float32),
            u[:, None], dt[:, None], self._A, B.reshape(per_group), C.reshape(per_group), self._D, z, self._bias,
            _NO_INTEGERS, slots, True, 0, count, y,
        ]  # fmt: skip
        states.take_steps(*arguments)
        return y[:, 0]


def _mamba2_step(mixer: Mamba2, state: MambaState) -> Step:
    enter, leave = Linear(mixer.in_proj), Linear(mixer.out_proj)
    convolve = _convolution_step(mixer.conv1d, state.conv.numpy(), use_silu=mixer.activation == "silu")
    recur = _Recurrence(
        float_array(rates(mixer.A_log))[:, None], float_array(mixer.D), float_array(mixer.dt_bias),
        state.ssm.flatten(1, 2).numpy(), mixer.ngroups,
    )  # fmt: skip
    inner, mixed, each = mixer.d_inner, mixer.conv1d.in_channels, mixer.ngroups * mixer.d_state
    norm = None
    if mixer.norm is not None:
        norm = float_array(mixer.norm.weight), mixer.norm.groups, mixer.norm.eps, mixer.norm.norm_before_gate

    def step(x: Array, slots: IntArray) -> Array:
        projected = enter(x)
        z, dt = _columns(projected, 0, inner), _columns(projected, inner + mixed, None)
        u = convolve(_columns(projected, inner, inner + mixed), slots)
        B, C = _columns(u, inner, inner + each), _columns(u, inner + each, None)
        if norm is None:
            return leave(recur(_columns(u, 0, inner), dt, B, C, z, slots))
        y = recur(_columns(u, 0, inner), dt, B, C, None, slots)
        normalised = np.empty_like(y)
        arguments: list[Any] = [y, z, *norm, 0, len(x), normalised]
        gated_norm.norm_forward(*arguments)
        return leave(normalised)

    return step


def _mamba_step(mixer: Mamba, state: MambaState) -> Step:
    enter, leave = Linear(mixer.in_proj), Linear(mixer.out_proj)
    select, spread = Linear(mixer.x_proj), Linear(mixer.dt_proj, bias=False)
    convolve = _convolution_step(mixer.conv1d, state.conv.numpy())
    recur = _Recurrence(
        float_array(rates(mixer.A_log)), float_array(mixer.D), float_array(mixer.dt_proj.bias), state.ssm.numpy(), 1
    )
    inner, rank, each = mixer.d_inner, mixer.dt_rank, mixer.d_state

    def step(x: Array, slots: IntArray) -> Array:
        projected = enter(x)
        u = convolve(_columns(projected, 0, inner), slots)
        selected = select(u)
        dt, z = spread(_columns(selected, 0, rank)), _columns(projected, inner, None)
        B, C = _columns(selected, rank, rank + each), _columns(selected, rank + each, None)
        return leave(recur(u, dt, B, C, z, slots))

    return step


def _attention_step(mixer: CausalAttention, state: AttentionState) -> Step:
    enter, leave = Linear(mixer.in_proj), Linear(mixer.out_proj)
    keys, values, lengths = (tensor.numpy() for tensor in state)
    angles, heads, width = rotary_rates(mixer.rotary_emb_dim).numpy(), mixer.num_heads, mixer.head_dim

    def step(x: Array, slots: IntArray) -> Array:
        qkv, y = enter(x).reshape(-1, 3, heads, width), np.empty((len(x), heads, width), np.float32)
        arguments: list[Any] = [qkv, keys, values, lengths, angles, slots, 0, len(x), y]
        attention.take_steps(*arguments)
        return leave(y.reshape(len(x), -1))

    return step


def _columns(x: Array, first: int, last: int | None) -> Array:
    """Return contiguous columns, for which the loops are compiled."""
    return np.ascontiguousarray(x[:, first:last])

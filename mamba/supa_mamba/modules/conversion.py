"""Conversion of attention layers into layers of Mamba-2 or Mamba with the same projections."""

import copy
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn

from supa.checks import counted
from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.options import ConvertedMixer
from supa_mamba.modules.stack import BlockStack

S = TypeVar("S", bound=BlockStack)

OPEN_GATE = 1.2784645427610738
"""Argument at which SiLU is 1."""
UNIT_STEP = math.log(math.e - 1)
"""Argument at which softplus is 1."""
SLOW_RATE = 2.0**-10
"""Decay rate of a converted layer. A state keeps 90 % over about 100 rows."""
SLOWEST, FASTEST = 2.0**-5, 2.0
"""Decay rates of the first and the last head of a fitted layer."""
RIDGE = 1e-2
"""Penalty of the squared weights, in units of the mean squared feature.

Features of a head are nearly linearly dependent. Without the penalty the weights are large, and the first steps of the
training increase the error."""

_LEAST_STEP = 1e-4


def converted_options(
    d_model: int, num_heads: int, head_dim: int | None = None, *, mixer: ConvertedMixer = "mamba2"
) -> dict[str, Any]:
    """Return the options of the mixer of a layer that replaces attention.

    Args:
        d_model: Number of features per row.
        num_heads: Number of attention heads.
        head_dim: Number of features of each head, by default ``d_model / num_heads``.
        mixer: ``"mamba2"`` or ``"mamba"``.

    Returns:
        Options of `Mamba2` or `Mamba` in which the channels are those of the heads: each head has its own B and C and a
        state of (features of a head)² numbers. There is no norm after the gate and no activation after the convolution,
        and the projections have biases.
    """
    width = head_dim or d_model // num_heads
    options = {
        "d_state": width, "ngroups": num_heads, "expand": num_heads * width / d_model, "bias": True,
        "activation": "identity",
    }  # fmt: skip
    return options | ({"headdim": width, "rmsnorm": False} if mixer == "mamba2" else {})


def convert_attention(stack: S, layers: Collection[int], mixer: ConvertedMixer = "mamba2") -> S:
    """Replace attention layers of a stack by layers of Mamba-2 or Mamba with the same projections.

    Without softmax, attention is the recurrence of Mamba-2 with decay 1: its values become x, its keys B, and its
    queries C, which also take the factor 1 / sqrt(head_dim). Norms and MLPs are copied. The other parameters begin such
    that the new layer is linear attention: the convolution returns its input (weight 1 for the present row, 0 for
    earlier ones), the gate and all step sizes are 1, D is 0, and the decay rates are 2^-10, which is slow for showers.
    All of them can be trained.

    In Mamba-1, B and C are linear maps of x instead of the rows. They begin as the maps of keys and queries after the
    pseudoinverse of the map of values. With at least as many features of all heads as features of a row, and
    independent ones, they are the keys and queries.

    Mamba has no counterpart of rotary embeddings and of the normalisation of softmax. The queries and keys are copied
    without rotation, so that the order of the rows enters through decay, step sizes and convolution.

    Args:
        stack: Stack with attention in these layers, such as a `HybridStack`. It is not modified.
        layers: Indices, from 0, of the layers to replace.
        mixer: ``"mamba2"`` or ``"mamba"``.

    Returns:
        A copy of the stack with the new layers. It shares no parameters with the given one.

    Raises:
        ValueError: If one of the layers does not exist, or has no attention or one that cannot be copied, or the mixer
            is unknown.

    Example:
        >>> import torch
        >>> from supa_mamba import HybridStack, convert_attention
        >>> teacher = HybridStack(16, 4, range(4), num_heads=2, d_intermediate=32)
        >>> student = convert_attention(teacher, [0, 1, 2])  # attention remains in the last layer
        >>> [type(block.mixer).__name__ for block in student.blocks()]
        ['Mamba2', 'Mamba2', 'Mamba2', 'CausalAttention']
        >>> student(torch.randn(8, 16), torch.tensor([0, 3, 8])).shape  # packed sequences of 3 and 5 rows
        torch.Size([8, 16])

    Source:
        The Mamba in the Llama (arXiv 2408.15237), section 2. The start of convolution and gate is that of MOHAWK (arXiv
        2408.10189), section 4.
    """
    if mixer not in get_args(ConvertedMixer):
        allowed = ", ".join(get_args(ConvertedMixer))
        raise ValueError(f"mixer: {mixer!r} was given, but it must be one of {allowed}.")
    mixers: list[Any] = [block.mixer for block in stack.blocks()]
    for number in layers:
        if number not in range(len(mixers)):
            raise ValueError(f"layers: {number} was given, but the stack has {counted(len(mixers), 'layer')}.")
        if not isinstance(mixers[number], CausalAttention):
            raise ValueError(
                f"layers: {number} was given, but layer {number} is {type(mixers[number]).__name__}; only attention "
                "can be converted."
            )
        if getattr(mixers[number], "q_norm", None) is not None:
            raise ValueError(
                f"layers: {number} was given, but the queries and keys of layer {number} are normalised, which Mamba-2 "
                "cannot copy."
            )
        if mixer == "mamba" and mixers[number].in_proj.bias is not None:
            raise ValueError(
                f"layers: {number} was given, but the attention of layer {number} has biases, which Mamba cannot copy; "
                'use the mixer "mamba2".'
            )
    converted = copy.deepcopy(stack)
    for number, block in enumerate(converted.blocks()):
        if number in layers and isinstance(block.mixer, CausalAttention):
            block.mixer = _mamba2(block.mixer) if mixer == "mamba2" else _mamba(block.mixer)
    return converted.train(stack.training)


@torch.no_grad()
def fit_converted(student: BlockStack, teacher: BlockStack, layers: Sequence[int], x: Tensor, offset: Tensor) -> None:
    """Fit converted layers to the results of the attention that they replace, without gradients.

    Softmax averages the values, but linear attention adds them up. Its results are larger by a factor of up to a
    thousand, and training needs many steps to correct this. So the step sizes of each head are set such that its
    results are as large as its values. The decay rates, times the step sizes, become a geometric sequence from 1/32 to
    2 over the heads. The output projection, with its bias, is set to the solution of ridge regression.

    Args:
        student: Result of `convert_attention`. It is modified.
        teacher: The stack with the attention.
        layers: Indices of the converted layers.
        x: (T, d_model) packed rows, the input of the teacher. There should be many more rows than features.
        offset: (S + 1,) int64 offsets.

    Example:
        >>> import torch
        >>> from supa_mamba import HybridStack, convert_attention, fit_converted
        >>> teacher = HybridStack(16, 2, range(2), num_heads=2)
        >>> x, offset = torch.randn(1000, 16), torch.arange(0, 1001, 20)
        >>> student = convert_attention(teacher, [0, 1])
        >>> before = (student(x, offset) - teacher(x, offset)).square().mean()
        >>> fit_converted(student, teacher, [0, 1], x, offset)
        >>> bool((student(x, offset) - teacher(x, offset)).square().mean() < before)
        True
    """
    with recorded_mixers(teacher, layers) as found:
        teacher(x, offset)
    for mixer, (rows, attended) in zip(mixers_of(student, layers), found, strict=True):
        assert isinstance(mixer, Mamba | Mamba2)
        heads = mixer.nheads if isinstance(mixer, Mamba2) else mixer.ngroups
        projected = mixer.in_proj(rows)
        # The channels follow the gate in Mamba-2, and precede it in Mamba.
        values = projected.narrow(1, mixer.d_inner if isinstance(mixer, Mamba2) else 0, mixer.d_inner)
        rates = torch.linspace(math.log(SLOWEST), math.log(FASTEST), heads).to(mixer.A_log)
        _set_rates(mixer, rates)
        steps = _size_of_heads(values, heads) / _size_of_heads(_run(mixer, projected, offset), heads)
        # The results are proportional to the step sizes if the decay per row, rate times step size, does not change.
        steps = steps.nan_to_num(1, 1).clamp(_LEAST_STEP, 1)
        of_steps = mixer.dt_bias if isinstance(mixer, Mamba2) else mixer.dt_proj.bias
        of_steps.copy_(_of_channels(mixer, steps + torch.log(-torch.expm1(-steps))))  # the inverse of softplus
        _set_rates(mixer, rates - steps.log())
        features = _run(mixer, projected, offset)
        features = torch.cat([features, features.new_ones(len(rows), 1)], 1).double()
        normal = features.t() @ features
        weights = normal.diagonal()[:-1]  # without the bias
        weights += RIDGE * weights.mean()
        solution = torch.linalg.solve(normal, features.t() @ attended.double())
        mixer.out_proj.weight.copy_(solution[:-1].t())
        mixer.out_proj.bias.copy_(solution[-1])


def _run(mixer: Mamba | Mamba2, projected: Tensor, offset: Tensor) -> Tensor:
    """Return the results of the heads, before the output projection."""
    return mixer.run(projected, offset, None, reverse=False, return_state=False)[0]


def _of_channels(mixer: Mamba | Mamba2, of_heads: Tensor) -> Tensor:
    """Return the values of the channels of Mamba, which has no heads."""
    return of_heads if isinstance(mixer, Mamba2) else of_heads.repeat_interleave(mixer.d_inner // mixer.ngroups)


def _set_rates(mixer: Mamba | Mamba2, logarithms: Tensor) -> None:
    """Set the decay rates of the heads. Those of all states of a channel of Mamba are equal."""
    of_channels = _of_channels(mixer, logarithms)
    mixer.A_log.copy_(of_channels if isinstance(mixer, Mamba2) else of_channels[:, None])


def _size_of_heads(values: Tensor, heads: int) -> Tensor:
    """Return the root mean square of each head."""
    return values.float().square().mean(0).view(heads, -1).mean(1).sqrt()


def mixers_of(stack: BlockStack, layers: Sequence[int]) -> list[nn.Module]:
    """Return the mixers of layers.

    Args:
        stack: The stack.
        layers: Indices of the layers.

    Returns:
        The mixers, in the order of the layers.
    """
    mixers = [block.mixer for block in stack.blocks()]
    found = [mixers[number] for number in layers]
    return [mixer for mixer in found if isinstance(mixer, nn.Module)]


@contextmanager
def recorded_mixers(stack: BlockStack, layers: Sequence[int]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Record the rows before and after the mixers of layers.

    Args:
        stack: The stack.
        layers: Indices of the layers.

    Yields:
        A list, which a forward pass of the stack fills with the rows before and after each mixer.
    """
    found: list[tuple[Tensor, Tensor]] = []

    def record(_: nn.Module, given: tuple[Any, ...], result: Any) -> None:
        found.append((given[0], result))

    with ExitStack() as hooks:
        for mixer in mixers_of(stack, layers):
            hooks.callback(mixer.register_forward_hook(record).remove)
        yield found


@torch.no_grad()
def _mamba2(attention: CausalAttention) -> Mamba2:
    weight, heads = attention.in_proj.weight, attention.num_heads
    options = converted_options(attention.d_model, heads, attention.head_dim)
    mixer = Mamba2(attention.d_model, **options, device=weight.device, dtype=weight.dtype)
    width = mixer.d_inner
    _begin(mixer, attention, [mixer.in_proj.weight])
    columns = slice(width, 4 * width)  # x, B and C, after the gate
    mixer.in_proj.weight[columns] = _reordered(weight, heads)
    mixer.in_proj.bias[:width] = OPEN_GATE
    mixer.dt_bias.fill_(UNIT_STEP)
    if attention.in_proj.bias is not None:
        mixer.in_proj.bias[columns] = _reordered(attention.in_proj.bias, heads)
        mixer.out_proj.bias.copy_(attention.out_proj.bias)
    return mixer


@torch.no_grad()
def _mamba(attention: CausalAttention) -> Mamba:
    weight, heads = attention.in_proj.weight, attention.num_heads
    options = converted_options(attention.d_model, heads, attention.head_dim, mixer="mamba")
    mixer = Mamba(attention.d_model, **options, device=weight.device, dtype=weight.dtype)
    width = mixer.d_inner
    _begin(mixer, attention, [mixer.in_proj.weight, mixer.x_proj.weight, mixer.dt_proj.weight])
    values, keys_and_queries = torch.split(_reordered(weight, heads).double(), [width, 2 * width])
    mixer.in_proj.weight[:width] = values.to(weight.dtype)
    mixer.in_proj.bias[width:] = OPEN_GATE
    mixer.x_proj.weight[mixer.dt_rank :] = (keys_and_queries @ torch.linalg.pinv(values)).to(weight.dtype)
    mixer.dt_proj.bias.fill_(UNIT_STEP)
    return mixer


def _begin(mixer: Mamba | Mamba2, attention: CausalAttention, zeros: list[Tensor]) -> None:
    """Set what both kinds of Mamba have in common, and some tensors to zero."""
    assert mixer.conv1d.bias is not None
    for parameter in (*zeros, mixer.in_proj.bias, mixer.conv1d.weight, mixer.conv1d.bias, mixer.D, mixer.out_proj.bias):
        parameter.zero_()
    mixer.conv1d.weight[:, :, -1] = 1
    mixer.A_log.fill_(math.log(SLOW_RATE))
    mixer.out_proj.weight.copy_(attention.out_proj.weight)


def _reordered(of_attention: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the rows of values, keys and scaled queries, given those of queries, keys and values."""
    q, k, v = of_attention.chunk(3)
    return torch.cat([v, k, q * (len(q) // heads) ** -0.5])

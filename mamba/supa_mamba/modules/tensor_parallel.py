"""Shares of the layers of a stack, for generation in several processes."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from supa_learning import Processes
from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.int8 import Int8Linear
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.mixer_sizes import OPTIONS, WIDTHS, has_inner_norms, input_sizes, mixer_options
from supa_mamba.modules.mlp import GatedMLP
from supa_mamba.modules.stack import BlockStack
from supa_mamba.ops.row_linear.function import step_linear

S = TypeVar("S", bound=BlockStack)


class SummedLinear(nn.Module):
    """Linear layer whose input channels are divided over processes. Its results are summed over them.

    Args:
        share: Linear layer of this process, without a bias.
        bias: (N,) bias, which is added once, or None.
        processes: The processes.
    """

    def __init__(self, share: nn.Linear, bias: Tensor | None, processes: Processes) -> None:
        super().__init__()
        self.share, self.processes = share, processes
        self.register_buffer("bias", bias)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Multiply rows, and sum the results over the processes, without gradients.

        Args:
            x: (..., K) rows.

        Returns:
            (..., N) results, equal in all processes.
        """
        y = step_linear(self.share, x.reshape(-1, x.shape[-1]))
        self.processes.sum_(y)
        if isinstance(self.bias, Tensor):
            y = y + self.bias
        return y.view(*x.shape[:-1], -1)


@torch.no_grad()
def tensor_parallel(stack: S, processes: Processes) -> S:
    """Return the share of a stack that one of several processes computes in a generation.

    Each process has some of the heads of attention, of the heads and groups of Mamba-2, of the groups of channels of
    Mamba, and of the hidden features of the MLPs. All processes need the same rows and get the same results: those of
    the stack, up to rounding. Each mixer and each MLP ends with one sum over the processes. Layers that
    `parallel_pairs` has joined need half as many sums, and two processes then compute one layer of each pair each.

    Args:
        stack: Stack of `Mamba`, `Mamba2` or `CausalAttention`, with equal weights in all processes. It is not modified.
        processes: The processes.

    Returns:
        A stack for `step` and for passes without gradients, also inside a CUDA graph.

    Raises:
        ValueError: If a layer cannot be divided by the number of processes, or has integers of 8 bits.

    Example:
        >>> import torch
        >>> from supa_learning import Processes
        >>> from supa_mamba import HybridStack, tensor_parallel
        >>> stack = HybridStack(16, 2, range(2), num_heads=2, d_intermediate=32)
        >>> share = tensor_parallel(stack, Processes(rank=0, count=2))  # in the first of two processes
        >>> [block.mixer.num_heads for block in share.blocks()]
        [1, 1]

    Source:
        Megatron-LM (arXiv 1909.08053), section 3. Pairs of layers: Leveraging the true depth of LLMs (arXiv
        2502.02790), section 4.
    """
    if any(isinstance(module, Int8Linear) for module in stack.modules()):
        raise ValueError("stack: it has integers of 8 bits, which cannot be divided; use the stack in float32.")
    if processes.count == 1:
        return copy.deepcopy(stack).requires_grad_(False)
    divided = copy.deepcopy(stack)
    for number, block in enumerate(divided.blocks()):
        mixer: Any = block.mixer
        _check(number, block, processes.count)
        share = _share(mixer, processes)
        share.out_proj = SummedLinear(share.out_proj, mixer.out_proj.bias, processes)
        block.mixer = share
        if block.mlp is not None:
            block.mlp = _mlp(block.mlp, processes)
    return divided.requires_grad_(False)


def _check(number: int, block: Any, count: int) -> None:
    """Check that a layer can be divided."""
    mixer, kind = block.mixer, type(block.mixer)
    if kind not in OPTIONS:
        raise ValueError(
            f"Layer {number} is {kind.__name__}, which cannot be divided over processes, but only "
            f"{', '.join(kind.__name__ for kind in OPTIONS)}."
        )
    if has_inner_norms(mixer):
        raise ValueError(
            f"Layer {number} cannot be divided over processes, because it has norms of queries and keys, or of B, "
            "C and step sizes."
        )
    sizes = {"hidden features of the MLP": 0 if block.mlp is None else block.mlp.fc2.in_features}
    sizes |= {"heads": mixer.num_heads} if isinstance(mixer, CausalAttention) else {"groups": mixer.ngroups}
    sizes |= {"step sizes before their projection": mixer.dt_rank} if isinstance(mixer, Mamba) else {}
    for name, size in sizes.items():
        if size % count:
            raise ValueError(
                f"Layer {number} cannot be divided over {count} processes, because its number of {name}, "
                f"{size}, cannot."
            )


def _share(mixer: Any, processes: Processes) -> Any:
    """Return the share of a mixer, without the bias of the output projection."""
    rank, count = processes.rank, processes.count
    options = mixer_options(mixer)
    options |= {name: options[name] // count for name in WIDTHS if name in options and name != "expand"}
    if "expand" in options:
        options["expand"] /= count
    weights = mixer.state_dict()
    for name in ("in_proj.weight", "in_proj.bias"):
        _divide(weights, name, input_sizes(mixer), processes)
    weights["out_proj.weight"] = weights["out_proj.weight"].chunk(count, 1)[rank]
    if isinstance(mixer, Mamba2):
        for name in ("conv1d.weight", "conv1d.bias"):
            _divide(weights, name, input_sizes(mixer)[1:4], processes)
        for name in ("A_log", "D", "dt_bias", "norm.weight"):
            _divide(weights, name, None, processes)
    if isinstance(mixer, Mamba):
        for name in ("conv1d.weight", "conv1d.bias", "A_log", "D", "dt_proj.bias"):
            _divide(weights, name, None, processes)
        of_groups = mixer.ngroups * mixer.d_state
        _divide_block_diagonal(weights, "x_proj.weight", [mixer.dt_rank, of_groups, of_groups], processes)
        _divide_block_diagonal(weights, "dt_proj.weight", [mixer.d_inner], processes)
    share = type(mixer)(mixer.d_model, **options, device="meta")
    if mixer.out_proj.bias is not None:
        del weights["out_proj.bias"]
        share.out_proj.register_parameter("bias", None)
    share.load_state_dict({name: value.clone() for name, value in weights.items()}, assign=True)
    return share.train(mixer.training)


def _divide(weights: dict[str, Tensor], name: str, sizes: list[int] | None, processes: Processes) -> None:
    """Keep the rows of one process, of each of some parts."""
    if name in weights:
        parts = torch.split(weights[name], sizes) if sizes else [weights[name]]
        weights[name] = torch.cat([part.chunk(processes.count)[processes.rank] for part in parts])


def _divide_block_diagonal(weights: dict[str, Tensor], name: str, sizes: list[int], processes: Processes) -> None:
    """Keep the block of one process. There must be no weights outside of the blocks."""
    blocks = [
        torch.cat([part.chunk(processes.count)[rank] for part in torch.split(columns, sizes)])
        for rank, columns in enumerate(weights[name].chunk(processes.count, 1))
    ]
    if sum(int(block.count_nonzero()) for block in blocks) < int(weights[name].count_nonzero()):
        raise ValueError(
            f"{name}: the groups of channels of a layer of Mamba depend on each other, so the layer cannot be divided "
            "over processes. It can directly after parallel_pairs, but not after further training."
        )
    weights[name] = blocks[processes.rank]


def _mlp(mlp: GatedMLP, processes: Processes) -> GatedMLP:
    hidden, width = mlp.fc2.in_features, mlp.fc1.in_features
    weights = mlp.state_dict()
    _divide(weights, "fc1.weight", [hidden, hidden], processes)
    weights["fc2.weight"] = weights["fc2.weight"].chunk(processes.count, 1)[processes.rank]
    share = GatedMLP(width, hidden // processes.count, device="meta")
    share.load_state_dict({name: value.clone() for name, value in weights.items()}, assign=True)
    share.fc2 = SummedLinear(share.fc2, None, processes)  # type: ignore[assignment]
    return share.train(mlp.training)

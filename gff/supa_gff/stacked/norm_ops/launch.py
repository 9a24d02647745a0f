"""Launches of the Triton kernels of the batch normalisation."""

import torch
import triton
from torch import Tensor

from supa_gff.graph_ops.backend import device_guard
from supa_gff.stacked.norm_ops.kernels import normalise_backward_kernel, normalise_kernel
from supa_gff.stacked.rows import Rows

BLOCK = 16
"""Channels of a program: 64 channels of ten networks are 40 programs, and a row of a program is 64 bytes."""
MOST_ROWS = 512
"""Most rows of a tile. Large tiles keep enough reads in flight, since a multiprocessor has few programs."""


def normalise(
    x: Tensor,
    rows: Rows,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the kernel of `masked_batch_norm`; see there for the arguments.

    Args:
        x: Contiguous values.
        rows: The rows of the members.
        weight: Weights.
        bias: Biases.
        running_mean: Running means, which are modified.
        running_var: Running variances, which are modified.
        momentum: Share of the new statistics in the running ones.
        eps: Number added to the variance.

    Returns:
        Normalised values, and (members, channels) means and reciprocal standard deviations.
    """
    y, mean, rate = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
    grid, options = _launch(x)
    with device_guard(x):
        normalise_kernel[grid](
            x, rows.shares, rows.counts, weight, bias, running_mean, running_var, y, mean, rate, len(x), x.shape[2],
            EPS=eps, MOMENTUM=momentum, **options,
        )  # fmt: skip
    return y, mean, rate


def normalise_backward(
    y_grad: Tensor, x: Tensor, shares: Tensor, weight: Tensor, mean: Tensor, rate: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the kernel of the gradients.

    Args:
        y_grad: Contiguous gradient of the normalised values.
        x: Contiguous values.
        shares: See `Rows`.
        weight: (members, channels) weights.
        mean: (members, channels) means.
        rate: (members, channels) reciprocal standard deviations.

    Returns:
        Gradients of the values, weights and biases.
    """
    x_grad, weight_grad, bias_grad = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
    grid, options = _launch(x)
    with device_guard(x):
        normalise_backward_kernel[grid](
            y_grad, x, shares, weight, mean, rate, x_grad, weight_grad, bias_grad, len(x), x.shape[2], **options
        )
    return x_grad, weight_grad, bias_grad


def _launch(x: Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    """Return the grid and the constants of a launch."""
    _, members, rows, channels = x.shape
    tile = min(MOST_ROWS, max(16, triton.next_power_of_2(rows)))
    grid = members, triton.cdiv(channels, BLOCK)
    return grid, {"CHANNELS": channels, "ROWS": tile, "BLOCK": BLOCK, "num_warps": min(16, max(2, tile // 32))}

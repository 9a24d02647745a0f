"""Batch normalisation of several members at once, each over its own real rows."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from supa_gff.graph_ops import backend
from supa_gff.stacked.rows import Rows


def masked_batch_norm(
    x: Tensor,
    rows: Rows,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise the rows of each member in training, and update its running statistics.

    Padding is normalised with the statistics of the real rows, to which it does not contribute. On a GPU there is one
    Triton kernel for the results and one for the gradients.

    Args:
        x: (copies, members, rows, channels) float32 or float64 values.
        rows: The rows of the members.
        weight: (members, channels) weights.
        bias: (members, channels) biases.
        running_mean: (members, channels) running means, which are modified.
        running_var: (members, channels) running variances, which are modified.
        momentum: Share of the new statistics in the running ones.
        eps: Number added to the variance.

    Returns:
        (copies, members, rows, channels) normalised values.
    """
    if backend.uses_kernels(x):
        out: Tensor = _KernelBatchNorm.apply(  # type: ignore[no-untyped-call]
            x, rows, weight, bias, (running_mean, running_var, momentum), eps
        )
        return out
    normalised, mean, var = _BatchNorm.apply(x, rows.shares, weight, bias, eps)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        total = rows.counts * len(x)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * (total / (total - 1)), momentum)
    return normalised  # type: ignore[no-any-return]


class _KernelBatchNorm(torch.autograd.Function):
    """`masked_batch_norm` by Triton kernels."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Rows, weight: Tensor, bias: Tensor, running: tuple[Tensor, Tensor, float], eps: float
    ) -> Tensor:
        from supa_gff.stacked.norm_ops.launch import normalise

        x = x.contiguous()
        out, mean, rate = normalise(x, rows, weight, bias, *running, eps)
        ctx.save_for_backward(x, rows.shares, weight, mean, rate)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        from supa_gff.stacked.norm_ops.launch import normalise_backward

        of_x, of_weight, of_bias = normalise_backward(slopes[0].contiguous(), *ctx.saved_tensors)
        return of_x, None, of_weight, of_bias, None, None


class _BatchNorm(torch.autograd.Function):
    """`masked_batch_norm` by operations of PyTorch, which also returns the (members, channels) means and variances.

    It is written by hand, since the operations of autograd would read and write the activations more often.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, shares: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = _mean(x, shares)
        centred = x - mean[:, None]
        var = _mean(centred.square(), shares)
        rate = (var + eps).rsqrt()
        scale = weight * rate
        ctx.save_for_backward(centred, shares, rate, scale)
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(bias[:, None], centred, scale[:, None]), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        centred, shares, rate, scale = ctx.saved_tensors
        slope = slopes[0]
        of_bias = slope.sum((0, 2))
        of_weight = (slope * centred).sum((0, 2)) * rate
        # Only real rows contribute to the mean and the variance.
        through = torch.addcmul((scale * of_bias)[:, None], centred, (scale * rate * of_weight)[:, None])
        of_x = through.mul_(shares * (-1 / len(centred))).addcmul_(slope, scale[:, None])
        return of_x, None, of_weight, of_bias, None


def _mean(x: Tensor, shares: Tensor) -> Tensor:
    """Return the (members, channels) means over real rows of (copies, members, rows, channels) values."""
    means = shares.transpose(1, 2) @ x
    return means.view(means.shape[1], -1) if len(x) == 1 else means.mean((0, 2))

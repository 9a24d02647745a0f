"""Modules of a stacked network: each replaces the same module of several networks and has the weights of all of them.

Their parameters and buffers have the names of the modules that they replace, and a first axis: the members.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supa_gff.heads import GoodnessScorer
from supa_gff.stacked.norm_ops.function import masked_batch_norm
from supa_gff.stacked.rows import MemberRows

_ROWS_OF_PART = 128
"""Least number of rows of a product for the gradient of a weight."""


class StackedLinear(nn.Module):
    """Linear maps of several members.

    Args:
        parts: Linear map of each member.
        rows: Rows of the current batch.
        of_units: Whether the inputs are units; otherwise they are nodes.
    """

    def __init__(self, parts: Sequence[nn.Linear], rows: MemberRows, of_units: bool) -> None:
        super().__init__()
        self._rows, self._of_units = rows, of_units
        self.weight = _stacked([part.weight for part in parts])
        self.bias = None if parts[0].bias is None else _stacked([part.bias for part in parts])

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map of each member to its own rows.

        Args:
            x: (..., in_channels) float32 rows of all members.

        Returns:
            (..., out_channels) float32.
        """
        own = self._rows.rows(self._of_units).split(x)
        if len(own) == 1:
            out: Tensor = _Linear.apply(own.squeeze(0), self.weight, self.bias)  # type: ignore[no-untyped-call]
        else:
            out = own @ self.weight.transpose(1, 2)
            out = out if self.bias is None else out + self.bias[:, None]
        return out.reshape(*x.shape[:-1], -1)


class StackedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of several members, each with the statistics of its own real rows.

    Args:
        parts: Batch normalisation of each member.
        rows: Rows of the current batch.
        of_units: Whether the inputs are units; otherwise they are nodes.
    """

    def __init__(self, parts: Sequence[nn.BatchNorm1d], rows: MemberRows, of_units: bool) -> None:
        first = parts[0]
        super().__init__(first.num_features, first.eps, first.momentum)
        self._rows, self._of_units = rows, of_units
        self.weight = _stacked([part.weight for part in parts])
        self.bias = _stacked([part.bias for part in parts])
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(self, name, torch.stack([getattr(part, name) for part in parts]))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the rows of each member.

        Args:
            x: (rows, channels) float32 rows of all members.

        Returns:
            (rows, channels) float32.
        """
        running_mean, running_var = self.running_mean, self.running_var
        assert running_mean is not None
        assert running_var is not None
        rows = self._rows.rows(self._of_units)
        own = rows.split(x)
        if not self.training:
            scale = self.weight * (running_var + self.eps).rsqrt()
            return torch.addcmul((self.bias - running_mean * scale)[:, None], own, scale[:, None]).view(x.shape)
        out = masked_batch_norm(
            own, rows, self.weight, self.bias, running_mean, running_var,
            momentum=self.momentum or 0.0,  # a checkpointed layer sets it to 0 while it is computed again
            eps=self.eps,
        )  # fmt: skip
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return out.view(x.shape)


class StackedDropout(nn.Module):
    """Dropout of the channels of units, with random numbers from the generator of each member.

    Args:
        p: Dropout probability.
        index: Index of this dropout in `MemberRows.kept`.
        rows: Rows of the current batch.
    """

    def __init__(self, p: float, index: int, rows: MemberRows) -> None:
        super().__init__()
        self.p, self._index, self._rows = p, index, rows

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout in training.

        Args:
            x: (units, channels) float32 rows of all members.

        Returns:
            (units, channels) float32.
        """
        if not self.training:
            return x
        kept = self._rows.kept
        assert kept is not None
        return x * (kept[self._index].view(x.shape) * (1 / (1 - self.p)))


class StackedGoodness(GoodnessScorer):
    """Goodness scores of several members, each with its own scale.

    Args:
        parts: Scorer of each member.
        rows: Rows of the current batch.
    """

    def __init__(self, parts: Sequence[GoodnessScorer], rows: MemberRows) -> None:
        super().__init__(parts[0].score, parts[0].level)
        self._rows = rows
        self.log_scale = _stacked([part.log_scale for part in parts])

    def scaled(self, goodness: Tensor) -> Tensor:
        """Multiply the goodness of units by the scale of their member; see `GoodnessScorer.scaled`."""
        own = self._rows.rows(of_units=True).split(goodness)
        return (own * self.log_scale.exp()[:, None, None]).view(goodness.shape)


def _stacked(parts: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.stack([part.detach() for part in parts]), requires_grad=parts[0].requires_grad)


class _Linear(torch.autograd.Function):
    """Linear maps of (members, rows, in_channels) values.

    The gradient of a small weight is a product over many rows. Products of parts of the rows are computed at once and
    added, so that all multiprocessors of a GPU have work.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if bias is None:
            return torch.bmm(x, weight.transpose(1, 2))
        return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        slope = slopes[0]
        members, rows, _ = x.shape
        of_x = torch.bmm(slope, weight) if ctx.needs_input_grad[0] else None
        parts = _parts(rows, weight.shape[2])
        each = [values.reshape(members * parts, rows // parts, -1) for values in (slope, x)]
        of_weight = torch.bmm(each[0].transpose(1, 2), each[1])
        if parts > 1:
            of_weight = of_weight.view(members, parts, *of_weight.shape[1:]).sum(1)
        return of_x, of_weight, slope.sum(1) if ctx.needs_input_grad[2] else None


def _parts(rows: int, channels: int) -> int:
    """Return in how many equal parts rows are divided, a power of two.

    A part has at least as many rows as input channels, so the products of all parts need no more memory than the rows.
    """
    parts, least = 1, max(_ROWS_OF_PART, channels)
    while rows % (2 * parts) == 0 and rows // (2 * parts) >= least:
        parts *= 2
    return parts

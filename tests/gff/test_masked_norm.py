"""Tests of the batch normalisation of several members, by operations of PyTorch and by Triton kernels."""

import pytest
import torch
from torch import nn

from supa_gff.stacked.norm_ops.function import masked_batch_norm
from supa_gff.stacked.rows import Rows

MOMENTUM, EPS = 0.1, 1e-5


def naive(x, rows, weight, bias):
    """Normalise with operations that autograd differentiates."""
    shares = rows.shares / len(x)
    mean = (shares * x).sum((0, 2))
    var = (shares * (x - mean[:, None]).square()).sum((0, 2))
    return (x - mean[:, None]) / (var + EPS).sqrt()[:, None] * weight[:, None] + bias[:, None]


@pytest.mark.parametrize(
    ("copies", "sizes", "channels", "dtype", "center"),
    [
        (1, (7, 1030, 512), 20, torch.float64, 0.0),
        (2, (5, 30), 5, torch.float64, 3.0),
        (1, (40, 33), 64, torch.float32, 30.0),
    ],
)
def test_each_member_is_normalised_by_its_own_real_rows(kernel_device, copies, sizes, channels, dtype, center):
    random = torch.Generator().manual_seed(0)
    members, length = len(sizes), max(sizes) + 3
    x = torch.randn(copies, members, length, channels, generator=random, dtype=torch.float64) + center
    x = x.to(dtype).double().requires_grad_()
    weight, bias = (torch.randn(members, channels, generator=random, dtype=torch.float64) for _ in range(2))
    weight.requires_grad_(), bias.requires_grad_()
    real = torch.arange(length) < torch.tensor(sizes)[:, None]
    # Neither the values nor the slopes are contiguous.
    slope = torch.randn(length, channels, generator=random, dtype=torch.float64).expand(x.shape)
    expected = naive(x, Rows.of(real, torch.float64), weight, bias)
    grads = torch.autograd.grad(expected, (x, weight, bias), slope)

    own, own_weight, own_bias = (v.detach().to(kernel_device, dtype) for v in (x, weight, bias))
    own = own.transpose(2, 3).contiguous().transpose(2, 3)
    for value in (own, own_weight, own_bias):
        value.requires_grad_()
    running = [torch.full((members, channels), float(k), dtype=dtype, device=kernel_device) for k in range(2)]
    found = masked_batch_norm(
        own, Rows.of(real.to(kernel_device), dtype), own_weight, own_bias, *running, momentum=MOMENTUM, eps=EPS
    )
    found_grads = torch.autograd.grad(found, (own, own_weight, own_bias), slope.to(kernel_device, dtype))
    # Float32 rounds a mean of 30 to 2e-6.
    close = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(found.double().cpu(), expected, **close)
    for one, other in zip(found_grads, grads, strict=True):
        torch.testing.assert_close(one.double().cpu(), other, **close)

    for member, count in enumerate(sizes):
        norm = nn.BatchNorm1d(channels, EPS, MOMENTUM, dtype=torch.float64)
        norm(x[:, member, :count].flatten(0, 1))
        for one, other in zip(running, (norm.running_mean, norm.running_var), strict=True):
            torch.testing.assert_close(one[member].double().cpu(), other, rtol=1e-6, atol=1e-6)

"""Elementary functions, loads and masks for Triton kernels."""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def softplus(x):
    small = tl.exp2(-tl.abs(x) * LOG2_E)
    if x.dtype == tl.float64:
        # log(1 + s) loses digits of a small s; the factor s / ((1 + s) - 1) restores them.
        sum_ = 1.0 + small
        log1p = tl.where(sum_ == 1.0, small, tl.log(sum_) * (small / tl.where(sum_ == 1.0, 1.0, sum_ - 1.0)))
    else:
        # Chebyshev approximation of log(1 + s) / s on [0, 1], degree 8, relative error 3.5e-8. It avoids logarithms and
        # divisions, which share one slow unit with the exponentials.
        ratio = small * 0.005105825798377466 - 0.028991956382974596
        ratio = small * ratio + 0.07738073836428344
        ratio = small * ratio - 0.13590600233882275
        ratio = small * ratio + 0.19071309582470838
        ratio = small * ratio - 0.24833945456557288
        ratio = small * ratio + 0.33317934321942855
        ratio = small * ratio - 0.4999943569045169
        log1p = small * (small * ratio + 0.9999999651599156)
    return tl.maximum(x, 0.0) + log1p


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp2(-x * LOG2_E))


@triton.jit
def mask_if(condition, mask):
    # `mask & condition` with a scalar condition returns integers in Triton's interpreter, whose loads and stores reject
    # them since Triton 3.7. Compiled code is the same.
    return tl.where(condition, mask, False)


@triton.jit
def load(pointers, live, WHOLE: tl.constexpr):
    # A load without a mask can be vectorised.
    if WHOLE:
        return tl.load(pointers)
    else:  # noqa: RET505 Triton compiles one of the two
        return tl.load(pointers, live, 0.0)

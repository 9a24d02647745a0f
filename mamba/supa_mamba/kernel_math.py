"""Elementary functions for Triton kernels."""

import triton
import triton.language as tl


@triton.jit
def softplus(x):
    # log(1 + exp(-|x|)) loses the digits of a small exponential; dividing by what the sum really took restores them.
    small = tl.exp(-tl.abs(x))
    sum_ = 1.0 + small
    log1p = tl.where(sum_ == 1.0, small, tl.log(sum_) * (small / tl.where(sum_ == 1.0, 1.0, sum_ - 1.0)))
    return tl.where(x > 20.0, x, tl.maximum(x, 0.0) + log1p)


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))

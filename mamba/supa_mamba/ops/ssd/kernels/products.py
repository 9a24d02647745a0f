"""Matrix products and masks for the kernels."""

import triton
import triton.language as tl


@triton.jit
def product(a, b, ROUND: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    return tl.dot(a.to(ROUND).to(OPERAND), b.to(ROUND).to(OPERAND), input_precision=PRECISION)


@triton.jit
def plus_product(c, a, b, ROUND: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    return tl.dot(a.to(ROUND).to(OPERAND), b.to(ROUND).to(OPERAND), c, input_precision=PRECISION, out_dtype=c.dtype)


@triton.jit
def within(rows, columns, size: tl.constexpr, block: tl.constexpr):
    live = rows[:, None]
    if size % block != 0:  # omits a comparison that is always true, to save registers
        live = live & (columns < size)[None, :]
    return live

"""Triton kernel of the random numbers of speculative sampling. A program computes those of one trial of a hit."""

import triton
import triton.language as tl

from supa_mamba.generator.sampling.kernels.math import uniforms


@triton.jit
def trial_kernel(seed_ptr, index_ptr, number_ptr, trial_ptr, found_ptr, TRIALS: tl.constexpr, BITS: tl.constexpr):
    # See `trial_uniforms`.
    m = tl.program_id(0).to(tl.int64)
    index = tl.load(index_ptr + m)
    block = ((tl.load(number_ptr + m) << BITS) + tl.load(trial_ptr + m)) * 2 + TRIALS
    u0, u1, u2, u3 = uniforms(seed_ptr, index, block)
    u4, u5, _, _ = uniforms(seed_ptr, index, block + 1)
    row = found_ptr + m * 6
    tl.store(row, u0)
    tl.store(row + 1, u1)
    tl.store(row + 2, u2)
    tl.store(row + 3, u3)
    tl.store(row + 4, u4)
    tl.store(row + 5, u5)

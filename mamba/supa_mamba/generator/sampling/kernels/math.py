"""Functions of the Triton kernels: random numbers, categories, quantiles and logarithms."""

import triton
import triton.language as tl

from supa_mamba.generator.mixtures import HIGHEST_LOG_SCALE, HIGHEST_LOG_SPREAD, LOWEST_LOG_SCALE
from supa_mamba.generator.sampling.uniforms import OWNER
from supa_mamba.ops.kernel_math import softplus

TWO_PI = tl.constexpr(6.283185307179586)
SCALE = tl.constexpr(HIGHEST_LOG_SCALE)
SPREAD = tl.constexpr(HIGHEST_LOG_SPREAD)
_LOWEST = tl.constexpr(LOWEST_LOG_SCALE)
_OWNER = tl.constexpr(int(OWNER))
_TO_UNIT = tl.constexpr(2.0**-32)


@triton.jit
def uniforms(seed_ptr, index, block):
    # Four of the random numbers of a shower; see ``uniforms.py``.
    seed = tl.load(seed_ptr)
    low, high = (index & 0xFFFFFFFF).to(tl.uint32), (((index >> 32) << 8) | _OWNER).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed, (block & 0xFFFFFFFF).to(tl.uint32), (block >> 32).to(tl.uint32), low, high)
    return to_unit(w0), to_unit(w1), to_unit(w2), to_unit(w3)


@triton.jit
def to_unit(word):
    return (word.to(tl.float64) + 0.5) * _TO_UNIT


@triton.jit
def scale_of(value, HIGHEST: tl.constexpr):
    # See `bounded_log_scale`. In the interpreter, a constant on the left of a tensor makes a constant of the result.
    below = -softplus(-value.to(tl.float64) + HIGHEST) + HIGHEST
    return tl.exp(softplus(below - _LOWEST) + _LOWEST)


@triton.jit
def chosen_category(logits, number, uniform):
    # By cumulative probability; see `categorical_sample`. ``number`` counts the categories; a logit of minus infinity
    # excludes one.
    weight = tl.exp(logits - tl.max(logits, 0))
    cumulative = tl.cumsum(weight, 0)
    last = tl.max(tl.where(weight > 0.0, number, 0), 0)
    return tl.minimum(tl.sum((cumulative <= uniform * tl.sum(weight, 0)).to(tl.int32), 0), last)


@triton.jit
def of_mixture(of_row, of_choice, of_value, COMPONENTS: tl.constexpr, BLOCK: tl.constexpr):
    # A sample of the mixture of a row; see `NormalMixture.of`.
    k = tl.arange(0, BLOCK)
    logits = tl.load(of_row + k, k < COMPONENTS, float("-inf")).to(tl.float64)
    chosen = chosen_category(logits, k, of_choice)
    mean = tl.load(of_row + COMPONENTS + chosen).to(tl.float64)
    return mean + scale_of(tl.load(of_row + 2 * COMPONENTS + chosen), SCALE) * normal_quantile(of_value)


@triton.jit
def log1p_of_integer(n):
    return tl.log(1.0 + n.to(tl.float64)).to(tl.float32)


@triton.jit
def normal_quantile(p):
    # Algorithm AS 241; see ``normal_quantile.py``.
    q = p - 0.5
    r = 0.180625 - q * q
    above = 2509.0809287301226727 * r + 33430.575583588128105
    above = above * r + 67265.770927008700853
    above = above * r + 45921.953931549871457
    above = above * r + 13731.693765509461125
    above = above * r + 1971.5909503065514427
    above = above * r + 133.14166789178437745
    above = above * r + 3.387132872796366608
    below = 5226.495278852545925 * r + 28729.085735721942674
    below = below * r + 39307.89580009271061
    below = below * r + 21213.794301586595867
    below = below * r + 5394.1960214247511077
    below = below * r + 687.1870074920579083
    below = below * r + 42.313330701600911252
    central = q * above / (below * r + 1.0)
    distance = tl.sqrt(-tl.log(tl.minimum(p, 1.0 - p)))
    r = distance - 1.6
    above = 7.7454501427834140764e-4 * r + 0.0227238449892691845833
    above = above * r + 0.24178072517745061177
    above = above * r + 1.27045825245236838258
    above = above * r + 3.64784832476320460504
    above = above * r + 5.7694972214606914055
    above = above * r + 4.6303378461565452959
    above = above * r + 1.42343711074968357734
    below = 1.05075007164441684324e-9 * r + 5.475938084995344946e-4
    below = below * r + 0.0151986665636164571966
    below = below * r + 0.14810397642748007459
    below = below * r + 0.68976733498510000455
    below = below * r + 1.6763848301838038494
    below = below * r + 2.05319162663775882187
    # Words of 32 bits keep the distance below 5, where this approximation ends.
    outer = above / (below * r + 1.0)
    return tl.where(tl.abs(q) <= 0.425, central, tl.where(q < 0.0, -outer, outer))

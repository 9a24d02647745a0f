"""The exponential function for Numba, in a form that the compiler vectorises.

Without a vector library, Numba calls a scalar function for each exponential. Here exp(x) = 2^k exp(r) is composed of
additions, multiplications and shifts: k is the integer next to x / ln 2, and the Taylor series of exp(r) converges
quickly for |r| <= ln(2) / 2. Results below twice the smallest normal number may be 0.
"""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload


def exponential(x: Any) -> Any:
    """Compute exp(x) inside a Numba kernel.

    Args:
        x: float32 or float64 number.

    Returns:
        The exponential, of the same type, with a relative error of about 2 units in the last place.
    """
    raise NotImplementedError("this function can only be called from a Numba kernel")


@intrinsic
def _as_real(_context: Any, word: Any) -> Any:
    """Interpret the bits of an integer as a floating-point number."""
    kind = types.float32 if word == types.int32 else types.float64

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(kind))

    return kind(word), generate


@overload(exponential, jit_options={"error_model": "numpy", "fastmath": {"contract"}})
def _exponential(x: Any) -> Any:
    # ln 2 has two parts. The product of the first one with k is exact.
    real: Any
    integer: Any
    if x == types.float32:
        real, integer, mantissa, bias, terms = np.float32, np.int32, 23, 127, 8
        parts, limits = (0.693359375, -2.12194440054690583e-4), (-87.3, 89.5)
    elif x == types.float64:
        real, integer, mantissa, bias, terms = np.float64, np.int64, 52, 1023, 14
        parts, limits = (6.93147180369123816490e-01, 1.90821492927058770002e-10), (-708.3, 710.5)
    else:
        return None
    high, low, lowest, highest, per_ln2 = (real(value) for value in (*parts, *limits, 1 / math.log(2.0)))
    shifter = real(3 * 2.0 ** (mantissa - 1))  # the sum with a small number is rounded to an integer
    shift, exponent = integer(mantissa), integer(bias - 1)
    series = tuple(real(1 / math.factorial(n)) for n in range(terms - 1, -1, -1))
    zero, two = real(0), real(2)
    as_real: Any = _as_real

    def compute(x: Any) -> Any:
        # These comparisons are false for NaN.
        x = lowest if x < lowest else x
        x = highest if x > highest else x
        k = (x * per_ln2 + shifter) - shifter
        r = (x - k * high) - k * low
        total = zero
        for coefficient in series:
            total = total * r + coefficient
        # Half of 2^k has a finite exponent for the largest k, too.
        return (total * as_real(integer((integer(k) + exponent) << shift))) * two

    return compute

"""Elementary functions for Numba, in a form that the compiler vectorises.

Without a vector library, Numba calls a scalar function for each exponential. Here exp(x) = 2^k exp(r) is composed of
additions, multiplications and shifts: k is the integer next to x / ln 2, and the Taylor series of exp(r) converges
quickly for |r| <= ln(2) / 2. Results below twice the smallest normal number may be 0.
"""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

_REALS: dict[Any, Any] = {types.float32: np.float32, types.float64: np.float64}
_INTEGERS: dict[Any, Any] = {types.float32: np.int32, types.float64: np.int64}


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
    real, integer = _REALS[x], _INTEGERS[x]
    if real is np.float32:
        mantissa, bias, terms = 23, 127, 8
        parts, limits = (0.693359375, -2.12194440054690583e-4), (-87.3, 89.5)
    else:
        mantissa, bias, terms = 52, 1023, 14
        parts, limits = (6.93147180369123816490e-01, 1.90821492927058770002e-10), (-708.3, 710.5)
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


def log_of_one_plus(e: Any) -> Any:
    """Compute ln(1 + e) inside a Numba kernel.

    Args:
        e: float32 or float64 number from 0 to 1.

    Returns:
        The logarithm, of the same type.
    """
    raise NotImplementedError("this function can only be called from a Numba kernel")


@overload(log_of_one_plus, jit_options={"error_model": "numpy", "fastmath": {"contract"}})
def _log_of_one_plus(e: Any) -> Any:
    # ln(1 + e) = 2 artanh(s) with s = e / (2 + e), which is at most a third.
    real = _REALS[e]
    terms = 8 if real is np.float32 else 17
    series = tuple(real(2 / (2 * n + 1)) for n in range(terms - 1, -1, -1))
    zero, two = real(0), real(2)

    def compute(e: Any) -> Any:
        s = e / (e + two)
        square = s * s
        total = zero
        for coefficient in series:
            total = total * square + coefficient
        return total * s

    return compute


def sigmoid(x: Any) -> Any:
    """Compute 1 / (1 + exp(-x)) inside a Numba kernel.

    Args:
        x: float32 or float64 number.

    Returns:
        The result, of the same type.
    """
    raise NotImplementedError("this function can only be called from a Numba kernel")


@overload(sigmoid, jit_options={"error_model": "numpy", "fastmath": {"contract"}})
def _sigmoid(x: Any) -> Any:
    one: Any = _REALS[x](1)  # Numba would convert the result of a float32 and an integer to float64

    def compute(x: Any) -> Any:
        return one / (one + exponential(-x))

    return compute


def softplus(x: Any) -> Any:
    """Compute ln(1 + exp(x)) inside a Numba kernel.

    Args:
        x: float32 or float64 number.

    Returns:
        The result, of the same type.
    """
    raise NotImplementedError("this function can only be called from a Numba kernel")


@overload(softplus, jit_options={"error_model": "numpy", "fastmath": {"contract"}})
def _softplus(x: Any) -> Any:
    zero: Any = _REALS[x](0)

    def compute(x: Any) -> Any:
        return (x if x > zero else zero) + log_of_one_plus(exponential(x if x < zero else -x))

    return compute

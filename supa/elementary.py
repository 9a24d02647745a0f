"""Sine, cosine, logarithm and exponential, composed of additions, multiplications, divisions and square roots.

IEEE 754 defines the results of these operations to the last bit; mathematical libraries do not guarantee this for
their functions. The counter-based engine therefore computes the same float64 numbers on every machine. In addition, the
compiler can vectorise loops over these functions.
"""

import math

import numpy as np

from supa.compiler import inline, kernel

_TURN = 2.0 * math.pi / 2.0**32
_EIGHTH = np.uint64(1 << 29)
_QUADRANT = np.uint64(30)
_REST = np.uint64((1 << 30) - 1)
_LN2_HIGH = 6.93147180369123816490e-01  # upper 33 bits of ln 2; its product with an exponent is exact
_LN2_LOW = 1.90821492927058770002e-10
_SQRT_HALF = math.sqrt(0.5)


@inline
def _sin_small(x: float) -> float:
    """Compute the sine of |x| <= pi/4 by the Taylor series up to x^15; the next term is below 5e-17."""
    s = x * x
    tail = -1 / 5040 + s * (1 / 362880 + s * (-1 / 39916800 + s * (1 / 6227020800 + s * (-1 / 1307674368000))))
    return x + x * s * (-1 / 6 + s * (1 / 120 + s * tail))


@inline
def _cos_small(x: float) -> float:
    """Compute the cosine of |x| <= pi/4 by the Taylor series up to x^16; the next term is below 3e-18."""
    s = x * x
    tail = -1 / 3628800 + s * (1 / 479001600 + s * (-1 / 87178291200 + s * (1 / 20922789888000)))
    return 1.0 - 0.5 * s + s * s * (1 / 24 + s * (-1 / 720 + s * (1 / 40320 + s * tail)))


@inline
def sin_cos_turn(word: np.uint64) -> tuple[float, float]:
    """Compute sine and cosine of the angle 2 pi word / 2^32.

    Args:
        word: Angle in units of 2 pi / 2^32 (uint64 below 2**32).

    Returns:
        Sine and cosine (float64), with absolute errors below 3e-16.
    """
    shifted = word + _EIGHTH
    quadrant = (shifted >> _QUADRANT) & np.uint64(3)
    angle = (np.float64(np.int64(shifted & _REST)) - 536870912.0) * _TURN
    sine, cosine = _sin_small(angle), _cos_small(angle)
    odd = (quadrant & np.uint64(1)) != np.uint64(0)
    first, second = (cosine if odd else sine), (sine if odd else cosine)
    first = -first if quadrant >= np.uint64(2) else first
    second = -second if (quadrant == np.uint64(1)) | (quadrant == np.uint64(2)) else second
    return first, second


@inline
def sin_cos(x: float) -> tuple[float, float]:
    """Compute sine and cosine of an angle of at most a quarter turn.

    Args:
        x: Angle in radians, |x| <= pi/2 (float64).

    Returns:
        Sine and cosine (float64), with absolute errors below 4e-16.
    """
    half = 0.5 * x
    sine, cosine = _sin_small(half), _cos_small(half)
    return 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine


@kernel
def log(x: float) -> float:
    """Compute the natural logarithm.

    Args:
        x: Positive, finite and normal number (float64).

    Returns:
        Logarithm (float64), with an error below 2 units in the last place.
    """
    mantissa, exponent = math.frexp(x)
    if mantissa < _SQRT_HALF:
        mantissa *= 2.0
        exponent -= 1
    f = (mantissa - 1.0) / (mantissa + 1.0)
    s = f * f
    series = 0.0
    for odd in range(23, 1, -2):
        series = s * (1.0 / odd + series)
    return exponent * _LN2_HIGH + (exponent * _LN2_LOW + 2.0 * f * series + 2.0 * f)


@kernel
def exp(x: float) -> float:
    """Compute the exponential.

    Args:
        x: Number with |x| below 700 (float64).

    Returns:
        Exponential (float64), with a relative error below 4e-16.
    """
    k = math.floor(x / math.log(2.0) + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    series = 1.0
    for n in range(14, 0, -1):
        series = 1.0 + series * r / n
    return math.ldexp(series, int(k))

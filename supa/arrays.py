"""Array types for annotations, and conversion of arrays from users."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from supa.checks import format_value

Array: TypeAlias = npt.NDArray[np.generic]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
ByteArray: TypeAlias = npt.NDArray[np.uint8]
UInt64Array: TypeAlias = npt.NDArray[np.uint64]


def array(name: str, given: npt.ArrayLike) -> npt.NDArray[Any]:
    """Convert values from a user to an array.

    Args:
        name: Name of the argument in the error message.
        given: Values to convert.

    Returns:
        Array of any type and shape.

    Raises:
        ValueError: If a value is masked or nested lists have different lengths.
    """
    if np.ma.is_masked(given):
        raise ValueError(f"{name}: an array with masked values was given, but no value may be masked.")
    try:
        return np.asarray(given)
    except ValueError:
        raise ValueError(f"{name}: {format_value(given)} was given, but it must be an array of numbers.") from None


def is_real(values: npt.NDArray[Any]) -> bool:
    """Return whether an array contains integers or floating-point numbers.

    Args:
        values: Array of any type.

    Returns:
        True for real numbers; False for booleans, strings, complex numbers and objects.
    """
    return values.dtype.kind in "fiu"

"""Array types for annotations, and checks of arrays from users."""

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
        name: the name of the argument, for the message.
        given: the values.

    Returns:
        The array, of any type and shape.

    Raises:
        ValueError: a value is missing, or lists in a list are not equally long.
    """
    if np.ma.is_masked(given):
        raise ValueError(f"{name}: an array with masked values was given, but every value must be there.")
    try:
        return np.asarray(given)
    except ValueError:
        raise ValueError(f"{name}: {format_value(given)} was given, but it must be an array of numbers.") from None


def is_real(values: npt.NDArray[Any]) -> bool:
    """Return whether values are real numbers, so no booleans, texts, complex numbers or objects.

    Args:
        values: an array.

    Returns:
        Whether they are.
    """
    return values.dtype.kind in "fiu"

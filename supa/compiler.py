"""The one way in which this package compiles a function with Numba."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile a function to machine code that runs without the interpreter lock.

    No fast-math flag is set, so every operation rounds as IEEE 754 says and the result does not depend on the
    machine. Machine code is cached on disk where Numba finds a folder that it may write to.

    Args:
        function: a function in the part of Python that Numba compiles.

    Returns:
        The compiled function.
    """
    try:
        return cast(Function, numba.njit(function, cache=True, nogil=True, error_model="numpy"))
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        return cast(Function, numba.njit(function, nogil=True, error_model="numpy"))


def inline(function: Function) -> Function:
    """Compile a small function that is always pasted into the kernel which calls it, so that loops vectorise.

    Args:
        function: a function in the part of Python that Numba compiles.

    Returns:
        The compiled function.
    """
    return cast(Function, numba.njit(function, inline="always", error_model="numpy"))

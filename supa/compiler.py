"""The one way in which this package compiles a function with Numba."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numba

from supa.caching import machine_code_folder

Function = TypeVar("Function", bound=Callable[..., Any])

_settings: Any = numba.config


def kernel(function: Function) -> Function:
    """Compile a function to machine code that runs without the interpreter lock.

    No fast-math flag is set, so every operation rounds as IEEE 754 says and the result does not depend on the
    machine. Machine code is cached in ``supa.caching.machine_code_folder``, if that folder can be written.

    Args:
        function: a function in the part of Python that Numba compiles.

    Returns:
        The compiled function.
    """
    folder = machine_code_folder(_settings.CACHE_DIR)
    if folder is None:
        return cast(Function, numba.njit(function, nogil=True, error_model="numpy"))
    with _cached_in(folder):
        return cast(Function, numba.njit(function, cache=True, nogil=True, error_model="numpy"))


def inline(function: Function) -> Function:
    """Compile a small function that is always pasted into the kernel which calls it, so that loops vectorise.

    Args:
        function: a function in the part of Python that Numba compiles.

    Returns:
        The compiled function.
    """
    return cast(Function, numba.njit(function, inline="always", error_model="numpy"))


@contextmanager
def _cached_in(folder: str) -> Iterator[None]:
    """Let Numba cache the functions that are decorated here in a folder.

    By default Numba writes beside the source file. After ``pip uninstall`` these files would keep an empty package
    importable. Numba reads its setting where a function is decorated, so it can be restored at once.
    """
    before = _settings.CACHE_DIR
    _settings.CACHE_DIR = folder
    try:
        yield
    finally:
        _settings.CACHE_DIR = before

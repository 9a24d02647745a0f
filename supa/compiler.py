"""Compilation of functions with Numba."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.extending

from supa.caching import machine_code_folder

Function = TypeVar("Function", bound=Callable[..., Any])

_settings: Any = numba.config
_REORDER = {"reassoc", "contract", "nsz"}


def kernel(function: Function) -> Function:
    """Compile a function to machine code that runs without the interpreter lock.

    No fast-math flag is set. Every operation is rounded according to IEEE 754, so the results do not depend on the
    machine. The machine code is cached in ``supa.caching.machine_code_folder`` if that folder is writable.

    Args:
        function: Function in the subset of Python that Numba supports.

    Returns:
        Compiled function.
    """
    return _compiled(function, fastmath=False)


def fast_kernel(function: Function) -> Function:
    """Compile a function like `kernel`, but let the compiler reorder sums and fuse multiplications with additions.

    Loops that sum can then be vectorised. The results depend on the machine in their last bits. NaN and infinity are
    treated correctly. Avoid products of four or more factors: code that was loaded from the cache may then round
    differently from code that was compiled in the same process.

    Args:
        function: Function in the subset of Python that Numba supports.

    Returns:
        Compiled function.
    """
    return _compiled(function, fastmath=_REORDER)


def _compiled(function: Function, *, fastmath: Any) -> Function:
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    folder = machine_code_folder(_settings.CACHE_DIR)
    if folder is None:
        return cast(Function, numba.njit(function, **options))
    with _cached_in(folder):
        return cast(Function, numba.njit(function, cache=True, **options))


def has_machine_code(module: str) -> bool:
    """Return whether machine code of a module is in the cache, so that the first call of its kernels is fast.

    Args:
        module: Name of the module, such as ``"supa.engines.cpu"``.

    Returns:
        True if the cache contains machine code of any kernel of the module.
    """
    folder = machine_code_folder(_settings.CACHE_DIR)
    name = module.rpartition(".")[2]
    return folder is not None and next(Path(folder).glob(f"*/{name}.*.nbi"), None) is not None


def stage(function: Function) -> Function:
    """Compile a function only as a part of the kernels that call it.

    Called from Python, the function is not compiled. Compilation is faster than that of a kernel, because there is no
    wrapper for calls from Python.

    Args:
        function: Function in the subset of Python that Numba supports.

    Returns:
        The same function.
    """
    return numba.extending.register_jitable(error_model="numpy")(function)


def fast_stage(function: Function) -> Function:
    """Compile a function like `stage`, but with the freedom of `fast_kernel`.

    Args:
        function: Function in the subset of Python that Numba supports.

    Returns:
        The same function.
    """
    return numba.extending.register_jitable(error_model="numpy", fastmath=_REORDER)(function)


def inline(function: Function) -> Function:
    """Compile a small function that is always inlined into kernels, so that loops over its calls can be vectorised.

    Args:
        function: Function in the subset of Python that Numba supports.

    Returns:
        Compiled function.
    """
    return cast(Function, numba.njit(function, inline="always", error_model="numpy"))


@contextmanager
def _cached_in(folder: str) -> Iterator[None]:
    """Set the cache folder of Numba for functions that are decorated inside the ``with`` block.

    By default Numba writes next to the source files. These files would remain after ``pip uninstall``, and the empty
    package would still be importable. Numba reads the setting when a function is decorated, so the previous value can
    be restored immediately.
    """
    before = _settings.CACHE_DIR
    _settings.CACHE_DIR = folder
    try:
        yield
    finally:
        _settings.CACHE_DIR = before

"""Calls to an HDF5 filter plugin without HDF5.

HDF5 runs one call at a time, so it compresses one chunk at a time. A plugin is a shared library with one entry point,
``H5PLget_plugin_info``, which returns the address of its filter function. Threads may call that function at the same
time. Reference: HDF5 Filter Plugins, and ``H5Z_class2_t`` and ``H5Z_func_t`` in ``H5Zdevelop.h``.
"""

import ctypes
import os
from typing import Any

from supa.arrays import Array

_CLASS_VERSION = 1


class _FilterClass(ctypes.Structure):
    """The C structure ``H5Z_class2_t``."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("id", ctypes.c_int),
        ("encoder_present", ctypes.c_uint),
        ("decoder_present", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", ctypes.c_void_p),
        ("set_local", ctypes.c_void_p),
        ("filter", ctypes.c_void_p),
    )


# The C type H5Z_func_t: flags, number of options, options, bytes of data, size of the buffer, buffer.
_FilterFunction = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_void_p),
)


class FilterPlugin:
    """The compressing direction of a filter plugin.

    Args:
        path: Shared library of the plugin, which is already registered in HDF5.
        number: Number of the filter in HDF5.
        options: Options of the filter, as in the creation properties of the column.

    Raises:
        OSError: If the library cannot be used.
    """

    def __init__(self, path: str, number: int, options: tuple[int, ...]) -> None:
        if os.name != "posix":
            raise OSError("the library may use another heap than this program")
        library: Any = ctypes.CDLL(path)
        library.H5PLget_plugin_info.restype = ctypes.POINTER(_FilterClass)
        found = library.H5PLget_plugin_info().contents
        if (found.version, found.id) != (_CLASS_VERSION, number) or not found.filter:
            raise OSError("the library is not a plugin of this filter")
        self._filter = _FilterFunction(found.filter)
        self._options = (ctypes.c_uint * len(options))(*options)
        # A filter frees the buffer that it is given and returns another one, so the buffer is allocated in C.
        heap = ctypes.CDLL(None)
        self._malloc, self._free = heap.malloc, heap.free
        self._malloc.restype, self._malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
        self._free.restype, self._free.argtypes = None, (ctypes.c_void_p,)

    def __call__(self, chunk: Array) -> bytes:
        """Compress a chunk.

        Args:
            chunk: Contiguous values of the chunk.

        Returns:
            Compressed bytes, as HDF5 stores them.

        Raises:
            MemoryError: If the filter fails. It fails only if there is not enough memory.
        """
        size, buffer = ctypes.c_size_t(chunk.nbytes), ctypes.c_void_p(self._malloc(chunk.nbytes))
        if not buffer:
            raise MemoryError("There is not enough memory to compress a chunk.")
        try:
            ctypes.memmove(buffer, chunk.ctypes.data, chunk.nbytes)
            length = self._filter(
                0, len(self._options), self._options, chunk.nbytes, ctypes.byref(size), ctypes.byref(buffer)
            )
            if not length:
                raise MemoryError("There is not enough memory to compress a chunk.")
            return ctypes.string_at(buffer, length)
        finally:
            self._free(buffer)

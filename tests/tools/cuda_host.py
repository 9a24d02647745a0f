"""The device source of the engine "cuda", compiled for the host."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np

import supa.engines.cuda
from supa.engines.cuda.walker import Macros

COMPILER = shutil.which("c++")
_SOURCE = Path(supa.engines.cuda.__file__).with_name("walk.cu")
_HEADER = Path(__file__).with_name("cuda_host.h")
_C_TYPES = {"float64": ctypes.c_double, "int64": ctypes.c_int64, "uint64": ctypes.c_uint64, "int32": ctypes.c_int32}
_C_TYPES["uint32"] = ctypes.c_uint32


class Host:
    """Runs the kernels on the host, in one block of one thread.

    Args:
        folder: Where the compiled libraries are stored.
    """

    multiprocessors = 1
    shared_bytes = 5 * 24_000

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._libraries: dict[Macros, ctypes.CDLL] = {}

    def empty(self, size, dtype):
        """Return an array full of a value that no shower has, at an address that is a multiple of 64."""
        dtype = np.dtype(dtype)
        memory = np.full(size * dtype.itemsize + 64, 0xA5, np.uint8)
        start = -memory.ctypes.data % 64
        return memory[start : start + size * dtype.itemsize].view(dtype)

    def send(self, values):
        """Return a copy."""
        copy = self.empty(values.size, values.dtype)
        copy[:] = values.ravel()
        return copy

    def fetch(self, array):
        """Return the array."""
        return array

    def fetch_all(self, arrays):
        """Return the arrays."""
        return dict(arrays)

    def synchronize(self):
        """Do nothing: a launch returns when it is finished."""

    def launch(self, kernel, macros, arguments, blocks, shared_bytes=0):
        """Call a kernel as a function."""
        function = self._library(macros)[kernel]
        function.restype = None
        function(*(_c_value(argument) for argument in arguments))

    def _library(self, macros):
        if macros not in self._libraries:
            library = self._folder / f"walk_{len(self._libraries)}.so"
            definitions = [f"-D{name}={value}" for name, value in macros.definitions().items()]
            command = [COMPILER, "-O1", "-std=c++17", "-ffp-contract=off", "-shared", "-fPIC", *definitions]
            subprocess.run(
                [*command, "-x", "c++", "-include", str(_HEADER), str(_SOURCE), "-o", str(library)], check=True
            )
            self._libraries[macros] = ctypes.CDLL(str(library))
        return self._libraries[macros]


def _c_value(value):
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return _C_TYPES[value.dtype.name](value.item())

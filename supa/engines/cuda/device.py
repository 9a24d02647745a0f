"""The GPU on which the engine "cuda" runs, driven through NVIDIA's ``cuda.core``."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from supa.engines.cuda.walker import THREADS, GpuMemoryError, Macros
from supa.recycling import Recycler

if TYPE_CHECKING:
    from cuda.core import Device

_SOURCE = Path(__file__).with_name("walk.cu")
_STAGING_BYTES = 16 << 20
_MOST_LOCKED = 3  # chunks in page-locked memory: one arrives while two are used
_SPARE_MEMORY = 1.1  # size of page-locked memory in units of the first chunk in it; later chunks may be larger
_ALIGNMENT = 256
_INSTALL = 'install it with pip install "supa-showers[cuda]"'


class Gpu:
    """Runs the kernels on the current CUDA device.

    Raises:
        ValueError: If ``cuda.core`` is not installed, or there is no usable GPU.
    """

    def __init__(self) -> None:
        self._device = _open_device()
        self._stream = self._device.create_stream()
        properties = self._device.properties
        self.multiprocessors = int(properties.multiprocessor_count)
        self.shared_bytes = int(properties.max_shared_memory_per_multiprocessor)
        self._shared_bytes_of_block = int(properties.max_shared_memory_per_block_optin)
        self._locked: Recycler[tuple[Any, npt.NDArray[np.uint8]]] = Recycler(_MOST_LOCKED)
        self._num_locked = 0

    @property
    def name(self) -> str:
        """Name of the GPU."""
        return str(self._device.name)

    def make_current(self) -> None:
        """Make this the GPU of the calling thread."""
        self._device.set_current()

    def synchronize(self) -> None:
        """Wait until all kernels and copies are finished."""
        self._stream.sync()

    def empty(self, size: int, dtype: npt.DTypeLike) -> Any:
        """Return uninitialised memory on the GPU."""
        num_bytes = max(size * np.dtype(dtype).itemsize, 1)
        try:
            buffer = self._device.allocate(num_bytes, stream=self._stream)
        except Exception as error:
            if "OUT_OF_MEMORY" not in str(error):
                raise
            raise GpuMemoryError(f"the GPU has less than {num_bytes:,} bytes of free memory") from None
        return DeviceArray(buffer, size, np.dtype(dtype))

    def send(self, values: npt.NDArray[Any]) -> Any:
        """Return a copy of an array on the GPU."""
        from cuda.core import Buffer

        values = np.ascontiguousarray(values)
        array = self.empty(values.size, values.dtype)
        if values.size:
            source = Buffer.from_handle(values.ctypes.data, values.nbytes, owner=values)
            array.buffer.copy_from(source, stream=self._stream)
            self._stream.sync()
        return array

    def fetch(self, array: Any) -> npt.NDArray[Any]:
        """Return a copy of an array in the memory of the host."""
        from cuda.core import Buffer

        values = np.empty(array.size, array.dtype)
        source, target = int(array.buffer.handle), values.view(np.uint8)
        # Copies to pageable memory are several times slower, so the data pass through a small page-locked buffer.
        staging = self._staging()
        locked = np.from_dlpack(staging).view(np.uint8)
        for start in range(0, values.nbytes, _STAGING_BYTES):
            size = min(_STAGING_BYTES, values.nbytes - start)
            piece = Buffer.from_handle(source + start, size, owner=array.buffer)
            piece.copy_to(Buffer.from_handle(int(staging.handle), size, owner=staging), stream=self._stream)
            self._stream.sync()
            target[start : start + size] = locked[:size]
        return values

    def fetch_all(self, arrays: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Return copies of arrays in the memory of the host.

        The copies are in page-locked memory, to which the GPU writes at the speed of the bus. It is used again when
        nothing refers to the copies any more. The caller of a stream may keep all chunks, so further copies are in
        ordinary memory.
        """
        from cuda.core import Buffer

        places, size = {}, 0
        for name, array in arrays.items():
            places[name] = slice(size, size + array.size * array.dtype.itemsize)
            size = -(-places[name].stop // _ALIGNMENT) * _ALIGNMENT
        locked = self._locked_memory(size)
        if locked is None:
            return {name: self.fetch(array) for name, array in arrays.items()}
        buffer, memory = locked
        for name, array in arrays.items():
            if array.size:
                here = memory[places[name]]
                source = Buffer.from_handle(int(array.buffer.handle), here.nbytes, owner=array.buffer)
                source.copy_to(Buffer.from_handle(here.ctypes.data, here.nbytes, owner=buffer), stream=self._stream)
        self._stream.sync()
        return self._locked.lend(
            locked, {name: memory[places[name]].view(array.dtype) for name, array in arrays.items()}
        )

    def _locked_memory(self, size: int) -> tuple[Any, npt.NDArray[np.uint8]] | None:
        """Return unused page-locked memory, or None if there is enough of it in use."""
        from cuda.core import LegacyPinnedMemoryResource

        if unused := self._locked.take():
            if unused[1].nbytes >= size:
                return unused
            self._num_locked -= 1
        if self._num_locked == _MOST_LOCKED:
            return None
        try:
            buffer = LegacyPinnedMemoryResource().allocate(max(int(_SPARE_MEMORY * size), 1), stream=self._stream)
        except Exception:
            return None
        self._num_locked += 1
        return buffer, np.from_dlpack(buffer).view(np.uint8)

    @cache  # noqa: B019  (a GPU lives as long as the process)
    def _staging(self) -> Any:
        from cuda.core import LegacyPinnedMemoryResource

        return LegacyPinnedMemoryResource().allocate(_STAGING_BYTES, stream=self._stream)

    def launch(
        self, kernel: str, macros: Macros, arguments: tuple[Any, ...], blocks: int, shared_bytes: int = 0
    ) -> None:
        """Run a kernel on a number of blocks."""
        from cuda.core import LaunchConfig, launch

        compiled = _kernel(kernel, macros, self._device.arch, self._device.device_id, self._shared_bytes_of_block)
        config = LaunchConfig(grid=blocks, block=THREADS, shmem_size=shared_bytes)
        launch(self._stream, config, compiled, *(getattr(a, "buffer", a) for a in arguments))


class DeviceArray:
    """A one-dimensional array on the GPU that other packages read through DLPack without a copy.

    Args:
        buffer: Memory of the array.
        size: Number of values.
        dtype: Type of the values.
    """

    def __init__(self, buffer: Any, size: int, dtype: np.dtype[Any]) -> None:
        self.buffer, self.size, self.dtype = buffer, size, dtype

    def __len__(self) -> int:
        return self.size

    def __dlpack__(self, **options: Any) -> Any:
        return self._view().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._view().__dlpack_device__()
        return device

    def _view(self) -> Any:
        from cuda.core.utils import StridedMemoryView

        return StridedMemoryView.from_buffer(self.buffer, (self.size,), itemsize=self.dtype.itemsize, dtype=self.dtype)


def open_gpu() -> Gpu:
    """Return the current CUDA device, ready to run kernels in the calling thread.

    Returns:
        The GPU; every call returns the same object.

    Raises:
        ValueError: If ``cuda.core`` is not installed, or there is no usable GPU.
    """
    gpu = _gpu()
    gpu.make_current()
    return gpu


@cache
def _gpu() -> Gpu:
    return Gpu()


def _open_device() -> "Device":
    try:
        from cuda.core import Device
    except ImportError:
        raise ValueError(f'engine="cuda" needs the package cuda-core; {_INSTALL}.') from None
    try:
        device = Device()
        device.set_current()
    except Exception as error:
        raise ValueError(
            f'engine="cuda" needs an NVIDIA GPU with its driver: {error}; use engine="cpu" on this machine.'
        ) from None
    return device


@cache
def _compile(macros: Macros, arch: str) -> Any:
    from cuda.core import Program, ProgramOptions

    definitions = [(name, value) for name, value in macros.definitions().items()]
    options = ProgramOptions(arch=f"sm_{arch}", std="c++17", fma=False, define_macro=definitions)
    return Program(_SOURCE.read_text(), "c++", options).compile("cubin")


@cache
def _kernel(name: str, macros: Macros, arch: str, device: int, most_shared_bytes: int) -> Any:
    """Return a kernel that may use all shared memory of a multiprocessor."""
    from cuda.bindings import driver

    kernel = _compile(macros, arch).get_kernel(name)
    attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    most = most_shared_bytes - kernel.attributes.shared_size_bytes
    (error,) = driver.cuKernelSetAttribute(attribute, most, kernel.handle, device)
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"the kernel {name} cannot use {most:,} bytes of shared memory: {error.name}")
    return kernel

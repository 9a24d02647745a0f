"""Energy that a GPU has used, from the counter of its driver."""

import ctypes
from contextlib import suppress
from functools import lru_cache
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"  # NVIDIA's management library, a part of the driver


def used_joules(cuda: Any) -> float | None:
    """Return the energy that the current GPU has used since its driver was loaded.

    The counter includes the work of all processes on the GPU, and the power that it takes while it waits.

    Args:
        cuda: The module ``torch.cuda``, initialised.

    Returns:
        Energy in joules. None if the driver has no such counter, as for a part of a GPU or an old GPU.
    """
    with suppress(OSError, AttributeError):
        library, handle = _device(str(cuda.get_device_properties().uuid))
        energy = ctypes.c_ulonglong()
        if handle is not None and library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(energy)) == 0:
            return energy.value / 1000
    return None


@lru_cache
def _device(uuid: str) -> tuple[Any, ctypes.c_void_p | None]:
    """Return the library and the handle of a GPU, or None instead of a handle that it does not know."""
    library = ctypes.CDLL(_LIBRARY)
    handle = ctypes.c_void_p()
    known = library.nvmlInit_v2() == 0 and (
        library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode(), ctypes.byref(handle)) == 0
    )
    return library, handle if known else None

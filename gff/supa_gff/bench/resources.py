"""Measurement of wall-clock time, processor time, peak memory and energy."""

import ctypes
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from supa_gff.bench.energy import used_joules
from supa_gff.bench.jobs import Cost

_STATUS = Path("/proc/self/status")
_PEAK_OF_PROCESS = "5"  # resets the peak memory of a process on Linux (proc(5), clear_refs)


class Meter:
    """Context manager that measures the cost of its block.

    On a GPU, the memory is the peak of PyTorch's allocator. Otherwise it is the growth of the resident memory of the
    process. Unused memory is first returned to the system, as far as the C library supports it, so that measurements
    depend little on previous jobs of the process. Without ``/proc`` the memory is the growth of the lifetime peak of
    the process, which is a lower bound. The energy is that of the GPU, with all of its processes.
    """

    def __enter__(self) -> Self:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text(_PEAK_OF_PROCESS)
        self._resident = _memory("VmRSS:")
        if (cuda := _cuda()) is not None:
            cuda.synchronize()
            cuda.reset_peak_memory_stats()
        self._allocated = 0 if cuda is None else int(cuda.memory_allocated())
        self._joules = None if cuda is None else used_joules(cuda)
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        cuda = _cuda()
        if cuda is not None:
            cuda.synchronize()  # kernels that are still running belong to the block
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        grown = 0 if cuda is None else int(cuda.max_memory_allocated()) - self._allocated
        on_gpu = grown > 0
        memory = grown if on_gpu else max(_memory("VmHWM:") - self._resident, 0)
        self.cost = Cost(wall, cpu, memory, "cuda" if on_gpu else "cpu", self._energy(cuda) if on_gpu else None)

    def _energy(self, cuda: Any) -> float | None:
        after = used_joules(cuda)
        return None if after is None or self._joules is None else after - self._joules


def _memory(field: str) -> int:
    """Return a number of bytes from the status of the process."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _cuda() -> Any:
    """Return ``torch.cuda`` if this process has already initialised it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None

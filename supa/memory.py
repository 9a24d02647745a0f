"""Amount of memory that is still available."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

_SYSTEM = Path("/proc/meminfo")
_LIMITED = Path("/sys/fs/cgroup/memory.max")
_USED = Path("/sys/fs/cgroup/memory.current")


def available_bytes() -> int:
    """Return the amount of memory that this process can still allocate.

    The result is the smallest of the limits of the system, of the container and of the process.

    Returns:
        Number of bytes; a very large number if no limit is known.
    """
    limits = [sys.maxsize]
    with suppress(OSError, ValueError, IndexError):
        lines = _SYSTEM.read_text().splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # fails without a container or without a limit ("max")
        limits.append(int(_LIMITED.read_text()) - int(_USED.read_text()))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        limits.append(limit // 2)  # code and libraries also count towards this limit
    if len(limits) == 1 and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return max(min(limits), 0)

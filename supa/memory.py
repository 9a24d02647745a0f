"""How much memory is left."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

_SYSTEM = Path("/proc/meminfo")
_LIMITED = Path("/sys/fs/cgroup/memory.max")
_USED = Path("/sys/fs/cgroup/memory.current")


def available_bytes() -> int:
    """Return how much memory this process may still take: of the system, of its container and by its own limit.

    Returns:
        Bytes; a very large number where nothing tells.
    """
    rooms = [sys.maxsize]
    with suppress(OSError, ValueError, IndexError):
        lines = _SYSTEM.read_text().splitlines()
        rooms += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # also where there is no container, or no limit ("max")
        rooms.append(int(_LIMITED.read_text()) - int(_USED.read_text()))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        rooms.append(limit // 2)  # code and libraries count, too
    if len(rooms) == 1 and "SC_PHYS_PAGES" in os.sysconf_names:
        rooms.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return max(min(rooms), 0)

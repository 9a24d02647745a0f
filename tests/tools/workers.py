"""What worker processes run in tests; spawned ones must be able to import it."""

import os

import supa
import supa_datasets


def hits_of_shower_7(_: int) -> tuple[bytes, bytes]:
    """Simulate with threads in this process."""
    shower = supa.simulate(3, first=7, threads=2)
    return shower.x.tobytes(), shower.energy.tobytes()


def read_shower(file: supa_datasets.ShowerFile, k: int) -> bytes:
    """Read from a file that another process opened."""
    return file[k].x.tobytes()


def exit_with_shower_7(file: supa_datasets.ShowerFile, expected: bytes) -> None:
    """End this process with 0 if it reads what was expected."""
    os._exit(0 if read_shower(file, 7) == expected else 1)

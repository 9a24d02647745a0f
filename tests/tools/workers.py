"""Functions for worker processes in tests. Spawned processes must be able to import them."""

import os

import supa
import supa_datasets


def hits_of_shower_7(_: int) -> tuple[bytes, bytes]:
    """Simulate on two threads."""
    shower = supa.simulate(3, first=7, threads=2)
    return shower.x.tobytes(), shower.energy.tobytes()


def read_shower(file: supa_datasets.ShowerFile, k: int) -> bytes:
    """Read a shower from a file that another process opened."""
    return file[k].x.tobytes()


def exit_with_shower_7(file: supa_datasets.ShowerFile, expected: bytes) -> None:
    """Exit with status 0 if the shower has the expected bytes, else with 1."""
    os._exit(0 if read_shower(file, 7) == expected else 1)

"""A check of the global heaps of HDF5 files. Some kinds of damage there put the HDF5 library into an endless loop.

Strings of attributes and lists of variable length are stored in collections of objects. The library walks through a
collection by the sizes of its objects. A free object of size 0 sends it back to the same object, and Ctrl-C does not
stop the loop. Layout: HDF5 File Format Specification 3.0, section III.E.
"""

import mmap
from pathlib import Path

_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_HEADER = 16
_OBJECT_HEADER = 16


def check_heaps(path: Path, *, first_bytes: int | None = None) -> None:
    """Check every heap collection of a file.

    Args:
        path: Path of an HDF5 file.
        first_bytes: Number of bytes at the start of the file to search; None for the complete file.

    Raises:
        ValueError: If a collection would cause an endless loop.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = content.find(_SIGNATURE, 0, first_bytes or len(content))
            while place >= 0:
                if not _can_be_walked(content, place):
                    raise ValueError("it is damaged: a heap of strings or lists is invalid")
                place = content.find(_SIGNATURE, place + len(_SIGNATURE), first_bytes or len(content))


def _can_be_walked(content: mmap.mmap, start: int) -> bool:
    size = int.from_bytes(content[start + 8 : start + _HEADER], "little")
    place, end = start + _HEADER, start + size
    if end > len(content):
        return True  # the library itself reports collections outside the file
    while end - place >= _OBJECT_HEADER:
        number = int.from_bytes(content[place : place + 2], "little")
        length = int.from_bytes(content[place + 8 : place + _OBJECT_HEADER], "little")
        # The size of the free space includes its header. The size of an object does not, and is padded to 8 bytes.
        step = length if number == 0 else _OBJECT_HEADER + -(-length // 8) * 8
        if step == 0:
            return False
        if step > end - place:
            return True
        place += step
    return True

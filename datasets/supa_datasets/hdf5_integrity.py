"""A check of HDF5's global heaps, on whose damage the HDF5 library itself loops for ever, deaf to Ctrl-C.

Strings of attributes and lists of variable length lie in collections of objects. The library walks through a
collection by the objects' sizes; an object without a number and of size 0 leads it to itself. Layout: HDF5 File
Format Specification 3.0, section III.E.
"""

import mmap
from pathlib import Path

_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_HEADER = 16
_OBJECT_HEADER = 16


def check_heaps(path: Path, *, first_bytes: int | None = None) -> None:
    """Walk through every collection of a file.

    Args:
        path: an HDF5 file.
        first_bytes: look only there for collections; None for the whole file.

    Raises:
        ValueError: a collection leads nowhere.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = content.find(_SIGNATURE, 0, first_bytes or len(content))
            while place >= 0:
                if not _can_be_walked(content, place):
                    raise ValueError("it is damaged: a heap of its strings or lists leads nowhere")
                place = content.find(_SIGNATURE, place + len(_SIGNATURE), first_bytes or len(content))


def _can_be_walked(content: mmap.mmap, start: int) -> bool:
    size = int.from_bytes(content[start + 8 : start + _HEADER], "little")
    place, end = start + _HEADER, start + size
    if end > len(content):
        return True  # what lies outside the file the library finds itself
    while end - place >= _OBJECT_HEADER:
        number = int.from_bytes(content[place : place + 2], "little")
        length = int.from_bytes(content[place + 8 : place + _OBJECT_HEADER], "little")
        # The room that is left counts its own header, an object does not, and begins at a multiple of eight bytes.
        step = length if number == 0 else _OBJECT_HEADER + -(-length // 8) * 8
        if step == 0:
            return False
        if step > end - place:
            return True
        place += step
    return True

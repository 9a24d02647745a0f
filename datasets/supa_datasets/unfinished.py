"""Reading a file whose writer was killed, without the SWMR read mode of HDF5.

In SWMR read mode, HDF5 interprets a wrong checksum as a write in progress. It retries up to a hundred times and
doubles the pause each time, so a damaged file never produces an error. In normal mode, HDF5 rejects a file that is
marked as being written. HDF5 therefore reads the file with a modified superblock that has no such mark and states the
actual size of the file. Layout: HDF5 File Format Specification 3.0, section II.A, superblock version 3.
"""

import io
import struct
from pathlib import Path
from typing import Any

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SUPERBLOCK = struct.Struct("<8s4B4QI")
_VERSION = 3
_WORD = 0xFFFFFFFF


class AsFinished(io.RawIOBase):
    """A raw stream of an unfinished file, with the superblock of a closed file.

    Args:
        path: Path of the file.

    Raises:
        ValueError: If the file does not start with the superblock of a shower file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        try:
            self._start = _finished_superblock(self._file.read(_SUPERBLOCK.size), path.stat().st_size)
        except BaseException:
            self._file.close()
            raise

    def readable(self) -> bool:
        """Return True, since the stream supports reading."""
        return True

    def seekable(self) -> bool:
        """Return True, since the stream supports random access."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Change the position in the stream."""
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer from the current position."""
        place = self._file.tell()
        count = int(self._file.readinto(buffer) or 0)
        if place < len(self._start):
            changed = self._start[place : place + count]
            memoryview(buffer)[: len(changed)] = changed
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _finished_superblock(block: bytes, size: int) -> bytes:
    if len(block) < _SUPERBLOCK.size:
        raise ValueError("it is not an HDF5 file, or it is damaged or truncated")
    signature, version, offset_size, length_size, _, base, extension, _, root, checksum = _SUPERBLOCK.unpack(block)
    if (signature, version, offset_size, length_size, base) != (_SIGNATURE, _VERSION, 8, 8, 0):
        raise ValueError("it is not an HDF5 file, or it is damaged or truncated")
    if checksum != _checksum(block[:-4]):
        raise ValueError("it is damaged: its superblock has a wrong checksum")
    values = (signature, version, offset_size, length_size, 0, base, extension, size, root)
    return _SUPERBLOCK.pack(*values, _checksum(_SUPERBLOCK.pack(*values, 0)[:-4]))


def _checksum(block: bytes) -> int:
    """Compute Jenkins' lookup3 hash of the 44 bytes before a superblock's checksum."""
    words: tuple[int, ...] = struct.unpack("<11I", block)
    a = b = c = (0xDEADBEEF + len(block)) & _WORD
    for k in range(0, 9, 3):
        a, b, c = (a + words[k]) & _WORD, (b + words[k + 1]) & _WORD, (c + words[k + 2]) & _WORD
        for turn in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & _WORD) ^ _turned(c, turn)
            c = (c + b) & _WORD
            a, b, c = b, c, a
    a, b = (a + words[9]) & _WORD, (b + words[10]) & _WORD
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, turn)) & _WORD
        a, b, c = b, c, a
    return b


def _turned(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & _WORD

"""Rows of all nodes, computed block by block, in memory or in files that survive a killed process."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from supa_gff.updates.activation_cache import CacheLocation

FloatRows = npt.NDArray[np.float32]

_BLOCK = re.compile(r"\[([0-9]+), ([0-9]+)\]")
"""Line of a journal: the first row of a block, and the checksum of the block."""


class RowStore:
    """(rows, channels) float32 values that are computed in blocks of rows.

    In a folder, a journal lists the finished blocks with their checksums. A store of the same name and the same content
    then has the blocks that an earlier process finished and that are undamaged.

    Args:
        location: ``"memory"``, ``"disk"`` for a file that ends with the process, or a folder.
        name: Name of the store in the folder.
        shape: Number of rows, and of channels.
        content: Text that identifies the content.
        block_rows: Number of rows of a block.
    """

    def __init__(
        self, location: CacheLocation, name: str, shape: tuple[int, int], content: str, block_rows: int
    ) -> None:
        self._starts = range(0, shape[0], block_rows)
        self._rows, self._block_rows = shape[0], block_rows
        self.content = content
        self._finished: set[int] = set()
        self._journal: Path | None = None
        if location == "memory":
            self.values: FloatRows = np.empty(shape, np.float32)
        elif location == "disk":
            # The file is unlinked as soon as it is mapped, so it never outlives the process.
            with tempfile.NamedTemporaryFile() as file:
                self.values = _mapped(Path(file.name), shape)
        else:
            folder = Path(location)
            self._journal = folder / f"{name}.journal"
            self.values = _mapped(folder / f"{name}.rows", shape)
            self._resume({"content": content, "shape": list(shape), "block_rows": block_rows})

    @property
    def complete(self) -> bool:
        """Whether all blocks are finished."""
        return len(self._finished) == len(self._starts)

    def missing(self) -> Iterator[tuple[int, int]]:
        """Yield the first row, and the last row plus one, of each block that is not finished."""
        for start in self._starts:
            if start not in self._finished:
                yield start, min(start + self._block_rows, self._rows)

    def write(self, start: int, values: FloatRows) -> None:
        """Store a block.

        Args:
            start: First row of the block.
            values: (rows, channels) float32 values of the block.
        """
        self.values[start : start + len(values)] = values
        self._finished.add(start)
        if self._journal is not None:
            with self._journal.open("a") as file:
                file.write(json.dumps([start, _checksum(values)]) + "\n")

    def _resume(self, header: dict[str, Any]) -> None:
        """Read the journal of an earlier process, or start a new one if it belongs to another content."""
        assert self._journal is not None
        lines = self._journal.read_text().split("\n") if self._journal.exists() else []
        if not lines or lines[0] != json.dumps(header):
            self._journal.write_text(json.dumps(header) + "\n")
            return
        for line in lines[1:-1]:  # the last line is empty, or incomplete
            found = _BLOCK.fullmatch(line)
            # A power failure can lose lines, and rows that the journal lists.
            if found is None or int(found[1]) not in self._starts:
                continue
            start = int(found[1])
            if _checksum(self.values[start : start + self._block_rows]) == int(found[2]):
                self._finished.add(start)
        self._journal.write_text("\n".join([*lines[:-1], ""]))


def remove(folder: Path, name: str) -> None:
    """Remove the files of a store in a folder.

    Args:
        folder: Folder of the store.
        name: Name of the store.
    """
    (folder / f"{name}.journal").unlink(missing_ok=True)
    (folder / f"{name}.rows").unlink(missing_ok=True)


def _checksum(values: FloatRows) -> int:
    # A sum is enough to recognise rows that were never written, and takes no longer than reading them.
    words = np.ascontiguousarray(values).reshape(-1)
    even = len(words) // 2 * 2
    return int(words[:even].view(np.uint64).sum()) + int(words[even:].view(np.uint32).sum())


def _mapped(path: Path, shape: tuple[int, int]) -> FloatRows:
    size = 4 * shape[0] * shape[1]
    with path.open("r+b" if path.exists() else "w+b") as file:
        before = os.fstat(file.fileno()).st_size
        if before < size:
            _reserve(file, path, before, size)
        elif before > size:
            file.truncate(size)
    return np.asarray(np.memmap(path, dtype=np.float32, mode="r+", shape=shape))


def _reserve(file: BinaryIO, path: Path, before: int, size: int) -> None:
    """Extend a file, with space on the disk: writing through the map would otherwise end the process if it is full."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        file.truncate(before)  # a file of the full size is one whose space is reserved
        raise OSError(
            f"{path}: {size:,} bytes cannot be reserved ({error.strerror}); free some space, or keep the inputs in "
            "another folder. Then repeat the call."
        ) from None

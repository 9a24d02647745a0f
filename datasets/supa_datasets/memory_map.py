"""Fast random access to rows of uncompressed columns through a memory map.

For each read, HDF5 searches, locks and copies, which takes longer than the read of a shower itself. The chunks of an
uncompressed column are stored unchanged in the file. Their positions are therefore looked up once, and rows are
copied directly from the memory map.
"""

import mmap
import os

import h5py
import numpy as np
import numpy.typing as npt

from supa.arrays import Array, IntArray
from supa.compiler import kernel


class MappedColumns:
    """The memory-mapped columns of an open file.

    Args:
        file: The open file.
        columns: Uncompressed columns by name.

    Raises:
        ValueError: If a chunk is outside the file.
    """

    def __init__(self, file: h5py.File, columns: dict[str, h5py.Dataset]) -> None:
        self._handle = file.id.get_vfd_handle()
        self._bytes = np.frombuffer(mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ), dtype=np.uint8)
        self._types = {name: column.dtype for name, column in columns.items()}
        self._chunk_rows = {name: column.chunks[0] for name, column in columns.items()}
        self._chunk_places = {name: self._places(name, column) for name, column in columns.items()}

    def _places(self, name: str, column: h5py.Dataset) -> IntArray:
        rows, size = column.chunks[0], column.dtype.itemsize
        places = np.full(-(-len(column) // rows), -1, dtype=np.int64)

        def remember(chunk: h5py.h5d.StoreInfo) -> None:
            number = chunk.chunk_offset[0] // rows
            if number < len(places) and chunk.byte_offset is not None:
                places[number] = chunk.byte_offset

        column.id.chunk_iter(remember)
        if ((places < 0) | (places + rows * size > len(self._bytes))).any():
            raise ValueError(f"a chunk of the column {name!r} is outside the file")
        return places

    def check(self) -> None:
        """Check that the file was not truncated, since access beyond its end would kill the process.

        Raises:
            ValueError: If the file was truncated after it was opened.
        """
        if os.fstat(self._handle).st_size < len(self._bytes):
            raise ValueError("it was truncated while it was open")

    def rows(self, name: str, start: IntArray, count: IntArray) -> Array:
        """Copy ranges of rows.

        Args:
            name: Name of the column.
            start: (ranges,) int64 first row of each range.
            count: (ranges,) int64 number of rows of each range. All rows must be inside the column.

        Returns:
            (rows,) array with the concatenated rows of all ranges.
        """
        kind = self._types[name]
        out = np.empty(int(count.sum()) * kind.itemsize, dtype=np.uint8)
        _copy_ranges(self._bytes, self._chunk_places[name], self._chunk_rows[name], kind.itemsize, start, count, out)
        return out.view(kind)


def mappable(column: h5py.Dataset) -> bool:
    """Return whether the values of a column are stored unchanged in the file.

    Args:
        column: The column.

    Returns:
        True if the column is chunked, has no filter, and has the byte order of this machine.
    """
    return (
        column.chunks is not None
        and column.id.get_create_plist().get_nfilters() == 0
        and column.dtype.isnative
        and column.id.get_type().equal(h5py.h5t.py_create(column.dtype))
    )


@kernel
def _copy_ranges(
    source: npt.NDArray[np.uint8],
    chunk_places: IntArray,
    chunk_rows: int,
    size: int,
    start: IntArray,
    count: IntArray,
    out: npt.NDArray[np.uint8],
) -> None:
    # The ranges are scattered in memory. Touching them in a tight loop first lets the processor fetch many at once.
    touched = 0
    for k in range(len(start)):
        if count[k] > 0:
            chunk = start[k] // chunk_rows
            touched ^= source[chunk_places[chunk] + (start[k] - chunk * chunk_rows) * size]
    if len(out) > 0:
        out[0] = touched & 255  # overwritten below, but prevents the compiler from removing the loop
    filled = 0
    for k in range(len(start)):
        row, left = start[k], count[k]
        while left > 0:
            chunk = row // chunk_rows
            first = row - chunk * chunk_rows
            rows = min(left, chunk_rows - first)
            place = chunk_places[chunk] + first * size
            out[filled : filled + rows * size] = source[place : place + rows * size]
            filled += rows * size
            row += rows
            left -= rows

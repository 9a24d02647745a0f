"""The checksum of the columns of a shower file."""

import hashlib

import numpy as np

from supa_datasets.layout import SHOWER_TYPES, tables_of
from supa_datasets.stored_showers import StoredShowers

_BLOCK_ROWS = 1 << 18


def checksum(stored: StoredShowers) -> str:
    """Compute the checksum of all columns of a file.

    It is the SHA-256 of the columns one after another: first ``showers``, then ``hits``, ``primaries`` and
    ``particles``, each in the order of the page *The file format*, with the offsets of a table before its columns. A
    line with the name, the dtype and the number of rows precedes the values of each column, which are little-endian.
    The checksum does not depend on compression, on chunks, or on anything else of HDF5.

    Args:
        stored: The open file.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: If the file is damaged.
    """
    types = {f"showers/{name}": kind for name, kind in SHOWER_TYPES.items()}
    lengths = dict.fromkeys(types, len(stored))
    for table in tables_of(stored.has_particles):
        columns = {table.offset: "i8"} | {f"{table.group}/{name}": kind for name, kind in table.types.items()}
        types |= columns
        lengths |= dict.fromkeys(columns, stored.num_rows(table.group)) | {table.offset: len(stored) + 1}
    digest = hashlib.sha256()
    for path, kind in types.items():
        digest.update(f"{path} {kind} {lengths[path]}\n".encode())
        for start in range(0, lengths[path], _BLOCK_ROWS):
            rows = stored.column(path, kind, start, min(start + _BLOCK_ROWS, lengths[path]))
            digest.update(np.ascontiguousarray(rows, dtype=np.dtype(kind).newbyteorder("<")).data)
    return digest.hexdigest()

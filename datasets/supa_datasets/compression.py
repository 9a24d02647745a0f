"""Compression of the columns of a shower file: the filters of HDF5, and the same compression outside of HDF5."""

import zlib
from collections.abc import Callable
from typing import Any, Literal

import h5py
import numpy as np

from supa.arrays import Array
from supa.checks import did_you_mean
from supa_datasets.filter_plugin import FilterPlugin

Compression = Literal["none", "lz4", "zstd", "gzip"]
COMPRESSIONS: tuple[Compression, ...] = ("none", "lz4", "zstd", "gzip")
"""Names of the compressions."""

Encode = Callable[[Array], Any]
"""Function from the values of a chunk to the object whose bytes HDF5 stores."""


def compression_filters(compression: Compression) -> dict[str, Any]:
    """Return the arguments of ``create_dataset`` for a compression.

    Args:
        compression: One of ``COMPRESSIONS``.

    Returns:
        Keyword arguments; empty without compression.

    Raises:
        ValueError: If there is no such compression, or its package is not installed.
    """
    if compression not in COMPRESSIONS:
        raise ValueError(
            f"compression: {compression!r} was given, but it must be one of {', '.join(COMPRESSIONS)}."
            f"{did_you_mean(compression, COMPRESSIONS)}"
        )
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    try:
        import hdf5plugin
    except ImportError:
        raise ValueError(
            f"compression: {compression!r} needs the package hdf5plugin: pip install 'supa-showers[compression]'."
        ) from None
    return dict(hdf5plugin.Blosc2(cname=compression, clevel=5, filters=hdf5plugin.Blosc2.SHUFFLE))


def chunk_encoder(column: h5py.Dataset) -> Encode | None:
    """Return a function that compresses a chunk like HDF5 does, and that several threads may call at the same time.

    Args:
        column: Column with the filters of ``compression_filters``.

    Returns:
        Function of the values of a whole chunk; the identity without compression. None if only HDF5 can compress
        the column.
    """
    properties = column.id.get_create_plist()
    steps: list[Encode] = []
    for k in range(properties.get_nfilters()):
        number, _, options, _ = properties.get_filter(k)
        if number == h5py.h5z.FILTER_SHUFFLE:
            steps.append(_shuffled)
        elif number == h5py.h5z.FILTER_DEFLATE:
            steps.append(_Deflate(options[0]))
        else:
            try:
                steps.append(_plugin(number, options))
            except (ImportError, LookupError, OSError, AttributeError):  # another build of hdf5plugin
                return None

    def encode(chunk: Array) -> Any:
        encoded: Any = chunk
        for step in steps:
            encoded = step(encoded)
        return encoded

    return encode


def _shuffled(chunk: Array) -> Array:
    """Return the first bytes of all values, then their second bytes, and so on."""
    size = chunk.itemsize
    return np.ascontiguousarray(chunk.view(np.uint8).reshape(-1, size).T)


class _Deflate:
    """The filter "deflate" with a given level."""

    def __init__(self, level: int) -> None:
        self._level = level

    def __call__(self, chunk: Array) -> bytes:
        return zlib.compress(chunk.data, self._level)


def _plugin(number: int, options: tuple[int, ...]) -> FilterPlugin:
    import hdf5plugin

    (name,) = (name for name, known in hdf5plugin.FILTERS.items() if known == number)
    return FilterPlugin(hdf5plugin.get_config().registered_filters[name], number, options)

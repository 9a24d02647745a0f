"""Names and file extensions of the formats, in a module that does not import HDF5 and Numba."""

from collections.abc import Mapping
from types import MappingProxyType

_HDF5 = (".h5", ".hdf5")

SUFFIXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "supa": _HDF5,
        "showerdata": _HDF5,
        "calogan": _HDF5,
        "calochallenge": _HDF5,
        "parquet": (".parquet", ".pq"),
        "root": (".root",),
        "rntuple": (),
        "npz": (".npz",),
        "reference": (".bin",),
    }
)
"""File extensions of each format by name, with the dot."""

"""The names of the formats and the endings of their files, which are looked up before HDF5 and Numba are loaded."""

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
"""The formats by name, and the endings of their files, with the dot."""

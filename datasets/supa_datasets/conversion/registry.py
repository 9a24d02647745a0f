"""The formats by name and by file extension."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import h5py

from supa.checks import did_you_mean
from supa_datasets.conversion.calochallenge import CALOCHALLENGE
from supa_datasets.conversion.calogan import CALOGAN
from supa_datasets.conversion.foreign_hdf5 import opened
from supa_datasets.conversion.formats import Format
from supa_datasets.conversion.native import NATIVE
from supa_datasets.conversion.npz import NPZ
from supa_datasets.conversion.parquet import PARQUET
from supa_datasets.conversion.reference import REFERENCE
from supa_datasets.conversion.root import RNTUPLE, ROOT
from supa_datasets.conversion.showerdata import SHOWERDATA
from supa_datasets.conversion.untrusted_input import named_errors

FORMATS: Mapping[str, Format] = MappingProxyType(
    {form.name: form for form in (NATIVE, SHOWERDATA, CALOGAN, CALOCHALLENGE, PARQUET, ROOT, RNTUPLE, NPZ, REFERENCE)}
)
"""The formats by name."""


def source_format(path: Path, name: str | None) -> Format:
    """Return the format of a file to read.

    Args:
        path: Path of the file.
        name: Name of the format; None to recognise it by the file extension and, for HDF5 files, by its datasets. A
            folder is one of shards.

    Returns:
        The format.

    Raises:
        ValueError: If there is no such format, or the format is not recognised.
    """
    if name is not None:
        return _named(name)
    if path.is_dir():
        return NATIVE
    candidates = _by_ending(path)
    if len(candidates) == 1:
        return candidates[0]
    with named_errors(path), opened(path) as file:
        for form in candidates:
            if all(isinstance(file.get(dataset, getlink=True), h5py.HardLink) for dataset in form.datasets):
                return form
        names = ", ".join(form.name for form in candidates)
        raise ValueError(f"it is an HDF5 file, but in none of the formats {names}")


def target_format(path: Path, name: str | None, source: Format) -> Format:
    """Return the format of a file to write.

    Args:
        path: Path of the file.
        name: Name of the format; None to recognise it by the file extension.
        source: Format of the source file.

    Returns:
        The format.

    Raises:
        ValueError: If there is no such format, the format is not recognised, or it cannot be written.
    """
    form = _named(name) if name is not None else _by_ending(path)[0]
    if form.writer is None:
        raise ValueError(f"{path}: files of the format {form.name!r} can be read, but not written.")
    if name is None and form is source:
        others = ", ".join(other.name for other in FORMATS.values() if other.writer and other is not form)
        raise ValueError(
            f"{path}: both files have the format {form.name!r}; choose the format to write (--to): {others}. "
            "(supa merge makes one file of a folder of shards.)"
        )
    return form


def _named(name: str) -> Format:
    if name not in FORMATS:
        raise ValueError(f"There is no format {name!r}; choose from {', '.join(FORMATS)}.{did_you_mean(name, FORMATS)}")
    return FORMATS[name]


def _by_ending(path: Path) -> list[Format]:
    candidates = [form for form in FORMATS.values() if path.suffix.lower() in form.extensions]
    if not candidates:
        known = ", ".join(f"{form.name} ({' '.join(form.extensions) or 'by name'})" for form in FORMATS.values())
        raise ValueError(f"{path}: no format has this file extension; choose one (--from, --to): {known}.")
    return candidates

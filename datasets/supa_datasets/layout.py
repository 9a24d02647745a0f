"""The layout of a shower file: groups, columns and attributes, and their checks.

See ``docs/reference/file_format.md``.
"""

import json
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from supa import Refinement, Run, ShowerConfig
from supa.checks import counted, format_value
from supa.memory import available_bytes
from supa.ragged import check_offset
from supa.texts import read_json

FORMAT = "supa-showers"
VERSION = 1

PROGRESS = "progress"
WEIGHT = "weight"
"""Column of the showers of a sample that was refined with weights."""

HIT_TYPES = {"x": "f4", "y": "f4", "energy": "f4", "slice": "u1", "layer": "u1", "primary": "u1"}
PRIMARY_TYPES = {"energy": "f8", "x": "f8", "y": "f8", "slope_x": "f8", "slope_y": "f8"}
PARTICLE_TYPES = {"parent": "i4", "slice": "u1", "x": "f4", "y": "f4", "energy": "f4", "fate": "u1", "primary": "u1"}
SHOWER_TYPES = {"index": "i8", "incident_energy": "f8", "leaked_energy": "f8"}


@dataclass(frozen=True, eq=False)
class Table:
    """One ragged table of a file.

    Args:
        group: HDF5 group of the columns.
        types: Stored type of each column by name.
        offset: Path of the offsets, (showers + 1,) int64.
        chunk: Number of rows per HDF5 chunk.
    """

    group: str
    types: dict[str, str]
    offset: str
    chunk: int

    @property
    def bytes_per_row(self) -> int:
        """Size of one row of all columns in bytes."""
        return sum(np.dtype(kind).itemsize for kind in self.types.values())


HITS = Table("hits", HIT_TYPES, "showers/offset", 1 << 15)
PRIMARIES = Table("primaries", PRIMARY_TYPES, "primaries/offset", 1 << 12)
PARTICLES = Table("particles", PARTICLE_TYPES, "particles/offset", 1 << 15)
SHOWER_CHUNK = 1 << 12

UNITS = {
    "energy_unit": "GeV",
    "length_unit": "simulator unit (config: slice_spacing of them between two slices)",
    "angle_unit": "rad; slopes are dx/dz and dy/dz",
}
"""Attributes with the units of the columns. Files with other values are rejected."""

_MOST_CHUNK_BYTES = 1 << 28  # HDF5 decompresses a complete chunk to read one row of it


def tables_of(has_particles: bool) -> tuple[Table, ...]:
    """Return the ragged tables of a file.

    Args:
        has_particles: Whether the file contains recorded particles.

    Returns:
        The tables.
    """
    return (HITS, PRIMARIES, PARTICLES) if has_particles else (HITS, PRIMARIES)


def write_run(file: h5py.File, run: Run) -> None:
    """Write the run as attributes. The attempts are unknown (-1) until the end of the run.

    Args:
        file: The open file.
        run: Run of the showers.
    """
    import importlib.metadata

    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    file.attrs["config"] = run.config.to_json()
    if run.seed is not None:
        file.attrs["seed"] = np.uint64(run.seed)
    file.attrs["first"] = np.int64(run.first)
    file.attrs["attempts"] = np.int64(-1)
    file.attrs["acceptance"] = np.float64("nan")
    file.attrs["engine"] = run.engine
    if run.model is not None:
        file.attrs["model"] = run.model
    if run.refinement is not None:
        file.attrs["refinement"] = json.dumps(run.refinement.to_dict())
    file.attrs["keep"] = run.keep
    for name, unit in UNITS.items():
        file.attrs[name] = unit
    for package in ("supa-showers", "numpy", "numba", "h5py"):
        file.attrs[f"version of {package}"] = importlib.metadata.version(package)


def read_run(file: h5py.File) -> Run:
    """Read the run from the attributes.

    Args:
        file: The open file, which ``check_format`` has accepted.

    Returns:
        The run.

    Raises:
        ValueError: If an attribute is missing or has an invalid value.
    """
    config = _attribute(file, "config", str)
    keep = _attribute(file, "keep", str)
    engine = _attribute(file, "engine", str)
    if keep not in ("all", "complete") or engine not in ("cpu", "reference", "several", "imported"):
        raise ValueError(f"its attributes keep and engine have invalid values: {format_value((keep, engine))}")
    for name, expected in UNITS.items():
        unit = _attribute(file, name, str)
        if unit != expected:
            raise ValueError(f"the attribute {name!r} must be {expected!r}, got {format_value(unit)}")
    attempts = _attribute(file, "attempts", int)
    return Run(
        config=ShowerConfig.from_json(config),
        seed=_attribute(file, "seed", int, largest=2**64 - 1) if "seed" in file.attrs else None,
        first=_attribute(file, "first", int),
        engine=engine,
        keep="all" if keep == "all" else "complete",
        attempts=None if attempts == -1 else attempts,
        model=_attribute(file, "model", str) if "model" in file.attrs else None,
        refinement=(
            Refinement.from_dict(read_json(_attribute(file, "refinement", str))) if "refinement" in file.attrs else None
        ),
    )


def _attribute(file: h5py.File, name: str, kind: type, largest: int = 2**63 - 1) -> Any:
    value = attribute_of(file, name)
    smallest = -1 if name == "attempts" else 0
    if (kind is str and isinstance(value, str)) or (type(value) is int and smallest <= value <= largest):
        return value
    raise ValueError(f"the attribute {name!r} has the invalid value {format_value(value)}")


def attribute_of(file: h5py.File, name: str) -> Any:
    """Read an attribute of a file.

    Args:
        file: The open file.
        name: Name of the attribute.

    Returns:
        Value of the attribute; a single number is returned as a Python number.

    Raises:
        ValueError: If the attribute is missing or cannot be read.
    """
    if name not in file.attrs:
        raise ValueError(f"the attribute {name!r} is missing")
    try:
        value = file.attrs[name]
    except (OSError, TypeError, ValueError, KeyError, RuntimeError, MemoryError):
        raise ValueError(f"the attribute {name!r} cannot be read") from None
    return value.item() if isinstance(value, np.generic) else value


def check_format(file: h5py.File) -> None:
    """Check the format and the version of a file.

    Args:
        file: The open file.

    Raises:
        ValueError: If the file has another format or a newer version.
    """
    name = attribute_of(file, "format") if "format" in file.attrs else None
    if not isinstance(name, str) or name != FORMAT:
        raise ValueError(
            f"it is an HDF5 file, but not of the format {FORMAT!r}; `supa convert` converts showerdata, CaloGAN and "
            "CaloChallenge files"
        )
    version = attribute_of(file, "version")
    if type(version) is not int or version < 1:
        raise ValueError(f"its version must be a positive integer, got {format_value(version)}")
    if version > VERSION:
        raise ValueError(f"its version is {version}, but this program reads versions up to {VERSION}; update it")


def stores_particles(file: h5py.File) -> bool:
    """Return whether a file has a table of particles, which may be damaged.

    Args:
        file: The open file.

    Returns:
        True if the group exists.
    """
    return bool(file.id.links.exists(PARTICLES.group.encode()))


def stores_weights(file: h5py.File) -> bool:
    """Return whether the showers of a file have weights.

    Args:
        file: The open file, which has a group of showers.

    Returns:
        True if the column exists.
    """
    return bool(file.id.links.exists(f"showers/{WEIGHT}".encode()))


def dataset_at(file: h5py.File, path: str, kind: str) -> h5py.Dataset:
    """Return a dataset after checking that it is stored completely in this file.

    HDF5 itself follows links into other files, reads values from other files, and can run plug-in code for
    user-defined links.

    Args:
        file: The open file.
        path: Path of the dataset.
        kind: Required dtype.

    Returns:
        The one-dimensional dataset.

    Raises:
        ValueError: If the dataset is missing, is not stored in this file, or has another dtype or shape.
    """
    place: Any = file
    for name in path.split("/"):
        if not isinstance(place, h5py.Group) or not place.id.links.exists(name.encode()):
            raise ValueError(f"the column {path!r} is missing")
        if place.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"the column {path!r} is missing: {name!r} is a link, and links are not followed")
        place = place[name]
    if not isinstance(place, h5py.Dataset):
        raise ValueError(f"the column {path!r} is missing")
    if place.external or place.is_virtual:
        raise ValueError(f"the column {path!r} is stored in another file")
    if place.shape is None or place.ndim != 1 or place.dtype != np.dtype(kind):
        raise ValueError(f"the column {path!r} must be one-dimensional {kind}, got {place.dtype} {place.shape}")
    if place.chunks is not None and place.chunks[0] * place.dtype.itemsize > _MOST_CHUNK_BYTES:
        raise ValueError(f"the column {path!r} has chunks of {place.chunks[0]:,} rows, which exceed the limit")
    return place


def read_progress(file: h5py.File) -> int:
    """Read the number of showers that the writer has finished.

    Args:
        file: The open file.

    Returns:
        Number of showers.

    Raises:
        ValueError: If the number is missing or invalid.
    """
    dataset = dataset_at(file, PROGRESS, "i8")
    if dataset.shape != (1,):
        raise ValueError(f"the column {PROGRESS!r} must have 1 row, got {dataset.shape[0]:,}")
    count = int(dataset[0])
    if count < 0:
        raise ValueError(f"the column {PROGRESS!r} must not be negative, got {count}")
    return count


def check_columns(file: h5py.File, *, unfinished: bool = False) -> None:
    """Check that all columns exist in this file with the right types and lengths.

    Args:
        file: The open file.
        unfinished: Whether columns may have more rows than those of the finished showers.

    Raises:
        ValueError: If a column is missing or inconsistent.
    """
    showers = read_progress(file)
    dataset_at(file, HITS.offset, "i8")  # in the group of showers
    for name, kind in (SHOWER_TYPES | ({WEIGHT: "f8"} if stores_weights(file) else {})).items():
        length = len(dataset_at(file, f"showers/{name}", kind))
        if length < showers or (length > showers and not unfinished):
            raise ValueError(
                f"the column 'showers/{name}' has {counted(length, 'row')} for {counted(showers, 'shower')}"
            )
    for table in tables_of(stores_particles(file)):
        offsets = dataset_at(file, table.offset, "i8")
        if len(offsets) < showers + 1 or (len(offsets) > showers + 1 and not unfinished):
            raise ValueError(
                f"the column {table.offset!r} has {counted(len(offsets), 'row')} for {counted(showers, 'shower')}"
            )
        if offsets.nbytes > available_bytes():
            raise ValueError(f"the offsets of its {showers:,} showers do not fit into the memory")
        last = int(check_offset(f"the column {table.offset!r}", offsets[: showers + 1])[-1])
        for name, kind in table.types.items():
            rows = len(dataset_at(file, f"{table.group}/{name}", kind))
            if rows < last or (rows > last and not unfinished):
                raise ValueError(
                    f"the column '{table.group}/{name}' has {counted(rows, 'row')}, but the offsets end at {last}"
                )

"""The layout of a shower file: its groups, columns, attributes, and how they are checked. See ``docs/reference/file_format.md``."""

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from supa import Run, ShowerConfig
from supa.checks import counted, format_value
from supa.memory import available_bytes
from supa.ragged import check_offset

FORMAT = "supa-showers"
VERSION = 1

PROGRESS = "progress"

HIT_TYPES = {"x": "f4", "y": "f4", "energy": "f4", "slice": "u1", "layer": "u1", "primary": "u1"}
PRIMARY_TYPES = {"energy": "f8", "x": "f8", "y": "f8", "slope_x": "f8", "slope_y": "f8"}
PARTICLE_TYPES = {"parent": "i4", "slice": "u1", "x": "f4", "y": "f4", "energy": "f4", "fate": "u1", "primary": "u1"}
SHOWER_TYPES = {"index": "i8", "incident_energy": "f8", "leaked_energy": "f8"}


@dataclass(frozen=True, eq=False)
class Table:
    """One ragged table of a file.

    Args:
        group: HDF5 group of its columns.
        types: name and stored type of each column.
        offset: path of its offsets, (showers + 1,) int64.
        chunk: rows of an HDF5 chunk.
    """

    group: str
    types: dict[str, str]
    offset: str
    chunk: int

    @property
    def bytes_per_row(self) -> int:
        """Memory of one row of all columns."""
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
"""Attributes that say what the numbers mean; other texts are another version of the format."""

_MOST_CHUNK_BYTES = 1 << 28  # HDF5 unpacks a whole chunk to read a row of it


def tables_of(has_particles: bool) -> tuple[Table, ...]:
    """Name the ragged tables of a file.

    Args:
        has_particles: whether the particles are recorded.

    Returns:
        The tables.
    """
    return (HITS, PRIMARIES, PARTICLES) if has_particles else (HITS, PRIMARIES)


def write_run(file: h5py.File, run: Run) -> None:
    """Write what made the showers as attributes; the attempts are unknown (-1) until the end of the run.

    Args:
        file: the open file.
        run: what made the showers.
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
    file.attrs["keep"] = run.keep
    for name, unit in UNITS.items():
        file.attrs[name] = unit
    for package in ("supa-showers", "numpy", "numba", "h5py"):
        file.attrs[f"version of {package}"] = importlib.metadata.version(package)


def read_run(file: h5py.File) -> Run:
    """Read what made the showers.

    Args:
        file: the open file, of a format and version that ``check_format`` accepts.

    Returns:
        What made them.

    Raises:
        ValueError: an attribute is missing or not allowed.
    """
    config = _attribute(file, "config", str)
    keep = _attribute(file, "keep", str)
    engine = _attribute(file, "engine", str)
    if keep not in ("all", "complete") or engine not in ("cpu", "reference", "several", "imported"):
        raise ValueError(f"its attributes keep and engine are {format_value(keep)} and {format_value(engine)}")
    for name, expected in UNITS.items():
        unit = _attribute(file, name, str)
        if unit != expected:
            raise ValueError(f"the attribute {name!r} is {format_value(unit)}, but it must be {expected!r}")
    attempts = _attribute(file, "attempts", int)
    return Run(
        config=ShowerConfig.from_json(config),
        seed=_attribute(file, "seed", int, largest=2**64 - 1) if "seed" in file.attrs else None,
        first=_attribute(file, "first", int),
        engine=engine,
        keep="all" if keep == "all" else "complete",
        attempts=None if attempts == -1 else attempts,
    )


def _attribute(file: h5py.File, name: str, kind: type, largest: int = 2**63 - 1) -> Any:
    value = attribute_of(file, name)
    smallest = -1 if name == "attempts" else 0
    if (kind is str and isinstance(value, str)) or (type(value) is int and smallest <= value <= largest):
        return value
    raise ValueError(f"the attribute {name!r} is {format_value(value)}")


def attribute_of(file: h5py.File, name: str) -> Any:
    """Read an attribute of a file.

    Args:
        file: the open file.
        name: its name.

    Returns:
        Its value; of a single number a Python number.

    Raises:
        ValueError: it is missing, or of a type that NumPy does not have.
    """
    if name not in file.attrs:
        raise ValueError(f"the attribute {name!r} is missing")
    try:
        value = file.attrs[name]
    except (OSError, TypeError, ValueError, KeyError, RuntimeError, MemoryError):
        raise ValueError(f"the attribute {name!r} cannot be read") from None
    return value.item() if isinstance(value, np.generic) else value


def check_format(file: h5py.File) -> None:
    """Check that a file is one of ours and not newer than this program.

    Args:
        file: the open file.

    Raises:
        ValueError: it is another program's, or newer.
    """
    name = attribute_of(file, "format") if "format" in file.attrs else None
    if not isinstance(name, str) or name != FORMAT:
        raise ValueError(
            f"it is an HDF5 file, but not of the format {FORMAT!r}; of showerdata, CaloGAN and CaloChallenge files "
            "`supa convert` makes one"
        )
    version = attribute_of(file, "version")
    if type(version) is not int or version < 1:
        raise ValueError(f"its version is {format_value(version)}, which no version of this program writes")
    if version > VERSION:
        raise ValueError(f"its version is {version}, but this program reads versions up to {VERSION}; update it")


def stores_particles(file: h5py.File) -> bool:
    """Return whether a file has a table of particles, be it damaged.

    Args:
        file: the open file.

    Returns:
        Whether there is anything of its name.
    """
    return bool(file.id.links.exists(PARTICLES.group.encode()))


def dataset_at(file: h5py.File, path: str, kind: str) -> h5py.Dataset:
    """Look up a dataset of which every part is in this file.

    HDF5 itself follows links into other files, reads values from other files, and may run other people's code for a
    link of their own type.

    Args:
        file: the open file.
        path: its path.
        kind: the type that it must have.

    Returns:
        The dataset, one-dimensional.

    Raises:
        ValueError: it is missing, not in this file, or of another type or shape.
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
        raise ValueError(f"the column {path!r} lies in another file")
    if place.shape is None or place.ndim != 1 or place.dtype != np.dtype(kind):
        raise ValueError(f"the column {path!r} is {place.dtype} {place.shape}, not one-dimensional {kind}")
    if place.chunks is not None and place.chunks[0] * place.dtype.itemsize > _MOST_CHUNK_BYTES:
        raise ValueError(f"a chunk of the column {path!r} has {place.chunks[0]:,} rows, more than are read at once")
    return place


def read_progress(file: h5py.File) -> int:
    """Read how many showers the writer has finished.

    Args:
        file: the open file.

    Returns:
        The number of showers.

    Raises:
        ValueError: it is missing, or not one number of showers.
    """
    dataset = dataset_at(file, PROGRESS, "i8")
    if dataset.shape != (1,):
        raise ValueError(f"the column {PROGRESS!r} has {dataset.shape[0]:,} rows, not 1")
    count = int(dataset[0])
    if count < 0:
        raise ValueError(f"the column {PROGRESS!r} counts {count} showers")
    return count


def check_columns(file: h5py.File, *, unfinished: bool = False) -> None:
    """Check that every column is there, in this file, of the right type, and as long as the others.

    Args:
        file: the open file.
        unfinished: whether there may be more rows than those of the showers that the writer has finished.

    Raises:
        ValueError: a column is missing or does not fit.
    """
    showers = read_progress(file)
    for name, kind in SHOWER_TYPES.items():
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
            raise ValueError(f"its {showers:,} showers are more than the memory can index")
        last = int(check_offset(f"the column {table.offset!r}", offsets[: showers + 1])[-1])
        for name, kind in table.types.items():
            rows = len(dataset_at(file, f"{table.group}/{name}", kind))
            if rows < last or (rows > last and not unfinished):
                raise ValueError(
                    f"the column '{table.group}/{name}' has {counted(rows, 'row')}, but the offsets end at {last}"
                )

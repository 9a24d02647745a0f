"""The layout of a shower file: its groups, columns, attributes, and how they are checked. See ``docs/format.md``."""

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from supa import Run, ShowerConfig

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


HITS = Table("hits", HIT_TYPES, "showers/offset", 1 << 15)
PRIMARIES = Table("primaries", PRIMARY_TYPES, "primaries/offset", 1 << 12)
PARTICLES = Table("particles", PARTICLE_TYPES, "particles/offset", 1 << 15)
SHOWER_CHUNK = 1 << 12


def tables_of(recorded: bool) -> tuple[Table, ...]:
    """Name the ragged tables of a file.

    Args:
        recorded: whether the particles are recorded.

    Returns:
        The tables.
    """
    return (HITS, PRIMARIES, PARTICLES) if recorded else (HITS, PRIMARIES)


def write_run(file: h5py.File, run: Run) -> None:
    """Write what made the showers as attributes, without the attempts, which only the end of a run tells.

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
    file.attrs["engine"] = run.engine
    file.attrs["keep"] = run.keep
    file.attrs["energy_unit"] = "GeV"
    file.attrs["length_unit"] = "simulator unit (config: slice_spacing of them between two slices)"
    file.attrs["angle_unit"] = "rad; slopes are dx/dz and dy/dz"
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
    attributes: dict[str, Any] = dict(file.attrs)
    missing = [name for name in ("config", "first", "engine", "keep") if name not in attributes]
    if missing:
        raise ValueError(f"the attribute {missing[0]!r} is missing")
    if attributes["keep"] not in ("all", "complete"):
        raise ValueError(f"the attribute keep is {attributes['keep']!r}")
    return Run(
        config=ShowerConfig.from_json(attributes["config"]),
        seed=int(attributes["seed"]) if "seed" in attributes else None,
        first=int(attributes["first"]),
        engine=str(attributes["engine"]),
        keep=attributes["keep"],
        attempts=int(attributes["attempts"]) if "attempts" in attributes else None,
    )


def check_format(file: h5py.File) -> None:
    """Check that a file is one of ours and not newer than this program.

    Args:
        file: the open file.

    Raises:
        ValueError: it is another program's, or newer.
    """
    if file.attrs.get("format") != FORMAT:
        raise ValueError(f"it is an HDF5 file, but not of the format {FORMAT!r}")
    version = file.attrs.get("version")
    if not isinstance(version, int | np.integer) or version < 1:
        raise ValueError(f"its version is {version!r}, which no version of this program writes")
    if version > VERSION:
        raise ValueError(f"its version is {version}, but this program reads versions up to {VERSION}; update it")


def check_columns(file: h5py.File, recorded: bool, committed: int | None = None) -> None:
    """Check that every column is there, of the right type, and as long as the others.

    Args:
        file: the open file.
        recorded: whether the particles are recorded.
        committed: how many showers must be there at least (an unfinished file); None for exactly all.

    Raises:
        ValueError: a column is missing or does not fit.
    """

    def column(path: str, kind: str) -> h5py.Dataset:
        dataset = file.get(path)
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError(f"the column {path!r} is missing")
        if dataset.ndim != 1 or dataset.dtype != np.dtype(kind):
            raise ValueError(f"the column {path!r} is {dataset.dtype} {dataset.shape}, not one-dimensional {kind}")
        return dataset

    lengths = {name: len(column(f"showers/{name}", kind)) for name, kind in SHOWER_TYPES.items()}
    showers = lengths["index"] if committed is None else committed
    for name, length in lengths.items():
        if length < showers or (committed is None and length != showers):
            raise ValueError(f"the column 'showers/{name}' has {length} rows for {showers} showers")
    for table in tables_of(recorded):
        offsets = column(table.offset, "i8")
        if len(offsets) < showers + 1 or (committed is None and len(offsets) != showers + 1):
            raise ValueError(f"the column {table.offset!r} has {len(offsets)} rows for {showers} showers")
        offset = offsets[: showers + 1]
        if offset[0] != 0 or (np.diff(offset) < 0).any():
            raise ValueError(f"the column {table.offset!r} does not ascend from 0")
        for name, kind in table.types.items():
            rows = len(column(f"{table.group}/{name}", kind))
            if rows < offset[-1] or (committed is None and rows != offset[-1]):
                raise ValueError(
                    f"the column '{table.group}/{name}' has {rows} rows, but the offsets end at {offset[-1]}"
                )

"""The layout of a shower file: its groups, columns, attributes, and how they are checked. See ``docs/format.md``."""

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from supa import Ragged, Run, ShowerConfig, Showers
from supa.checks import shown
from supa.memory import available_bytes
from supa.physics import FATES, STOP, UNKNOWN_SLICE, layer_of_any_slice

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
_CHECKED_ROWS = 1 << 20


def tables_of(recorded: bool) -> tuple[Table, ...]:
    """Name the ragged tables of a file.

    Args:
        recorded: whether the particles are recorded.

    Returns:
        The tables.
    """
    return (HITS, PRIMARIES, PARTICLES) if recorded else (HITS, PRIMARIES)


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
    attributes = dict(file.attrs)
    config = _attribute(attributes, "config", str)
    keep = _attribute(attributes, "keep", str)
    engine = _attribute(attributes, "engine", str)
    if keep not in ("all", "complete") or engine not in ("cpu", "reference", "several", "imported"):
        raise ValueError(f"its attributes keep and engine are {keep!r} and {engine!r}")
    attempts = _attribute(attributes, "attempts", int)
    return Run(
        config=ShowerConfig.from_json(config),
        seed=_attribute(attributes, "seed", int, largest=2**64 - 1) if "seed" in attributes else None,
        first=_attribute(attributes, "first", int),
        engine=engine,
        keep="all" if keep == "all" else "complete",
        attempts=None if attempts == -1 else attempts,
    )


def _attribute(attributes: dict[str, Any], name: str, kind: type, largest: int = 2**63 - 1) -> Any:
    if name not in attributes:
        raise ValueError(f"the attribute {name!r} is missing")
    value = attributes[name].item() if isinstance(attributes[name], np.generic) else attributes[name]
    if kind is str and isinstance(value, str):
        return value
    smallest = -1 if name == "attempts" else 0
    if kind is int and isinstance(value, int) and smallest <= value <= largest:
        return value
    raise ValueError(f"the attribute {name!r} is {shown(value)}")


def check_format(file: h5py.File) -> None:
    """Check that a file is one of ours and not newer than this program.

    Args:
        file: the open file.

    Raises:
        ValueError: it is another program's, or newer.
    """
    if file.attrs.get("format") != FORMAT:
        raise ValueError(
            f"it is an HDF5 file, but not of the format {FORMAT!r}; of showerdata, CaloGAN and CaloChallenge files "
            "`supa convert` makes one"
        )
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
        if not isinstance(file.get(path, getlink=True), h5py.HardLink) or not isinstance(file[path], h5py.Dataset):
            raise ValueError(f"the column {path!r} is missing")
        dataset = file[path]
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"the column {path!r} lies in another file")
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
        if offsets.nbytes > available_bytes():
            raise ValueError(f"its {showers:,} showers are more than the memory can index")
        last = 0
        for start in range(0, showers + 1, _CHECKED_ROWS):
            offset = offsets[start : min(start + _CHECKED_ROWS, showers + 1)]
            if (start == 0 and offset[0] != 0) or offset[0] < last or (offset[1:] < offset[:-1]).any():
                raise ValueError(f"the column {table.offset!r} does not ascend from 0")
            last = int(offset[-1])
        for name, kind in table.types.items():
            rows = len(column(f"{table.group}/{name}", kind))
            if rows < last or (committed is None and rows != last):
                raise ValueError(f"the column '{table.group}/{name}' has {rows} rows, but the offsets end at {last}")


def check_rows(showers: Showers) -> None:
    """Check that values which were read can be those of showers.

    Args:
        showers: what was read.

    Raises:
        ValueError: a value cannot be.
    """
    hits, primaries, particles, slices = showers.hits, showers.primaries, showers.particles, showers.config.num_slices
    layer_of_slice = layer_of_any_slice(showers.config)
    # Showers that another program made may know only their hits' layers, and not what leaked.
    imported = showers.run.engine in ("imported", "several")
    known = showers.slice != UNKNOWN_SLICE if imported else np.ones(len(showers.slice), dtype=np.bool_)
    leaked = showers.leaked_energy
    checks = {
        "an index": (showers.index >= 0).all(),
        "an incident energy": _all_within(showers.incident_energy, above_zero=True),
        "a leaked energy": _all_within(leaked[~np.isnan(leaked)] if imported else leaked),
        "a hit's energy": _all_within(hits["energy"]),
        "a hit's position": np.isfinite(hits["x"]).all() and np.isfinite(hits["y"]).all(),
        "a hit's slice": (showers.slice[known] < slices).all(),
        "a hit's layer": np.array_equal(layer_of_slice[showers.slice[known]], showers.layer[known])
        and (showers.layer < showers.config.num_layers).all(),
        "a hit's primary": (showers.primary < np.repeat(showers.num_primaries, showers.num_hits)).all(),
        "a primary's energy": _all_within(primaries["energy"]),
        "a primary's position or direction": all(np.isfinite(primaries[n]).all() for n in PRIMARY_TYPES),
    }
    if particles is not None:
        number = np.arange(particles.num_rows) - np.repeat(particles.offset[:-1], particles.counts)
        parent: Any = particles["parent"]
        checks |= {
            "a particle's energy": _all_within(particles["energy"]),
            "a particle's position": np.isfinite(particles["x"]).all() and np.isfinite(particles["y"]).all(),
            "a particle's slice": np.less_equal(particles["slice"], slices).all(),
            "a particle's fate": np.less(particles["fate"], len(FATES)).all(),
            "a particle's parent": ((parent >= -1) & (parent < number)).all() and _deeper_than_parents(particles),
            "the number of hits": np.array_equal(_stops(particles), showers.num_hits),
        }
    for name, fits in checks.items():
        if not fits:
            raise ValueError(f"it is damaged: {name} is not possible")


def _all_within(energy: Any, *, above_zero: bool = False) -> bool:
    low = (energy > 0) if above_zero else (energy >= 0)  # also False where it is not a number
    return bool(low.all() and np.isfinite(energy).all())


def _deeper_than_parents(particles: Ragged) -> bool:
    parent: Any = particles["parent"]
    child = np.flatnonzero(parent >= 0)
    row = particles.offset[:-1][particles.group_of_row()[child]] + parent[child]
    depth = particles["slice"].astype(np.int64)
    return bool((depth[child] == depth[row] + 1).all() and (depth[parent < 0] == 0).all())


def _stops(particles: Ragged) -> Any:
    """Count each shower's particles that stop."""
    stopped = np.equal(particles["fate"], STOP)
    return np.bincount(particles.group_of_row()[stopped], minlength=len(particles))

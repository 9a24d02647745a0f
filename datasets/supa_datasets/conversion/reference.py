"""Pickle files of the public reference code (itsdaniele/SUPA), which are only read, and without Python's unpickler.

``shower_batchK.bin`` is a list of showers. A shower is a list of layers, and a layer is a list of points (x, y, E in
GeV). ``tot_energy_batchK.bin`` in the same folder contains the incident energies in GeV. Both files were written by
``torch.save``.
"""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from supa import ShowerConfig, Showers, from_hits
from supa.arrays import FloatArray
from supa.checks import counted
from supa.ragged import counts_to_offsets
from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.run_json import imported
from supa_datasets.conversion.safe_unpickler import Unpickler, finished
from supa_datasets.conversion.untrusted_input import check_memory, named_errors, spans

_SHOWERS, _ENERGIES = "shower_batch", "tot_energy_batch"
_MAGIC = 0x1950A86A20F9469CFC6C
# A point needs about 100 bytes in a pickle and about 600 bytes as Python objects.
_MEMORY_FACTOR = 8
_POINT_BYTES = 3  # minimum, for an array of int8


@contextmanager
def _read(path: Path, choices: Choices) -> Iterator[Source]:
    energies_path = path.with_name(path.name.replace(_SHOWERS, _ENERGIES, 1))
    if not path.name.startswith(_SHOWERS):
        raise ValueError(
            f"files of the reference code must be named {_SHOWERS}K.bin, with {_ENERGIES}K.bin beside them"
        )
    if not energies_path.is_file():
        raise ValueError(f"the incident energies are missing: there is no {energies_path.name} in the same folder")
    config = choices.config_for(None, default="reference")
    with named_errors(energies_path):
        incident = np.array([_number(entry) for entry in _sequence(_unpickled(energies_path))])
    showers = _sequence(_unpickled(path))
    total = len(showers)
    if len(incident) != total:
        raise ValueError(
            f"it has {counted(total, 'shower')}, but {energies_path.name} has "
            f"{counted(len(incident), 'energy', 'energies')}"
        )
    layers = [[_sequence(layer) for layer in _sequence(shower)] for shower in showers]
    points = sum(len(layer) for shower in layers for layer in shower)
    if points * _POINT_BYTES > path.stat().st_size:
        raise ValueError(f"it claims {counted(points, 'point')}, more than the file can contain")
    chunks = (_showers(config, layers[a:b], incident[a:b], a) for a, b in spans(total, points))
    yield Source(imported(config, total), total, False, chunks)


def _unpickled(path: Path) -> Any:
    size = path.stat().st_size
    check_memory(_MEMORY_FACTOR * size, "the pickle")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found = [info for info in archive.infolist() if info.filename.split("/")[-1] == "data.pkl"]
            if len(found) != 1:
                raise ValueError("it must be an archive of torch.save with one data.pkl")
            if found[0].compress_type != zipfile.ZIP_STORED or found[0].file_size > size:
                raise ValueError("its data.pkl is compressed, which torch.save never does")
            return Unpickler(io.BytesIO(archive.read(found[0]))).load()
    unpickler = Unpickler(io.BytesIO(path.read_bytes()))
    if unpickler.load() != _MAGIC:
        raise ValueError("it is not a file of torch.save")
    unpickler.load()  # the protocol of the legacy format
    unpickler.load()  # properties of the machine
    return unpickler.load()


def _sequence(value: Any) -> Any:
    value = finished(value)
    if not isinstance(value, list | tuple | np.ndarray) or (isinstance(value, np.ndarray) and value.ndim == 0):
        raise ValueError("it must contain a list of showers, which are lists of layers, which are lists of points")
    return value


def _number(entry: Any) -> float:
    # NumPy would expand nested lists recursively, so lists are not passed to it.
    value = finished(entry)
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("an energy or a coordinate is not one number")
    return float(value)


def _points(layer: Any) -> FloatArray:
    """Return x, y and energy of the points of a layer, (points, 3)."""
    if isinstance(layer, np.ndarray):
        points = layer
    else:
        rows = [_sequence(point) for point in layer]
        if any(len(row) != 3 for row in rows):
            raise ValueError("a point is not (x, y, energy)")
        points = np.array([row if isinstance(row, np.ndarray) else [_number(value) for value in row] for row in rows])
    if points.size == 0:
        return np.empty((0, 3))
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError("a point is not (x, y, energy)")
    return points.astype(np.float64)


def _showers(config: ShowerConfig, layers: list[list[Any]], incident: FloatArray, first: int) -> Showers:
    for shower in layers:
        if len(shower) != config.num_layers:
            raise ValueError(f"a shower has {counted(len(shower), 'layer')}, but the config has {config.num_layers}")
    points = [_points(layer) for shower in layers for layer in shower]
    counts = np.array([len(part) for part in points], dtype=np.int64)
    table = np.concatenate([np.empty((0, 3)), *points])
    layer_of_part = np.tile(np.arange(config.num_layers), len(layers))
    return from_hits(
        config,
        offset=counts_to_offsets(counts.reshape(len(layers), -1).sum(axis=1)),
        incident_energy=incident,
        x=table[:, 0],
        y=table[:, 1],
        energy=table[:, 2],
        layer=np.repeat(layer_of_part, counts),
        index=first + np.arange(len(layers)),
    )


REFERENCE = Format("reference", "pickles of the public reference code; read only, without running code", _read, None)

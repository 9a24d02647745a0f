"""CaloChallenge HDF5 files: energies of voxels in MeV, flattened as (layer, angle, radius) with the radius fastest."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from supa import Grid, ShowerConfig, Showers
from supa.checks import counted
from supa_datasets.conversion.cells import MEV, pieces, showers_of
from supa_datasets.conversion.foreign_hdf5 import created, dataset, make_room, opened, stored_config
from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.run_json import imported
from supa_datasets.conversion.untrusted_input import spans


@contextmanager
def _read(path: Path, choices: Choices) -> Iterator[Source]:
    with opened(path) as file:
        config = choices.config_for(stored_config(file))
        grid = _grid(choices, config)
        incident = dataset(file, "incident_energies", (None, 1))
        total = len(incident)
        voxels = dataset(file, "showers", (total, grid.num_cells))

        def chunk(start: int, stop: int) -> Showers:
            energies = voxels[start:stop].astype(np.float64) / MEV
            return showers_of(grid, config, energies, incident[start:stop, 0].astype(np.float64) / MEV, start)

        chunks = (chunk(a, b) for a, b in spans(total, total * grid.num_cells))
        yield Source(imported(config, total), total, False, chunks)


def _write(path: Path, source: Source, choices: Choices) -> None:
    grid = _grid(choices, source.run.config)
    choices.note("CaloChallenge files store the energy in each cell, but not the hits or the primaries.")
    lost = all_energy = 0.0
    with created(path, source.run.config) as file:
        incident = file.create_dataset("incident_energies", (source.total, 1), "f8")
        # Most voxels are empty. As in the challenge's own files, gzip makes the file ten times smaller.
        rows = max(1, min(source.total, (1 << 16) // grid.num_cells))
        options = {"chunks": (rows, grid.num_cells), "compression": "gzip", "compression_opts": 1, "shuffle": True}
        voxels = file.create_dataset("showers", (source.total, grid.num_cells), "f8", **options if source.total else {})
        start = 0
        for chunk in source.chunks:
            for showers in pieces(chunk, grid.num_cells):
                stop = start + len(showers)
                make_room(file, 8 * grid.num_cells * len(showers))
                incident[start:stop, 0] = MEV * showers.incident_energy
                energies = grid.energies(showers)
                voxels[start:stop] = MEV * energies
                all_energy += float(showers.energy.sum(dtype=np.float64))
                lost += float(showers.energy.sum(dtype=np.float64) - energies.sum())
                start = stop
    # If nothing is lost, rounding can make the difference of the two sums negative.
    share = max(lost, 0.0) / all_energy if all_energy else 0.0
    choices.note(f"{share:.2%} of the hit energy is outside the cells and is not in the file.")


def _grid(choices: Choices, config: ShowerConfig) -> Grid:
    """Return the cells, a part for each readout layer or for each slice."""
    if choices.binning is None:
        raise ValueError("a CaloChallenge file needs its binning (--binning XML; in Python binning=)")
    parts = choices.binning.parts
    if choices.depth in (None, "layer") and len(parts) == config.num_layers:
        return Grid(parts, "layer")
    if choices.depth in (None, "slice") and len(parts) == config.num_slices:
        return Grid(parts, "slice")
    wanted = {
        None: f"{config.num_layers} (the readout layers) or {config.num_slices} (the slices)",
        "layer": f"{config.num_layers} (the readout layers)",
        "slice": f"{config.num_slices} (the slices)",
    }[choices.depth]
    raise ValueError(f"the binning has {counted(len(parts), 'layer')}, but it must have {wanted}")


CALOCHALLENGE = Format(
    "calochallenge",
    "CaloChallenge HDF5 voxels in MeV, with a binning XML",
    _read,
    _write,
    datasets=("incident_energies", "showers"),
)

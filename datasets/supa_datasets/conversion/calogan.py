"""HDF5 images of CaloGAN (hep-lbdl/CaloGAN, arXiv 1705.02355): cells in MeV, incident energy in GeV."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from supa import CALOGAN as GRID
from supa import ShowerConfig, Showers
from supa_datasets.conversion.cells import MEV, pieces, showers_of
from supa_datasets.conversion.foreign_hdf5 import created, dataset, make_room, opened, stored_config
from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.run_json import imported
from supa_datasets.conversion.untrusted_input import spans

_SHAPES = {f"layer_{k}": part.shape for k, part in enumerate(GRID.parts) if part is not None}


@contextmanager
def _read(path: Path, choices: Choices) -> Iterator[Source]:
    with opened(path) as file:
        config = choices.config_for(stored_config(file))
        _check(config)
        energy = dataset(file, "energy", (None, 1))
        total = len(energy)
        layers = [dataset(file, name, (total, *shape)) for name, shape in _SHAPES.items()]
        choices.note("The overflow of CaloGAN files (energy outside the cells) has no position and is left out.")

        def chunk(start: int, stop: int) -> Showers:
            cells = np.concatenate(
                [layer[start:stop].reshape(stop - start, math.prod(layer.shape[1:])) for layer in layers], axis=1
            )
            cells = cells.astype(np.float64) / MEV
            return showers_of(GRID, config, cells, energy[start:stop, 0].astype(np.float64), start)

        chunks = (chunk(a, b) for a, b in spans(total, total * GRID.num_cells))
        yield Source(imported(config, total), total, False, chunks)


def _write(path: Path, source: Source, choices: Choices) -> None:
    _check(source.run.config)
    choices.note("CaloGAN files store the energy in the cells of each layer, but not the hits, slices or primaries.")
    with created(path, source.run.config) as file:
        n = source.total
        energy = file.create_dataset("energy", (n, 1), "f8")
        layers = [file.create_dataset(name, (n, *shape), "f8") for name, shape in _SHAPES.items()]
        overflow = file.create_dataset("overflow", (n, len(layers)), "f8")
        start = 0
        for chunk in source.chunks:
            for showers in pieces(chunk, GRID.num_cells):
                stop = start + len(showers)
                make_room(file, 8 * GRID.num_cells * len(showers))
                energy[start:stop, 0] = showers.incident_energy
                for layer, image in zip(layers, GRID.images(showers), strict=True):
                    layer[start:stop] = MEV * image
                overflow[start:stop] = MEV * GRID.overflow(showers)
                start = stop


def _check(config: ShowerConfig) -> None:
    if config.num_layers != len(_SHAPES):
        raise ValueError(f"CaloGAN files have {len(_SHAPES)} layers, but the showers have {config.num_layers}.")


CALOGAN = Format(
    "calogan",
    "HDF5 images of CaloGAN: 3 layers of cells in MeV, with overflow",
    _read,
    _write,
    datasets=tuple(_SHAPES),
)

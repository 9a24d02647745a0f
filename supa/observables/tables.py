"""Tables of observables: one column a number that each shower has, or one that each hit has."""

import numpy as np

from supa.arrays import FloatArray
from supa.grids import CALOGAN, Grid
from supa.observables.cells import filling_of
from supa.observables.distances import mean_pair_distance
from supa.observables.lateral import lateral_of
from supa.observables.longitudinal import depth_of, layer_fraction, layer_hits, response
from supa.observables.spectra import hit_fraction, largest_hit_fraction, mean_log_hit_energy
from supa.observables.sums import in_float64, maxima, ratio, sums
from supa.observables.tree import branching_fraction, paths_of
from supa.showers import Showers

MAX_TABLE_LAYERS = 8
_BLOCK_HITS = 1 << 17

_LENGTH = "length unit"
_COUNTS = ("num_hits", "hits", "max generation")
_UNITS = {
    "depth mean": _LENGTH,
    "depth width": _LENGTH,
    "depth start": _LENGTH,
    "depth maximum": _LENGTH,
    "centre x": _LENGTH,
    "centre y": _LENGTH,
    "width x": _LENGTH,
    "width y": _LENGTH,
    "mean radius": _LENGTH,
    "width r": _LENGTH,
    "mean pair distance": _LENGTH,
    "mean pair distance in x, y": _LENGTH,
    "mean path length": _LENGTH,
    "x": _LENGTH,
    "y": _LENGTH,
    "r": _LENGTH,
    "z": _LENGTH,
}


def table(showers: Showers, *, grid: Grid | None = None) -> dict[str, FloatArray]:
    """Return every observable that a shower has as one column, to compare two samples or to plot.

    Energies are fractions of the incident energy. Columns are there where they mean something: those of depth where
    the slices are known, those of trees where the particles are recorded, hits and energies by layer where there is
    more than one layer, and those of cells for parts of at least two cells. Of more than 8 layers, only the first 8
    have columns. The response is 1 to rounding where nothing leaks, and is there to catch a wrong scale of energies.

    Args:
        showers: the showers.
        grid: the cells, with a part for each layer; None for ``supa.CALOGAN`` where there are three layers, and no
            columns of cells elsewhere.

    Returns:
        Name and (n,) float64 values of each column; NaN where a shower's value is not defined.

    Raises:
        ValueError: the grid does not fit the showers.
    """
    grid = _grid_for(showers, grid)
    # Block by block, the columns of the hits stay in the cache and their memory is used again.
    block = max(1, _BLOCK_HITS * len(showers) // max(showers.hits.num_rows, 1))
    depth_known = showers.slices_known
    blocks = [_columns(showers[k : k + block], grid, depth_known) for k in range(0, max(len(showers), 1), block)]
    return {name: np.concatenate([columns[name] for columns in blocks]) for name in blocks[0]}


def hit_table(showers: Showers) -> dict[str, FloatArray]:
    """Return what each hit has as columns, for histograms; ``showers.offset`` tells whose hits they are.

    Args:
        showers: the showers.

    Returns:
        (hits,) float64: x, y, r, z (layer, where the slices are not known) and log energy fraction, the decimal
        logarithm of hit energy over incident energy, NaN for a hit without energy.
    """
    x, y, fraction = in_float64(showers.x), in_float64(showers.y), hit_fraction(showers)
    depth = {"z": showers.z} if showers.slices_known else {"layer": showers.layer.astype(np.float64)}
    logarithm = np.log10(fraction, out=np.full_like(fraction, np.nan), where=fraction > 0)
    return {"x": x, "y": y, "r": np.hypot(x, y), **depth, "log energy fraction": logarithm}


def label(name: str) -> str:
    """Write the label of an axis for a column of ``table`` or ``hit_table``.

    Args:
        name: the column's name.

    Returns:
        The name, and the unit in brackets where it has one.
    """
    unit = _UNITS.get(name.split(", layer ")[0])
    return f"{name} ({unit})" if unit else name


def is_length(name: str) -> bool:
    """Return whether an observable is a length.

    Args:
        name: the column's name.

    Returns:
        Whether its unit is the length unit.
    """
    return _UNITS.get(name.split(", layer ")[0]) == _LENGTH


def is_count(name: str) -> bool:
    """Return whether an observable is a number of something, and so exact.

    Args:
        name: the column's name.

    Returns:
        Whether its values are whole numbers.
    """
    return name.split(", layer ")[0] in _COUNTS


def _columns(showers: Showers, grid: Grid | None, depth_known: bool) -> dict[str, FloatArray]:
    columns = {"num_hits": in_float64(showers.num_hits), "response": response(showers)}
    if depth_known:
        columns |= {name.replace("_", " "): values for name, values in depth_of(showers)._asdict().items()}
        columns["mean pair distance"] = mean_pair_distance(showers)
    columns["mean pair distance in x, y"] = mean_pair_distance(showers, lateral=True)
    columns["mean log hit energy"] = mean_log_hit_energy(showers)
    columns["largest hit fraction"] = largest_hit_fraction(showers)
    if showers.particles is not None:
        columns |= _tree_columns(showers)
    by_layer: dict[str, FloatArray] = {}
    if showers.config.num_layers > 1:
        by_layer |= {"hits": in_float64(layer_hits(showers)), "energy fraction": layer_fraction(showers)}
    by_layer |= {name.replace("_", " "): values for name, values in lateral_of(showers)._asdict().items()}
    for layer in range(min(showers.config.num_layers, MAX_TABLE_LAYERS)):
        columns |= {f"{name}, layer {layer}": values[:, layer] for name, values in by_layer.items()}
    if grid is not None:
        filling = filling_of(showers, grid)
        for layer in np.flatnonzero(np.diff(grid.offset)[:MAX_TABLE_LAYERS] > 1).tolist():
            columns[f"occupancy, layer {layer}"] = filling.occupancy[:, layer]
            columns[f"cell ratio, layer {layer}"] = filling.cell_ratio[:, layer]
    return columns


def _tree_columns(showers: Showers) -> dict[str, FloatArray]:
    """The number of splits is left out: without a leak it is the number of hits less the primaries."""
    paths, hits = paths_of(showers), showers.num_hits
    generation = in_float64(paths.hit_generation)
    return {
        "mean generation": ratio(sums(showers.offset, generation), hits),
        "max generation": maxima(showers.offset, generation),
        "branching fraction": branching_fraction(showers),
        "mean path length": ratio(sums(showers.offset, paths.hit_path_length), hits),
    }


def _grid_for(showers: Showers, grid: Grid | None) -> Grid | None:
    layers = showers.config.num_layers
    if grid is None:
        return CALOGAN if layers == len(CALOGAN.parts) else None
    if grid.depth != "layer" or len(grid.parts) != layers:
        raise ValueError(
            f"grid: one with {len(grid.parts)} parts for each {grid.depth} was given, but these showers need one with "
            f"{layers}, a part for each readout layer."
        )
    return grid

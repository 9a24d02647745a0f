"""Tables of observables, with one value per shower or per hit in each column."""

import numpy as np

from supa.arrays import FloatArray
from supa.checks import counted
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
    """Compute a table of all observables with one value per shower.

    Energies are fractions of the incident energy. The table contains only columns that are meaningful for the showers:

    - observables of depth, if the slices of the hits are known;
    - observables of trees, if the particles were recorded;
    - hits and energy per layer, if there is more than one layer;
    - observables of cells, for parts of the grid with at least two cells.

    Only the first 8 layers have columns. The response is 1 up to rounding if no energy leaks; it reveals a wrong energy
    scale.

    Args:
        showers: n showers.
        grid: Grid with one part per readout layer. By default `supa.CALOGAN` if there are three layers, and otherwise
            no columns of cells.

    Returns:
        Dictionary from names to (n,) float64 columns. NaN where the observable of a shower is undefined.

    Raises:
        ValueError: If the grid does not match the showers.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> table = observables.table(supa.simulate(100, seed=1))
        >>> list(table)[:4]
        ['num_hits', 'response', 'depth mean', 'depth width']
        >>> table["width x, layer 1"].shape
        (100,)
    """
    grid = _grid_for(showers, grid)
    # Blocks keep the columns of the hits in the cache and reuse their memory.
    block = max(1, _BLOCK_HITS * len(showers) // max(showers.hits.num_rows, 1))
    depth_known = showers.slices_known
    blocks = [_columns(showers[k : k + block], grid, depth_known) for k in range(0, max(len(showers), 1), block)]
    return {name: np.concatenate([columns[name] for columns in blocks]) for name in blocks[0]}


def hit_table(showers: Showers) -> dict[str, FloatArray]:
    """Compute a table of all observables with one value per hit.

    The hits of shower ``k`` are the rows from ``showers.offset[k]`` to ``showers.offset[k + 1]``.

    Args:
        showers: n showers.

    Returns:
        Dictionary from names to (hits,) float64 columns: ``x``, ``y``, ``r`` and ``z`` in length units (``layer``
        instead of ``z`` if the slices of the hits are unknown), and ``log energy fraction``, which is
        log10(hit energy / incident energy), or NaN for a hit without energy.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> table = observables.hit_table(supa.simulate(100, seed=1))
        >>> list(table)
        ['x', 'y', 'r', 'z', 'log energy fraction']
        >>> float(table["r"].max().round(2))
        15.44
    """
    x, y, fraction = in_float64(showers.x), in_float64(showers.y), hit_fraction(showers)
    depth = {"z": showers.z} if showers.slices_known else {"layer": showers.layer.astype(np.float64)}
    logarithm = np.log10(fraction, out=np.full_like(fraction, np.nan), where=fraction > 0)
    return {"x": x, "y": y, "r": np.hypot(x, y), **depth, "log energy fraction": logarithm}


def label(name: str) -> str:
    """Return the axis label for a column of `table` or `hit_table`.

    Args:
        name: Name of the column.

    Returns:
        The name, followed by the unit in parentheses if there is one.

    Example:
        >>> from supa import observables
        >>> observables.label("width x, layer 1")
        'width x, layer 1 (length unit)'
        >>> observables.label("num_hits")
        'num_hits'
    """
    unit = _UNITS.get(name.split(", layer ")[0])
    return f"{name} ({unit})" if unit else name


def is_length(name: str) -> bool:
    """Return whether an observable is a length.

    Args:
        name: Name of the column.

    Returns:
        True if its unit is the length unit.
    """
    return _UNITS.get(name.split(", layer ")[0]) == _LENGTH


def is_count(name: str) -> bool:
    """Return whether an observable is a count, which has no rounding error.

    Args:
        name: Name of the column.

    Returns:
        True if its values are whole numbers.
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
    """Compute the columns of trees.

    The number of splits is not among them: if nothing leaks, it equals the number of hits minus that of the primaries.
    """
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
            f"grid must have one part per readout layer ({layers} for these showers), "
            f"got {counted(len(grid.parts), 'part')}, one per {grid.depth}."
        )
    return grid

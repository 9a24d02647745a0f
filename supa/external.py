"""Showers built from hits of another program, such as a generative model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import Array, IntArray, array, is_real
from supa.checks import LARGEST, counted
from supa.physics import NO_LAYER, UNKNOWN_SLICE, layer_of_any_slice
from supa.presets import ConfigLike, as_config
from supa.ragged import Ragged, check_offset
from supa.showers import Run, Showers

_LARGEST_WHOLE = np.iinfo(np.int64).max


def from_hits(
    config: ConfigLike,
    *,
    offset: npt.ArrayLike,
    incident_energy: npt.ArrayLike,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    energy: npt.ArrayLike,
    slice: npt.ArrayLike | None = None,  # noqa: A002  (the standard term)
    layer: npt.ArrayLike | None = None,
    primary: npt.ArrayLike | None = None,
    primaries: Ragged | None = None,
    index: npt.ArrayLike | None = None,
    leaked_energy: npt.ArrayLike | None = None,
) -> Showers:
    """Build showers from hits of another program, such as a generative model.

    Args:
        config: Physics that the hits imitate: the name of a preset, or a `ShowerConfig`.
        offset: (n + 1,) integers. The hits of shower k are ``offset[k]`` to ``offset[k + 1]`` (exclusive).
        incident_energy: (n,) incident energy of each shower (GeV).
        x: (hits,) x of each hit (length unit).
        y: (hits,) y of each hit (length unit).
        energy: (hits,) energy of each hit (GeV).
        slice: (hits,) slice of each hit, which determines its layer. Give either ``slice`` or ``layer``.
        layer: (hits,) readout layer of each hit, if the slices are unknown.
        primary: (hits,) number of the primary from which each hit descends. By default 0.
        primaries: Columns energy, x, y, slope_x and slope_y of the primaries, one group per shower. By default each
            shower has one primary along the axis, which carries the incident energy.
        index: (n,) index of each shower. By default 0 to n - 1.
        leaked_energy: (n,) energy that left the last slice (GeV). By default unknown (NaN).

    Returns:
        Showers whose hits are ordered by slice (or by layer). Their run has the engine ``"imported"``. Float32 arrays
        stay float32, other numbers become float64.

    Raises:
        ValueError: If the lengths of the arrays do not match, or if a value is impossible for a shower.

    Example:
        >>> import supa
        >>> showers = supa.from_hits(
        ...     "standard",
        ...     offset=[0, 2, 3],  # 2 hits in the first shower, 1 in the second
        ...     incident_energy=[20.0, 50.0],
        ...     x=[0.1, -0.3, 0.2],
        ...     y=[0.0, 0.4, -0.1],
        ...     energy=[12.0, 8.0, 50.0],
        ...     layer=[0, 1, 1],
        ... )
        >>> len(showers), showers.num_hits.tolist(), showers.slices_known
        (2, [2, 1], False)
        >>> showers[0].energy.tolist()
        [12.0, 8.0]
    """
    config = as_config(config)
    offset = check_offset("offset", offset)
    n, rows = len(offset) - 1, int(offset[-1])
    incident = _real("incident_energy", incident_energy, n, "GeV above 0", lambda e: e > 0).astype(np.float64)
    leaked = np.full(n, np.nan)
    if leaked_energy is not None:
        leaked = _real("leaked_energy", leaked_energy, n, "GeV of at least 0", lambda e: e >= 0).astype(np.float64)
    columns: dict[str, Array] = {
        "x": _real("x", x, rows, "finite"),
        "y": _real("y", y, rows, "finite"),
        "energy": _real("energy", energy, rows, "GeV of at least 0", lambda e: e >= 0),
    }
    if (slice is None) == (layer is None):
        raise ValueError("Give either slice or, if the slices are unknown, layer; not both.")
    if slice is not None:
        slices = _small("slice", slice, rows, config.num_slices)
        layers = layer_of_any_slice(config)[slices]
        if (layers == NO_LAYER).any():
            number = slices[layers == NO_LAYER][0]
            raise ValueError(f"slice: a hit in slice {number} was given, but this slice belongs to no layer.")
    else:
        layers = _small("layer", layer, rows, config.num_layers)  # type: ignore[arg-type]  # one of the two is given
        slice_of_layer = [first if first == last else UNKNOWN_SLICE for first, last in config.readout_layers]
        slices = np.array(slice_of_layer, dtype=np.uint8)[layers]
    if primaries is None:
        zeros = {name: np.zeros(n) for name in ("x", "y", "slope_x", "slope_y")}
        primaries = Ragged({"energy": incident.copy(), **zeros}, np.arange(n + 1, dtype=np.int64))
    elif len(primaries) != n or primaries.columns.keys() != {"energy", "x", "y", "slope_x", "slope_y"}:
        raise ValueError(
            f"primaries: a table of {counted(len(primaries), 'group')} with the columns {', '.join(primaries.columns)} "
            f"was given, but it must have {counted(n, 'group')} and the columns energy, x, y, slope_x, slope_y."
        )
    owner = _small("primary", np.zeros(rows, np.uint8) if primary is None else primary, rows, 256)
    if (owner >= np.repeat(primaries.counts, np.diff(offset))).any():
        raise ValueError(
            "primary: a hit refers to a primary that its shower does not have; primaries are numbered from 0."
        )
    columns |= {"slice": slices, "layer": layers, "primary": owner}
    depth = layers if slice is None else slices
    order = np.lexsort((depth, np.repeat(np.arange(n), np.diff(offset))))
    return Showers(
        run=Run(config=config, seed=None, first=0, engine="imported", keep="all", attempts=n),
        index=np.arange(n) if index is None else _numbers("index", index, n),
        incident_energy=incident,
        leaked_energy=leaked,
        hits=Ragged({name: column[order] for name, column in columns.items()}, offset),
        primaries=primaries,
    )


def _real(
    name: str, given: npt.ArrayLike, length: int, words: str, allowed: Callable[[Any], Any] = np.isfinite
) -> npt.NDArray[np.floating[Any]]:
    """Check real numbers. Float32 arrays stay float32, other numbers become float64."""
    values = array(name, given)
    if values.shape != (length,) or not is_real(values):
        raise ValueError(
            f"{name}: an array of {values.dtype} with shape {values.shape} was given, "
            f"but it must be {counted(length, 'number')}."
        )
    if values.dtype != np.float32:
        values = values.astype(np.float64)
    wrong = values[~(np.isfinite(values) & (np.abs(values) <= LARGEST) & allowed(values))]
    if len(wrong):
        raise ValueError(f"{name}: {wrong[0]} was given, but every value must be {words}, and at most {LARGEST:g}.")
    return values


def _numbers(name: str, given: npt.ArrayLike, length: int) -> IntArray:
    values = array(name, given)
    if values.shape != (length,) or not (np.issubdtype(values.dtype, np.integer) or length == 0):
        raise ValueError(
            f"{name}: an array of {values.dtype} with shape {values.shape} was given, "
            f"but it must be {counted(length, 'whole number')}."
        )
    if (values < 0).any():
        raise ValueError(f"{name}: {values.min()} was given, but every value must be at least 0.")
    if (values > _LARGEST_WHOLE).any():
        raise ValueError(f"{name}: {values.max()} was given, but every value must be at most {_LARGEST_WHOLE}.")
    return values.astype(np.int64)


def _small(name: str, given: npt.ArrayLike, length: int, limit: int) -> npt.NDArray[np.uint8]:
    values = _numbers(name, given, length)
    if (values >= limit).any():
        raise ValueError(f"{name}: {values.max()} was given, but every value must be from 0 to {limit - 1}.")
    return values.astype(np.uint8)

"""Targets and features of the loaders by name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from supa import Ragged, Run, Showers, preset_name
from supa.arrays import Array
from supa.checks import did_you_mean, format_value
from supa.physics import UNKNOWN_SLICE
from supa_datasets.loaders.source import Sample
from supa_datasets.loaders.tasks import PRESET_CLASSES


@dataclass(frozen=True)
class Target:
    """A quantity that a model learns to predict.

    Args:
        name: Name of the target, as in the argument ``targets`` of the loaders.
        level: ``"shower"`` for one value per shower, ``"hit"`` for one value per point.
        meaning: Description with the unit.

    Example:
        >>> from supa_datasets import TARGETS
        >>> TARGETS["incident_energy"]
        Target(name='incident_energy', level='shower', meaning='incident energy in GeV')
        >>> [name for name, target in TARGETS.items() if target.level == "hit"]
        ['primary', 'slice', 'layer', 'energy', 'fate']
    """

    name: str
    level: Literal["shower", "hit"]
    meaning: str


TARGETS = {
    target.name: target
    for target in (
        Target("attempt", "shower", "index of the shower: the number of its simulation attempt"),
        Target("incident_energy", "shower", "incident energy in GeV"),
        Target("leaked_energy", "shower", "energy in GeV that left the last slice"),
        Target("num_hits", "shower", "number of hits"),
        Target("num_primaries", "shower", "number of primaries"),
        Target("preset", "shower", "position of the preset in PRESET_CLASSES"),
        Target("source", "shower", "position of the file or container in the list given to the loader"),
        Target("primary", "hit", "number of the primary from which the hit descends"),
        Target("slice", "hit", "slice of the hit"),
        Target("layer", "hit", "readout layer of the hit"),
        Target("energy", "hit", "energy of the hit in GeV"),
        Target("fate", "hit", "fate of a particle: 0 stop, 1 split, 2 pass, 3 leak"),
    )
}
"""The targets by name."""


def targets_of(names: Iterable[str], runs: list[Run], *, columns: Iterable[str]) -> list[Target]:
    """Look up targets by name.

    Args:
        names: Names of the targets.
        runs: Run of each part of the source.
        columns: Columns of the points.

    Returns:
        The targets.

    Raises:
        ValueError: If there is no such target, or the showers do not have it.
    """
    if isinstance(names, str):
        names = [names]
    columns = list(columns)
    chosen = []
    for name in names:
        if name not in TARGETS:
            raise ValueError(
                f"targets: {format_value(name)} was given, but a target must be one of {', '.join(TARGETS)}."
                f"{did_you_mean(name, TARGETS)}"
            )
        target = TARGETS[name]
        if target.level == "hit" and name not in columns:
            raise ValueError(f"targets: {name!r} was given, but these points only have {', '.join(columns)}.")
        if name == "preset" and any(preset_name(run.config) is None for run in runs):
            raise ValueError(
                "targets: 'preset' was given, but some showers have a custom config; leave them out, or use the target "
                "'source' of a loader to distinguish files."
            )
        if target not in chosen:
            chosen.append(target)
    return chosen


def target_values(target: Target, sample: Sample, points: Ragged, runs: list[Run]) -> Array:
    """Compute the values of a target.

    Args:
        target: The target.
        sample: The showers.
        points: The points of the showers: hits or particles.
        runs: Run of each part of the source.

    Returns:
        (n,) or (points,) float32, or int64 for integer targets.
    """
    showers = sample.showers
    if target.level == "hit":
        values: Array = _known(points["slice"]) if target.name == "slice" else points[target.name]
    elif target.name == "attempt":
        values = showers.index
    elif target.name == "preset":
        classes = [PRESET_CLASSES.index(str(preset_name(run.config))) for run in runs]
        values = np.array(classes, dtype=np.int64)[sample.part]
    elif target.name == "source":
        values = sample.part
    else:
        values = getattr(showers, target.name)
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int64)


Feature = Callable[[Showers, Ragged], npt.NDArray[np.generic]]

FEATURES: dict[str, Feature] = {
    "x": lambda showers, points: points["x"],
    "y": lambda showers, points: points["y"],
    "z": lambda showers, points: _depth(showers, points),
    "slice": lambda showers, points: _known(points["slice"]),
    "layer": lambda showers, points: points["layer"],
    "energy": lambda showers, points: points["energy"],
    "energy_fraction": lambda showers, points: np.divide(
        points["energy"], np.repeat(showers.incident_energy, points.counts)
    ),
}
"""Features of points by name: x, y, z (length unit), slice, layer, energy (GeV), energy_fraction (of the incident
energy)."""


def features_of(names: Iterable[str], *, columns: Iterable[str]) -> tuple[str, ...]:
    """Check the names of features.

    Args:
        names: Names of the features.
        columns: Columns of the points.

    Returns:
        The names.

    Raises:
        ValueError: If a name is unknown or repeated, or there are no names.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    known = [name for name in FEATURES if name != "layer" or "layer" in columns]
    if not names or any(name not in known for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"features: {format_value(names)} was given, but features must be distinct names out of {', '.join(known)}."
        )
    return names


def feature_matrix(names: tuple[str, ...], showers: Showers, points: Ragged) -> npt.NDArray[np.float32]:
    """Return the features of points as a matrix.

    Args:
        names: Names of the features.
        showers: The showers.
        points: The points of the showers: hits or particles.

    Returns:
        (points, features) float32.

    Raises:
        ValueError: If a feature is the depth, but the imported showers have only the layers of their hits.
    """
    matrix = np.empty((points.num_rows, len(names)), dtype=np.float32)
    for k, name in enumerate(names):
        matrix[:, k] = FEATURES[name](showers, points)
    return matrix


def _depth(showers: Showers, points: Ragged) -> npt.NDArray[np.float64]:
    return np.multiply(_known(points["slice"]), showers.config.slice_spacing, dtype=np.float64)


def _known(slices: Array) -> Array:
    if np.equal(slices, UNKNOWN_SLICE).any():
        raise ValueError(
            "The depth (z, slice) is unknown: these imported showers have only the layers of their hits; use layer."
        )
    return slices

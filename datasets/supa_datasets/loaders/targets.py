"""Targets and features by name: what a loader gives beside the hits, and of which columns its points are made."""

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
    """Something that a model learns to tell.

    Args:
        name: its name.
        level: ``"shower"``: one value a shower; ``"hit"``: one value a hit, or a particle where these are the points.
        meaning: what it is, with its unit.
    """

    name: str
    level: Literal["shower", "hit"]
    meaning: str


TARGETS = {
    target.name: target
    for target in (
        Target("attempt", "shower", "the attempt that became the shower: its index"),
        Target("incident_energy", "shower", "GeV"),
        Target("leaked_energy", "shower", "GeV that left the last slice"),
        Target("num_hits", "shower", "number of hits"),
        Target("num_primaries", "shower", "number of primaries"),
        Target("preset", "shower", "number of the preset in PRESET_CLASSES"),
        Target("source", "shower", "number of the file or container in the list that was given"),
        Target("primary", "hit", "number of the primary from which it descends"),
        Target("slice", "hit", "its slice"),
        Target("layer", "hit", "its readout layer"),
        Target("energy", "hit", "GeV"),
        Target("fate", "hit", "of a particle: 0 stop, 1 split, 2 pass, 3 leak"),
    )
}


def targets_of(names: Iterable[str], runs: list[Run], *, columns: Iterable[str]) -> list[Target]:
    """Look targets up by their names.

    Args:
        names: names of targets.
        runs: what made each part of the source.
        columns: columns of the points.

    Returns:
        The targets.

    Raises:
        ValueError: there is no such target, or these showers do not have it.
    """
    if isinstance(names, str):
        names = [names]
    columns = list(columns)
    chosen = []
    for name in names:
        if name not in TARGETS:
            raise ValueError(
                f"targets: {format_value(name)} was given, but a target is one of {', '.join(TARGETS)}."
                f"{did_you_mean(name, TARGETS)}"
            )
        target = TARGETS[name]
        if target.level == "hit" and name not in columns:
            raise ValueError(f"targets: {name!r} was given, but these points only have {', '.join(columns)}.")
        if name == "preset" and any(preset_name(run.config) is None for run in runs):
            raise ValueError(
                "targets: 'preset' was given, but some showers are of a custom config; leave them out, or in a loader "
                "tell files apart by the target 'source'."
            )
        if target not in chosen:
            chosen.append(target)
    return chosen


def target_values(target: Target, sample: Sample, points: Ragged, runs: list[Run]) -> Array:
    """Compute a target.

    Args:
        target: the target.
        sample: the showers.
        points: their points: the hits, or the particles.
        runs: what made each part of the source.

    Returns:
        (n,) or (points,); float32, or int64 for what is counted.
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
"""What points are made of: x, y, z (length unit), slice, layer, energy (GeV), energy_fraction (of the incident one)."""


def features_of(names: Iterable[str], *, columns: Iterable[str]) -> tuple[str, ...]:
    """Check names of features.

    Args:
        names: names of features.
        columns: columns of the points.

    Returns:
        The names.

    Raises:
        ValueError: there is no such feature, or none was given.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    known = [name for name in FEATURES if name != "layer" or "layer" in columns]
    if not names or any(name not in known for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"features: {format_value(names)} was given, but they must be some of {', '.join(known)}, each once."
        )
    return names


def feature_matrix(names: tuple[str, ...], showers: Showers, points: Ragged) -> npt.NDArray[np.float32]:
    """Put the features of points side by side.

    Args:
        names: names of features.
        showers: the showers.
        points: their points: the hits, or the particles.

    Returns:
        (points, features) float32.

    Raises:
        ValueError: the depth is asked for, but the showers know only their hits' layers.
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
            "The depth (z, slice) is asked for, but these imported showers know only their hits' layers; use layer."
        )
    return slices

"""Checks of the values of showers that were read from a file. ``docs/reference/file_format.md`` lists them.

``check_rows`` runs on every read, so it makes only cheap checks and raises an error at the first impossible value.
``find_faults`` makes all checks and counts the impossible values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from supa import Ragged, Showers
from supa.arrays import BoolArray, FloatArray
from supa.physics import FATES, LEAK, PASS, SPLIT, STOP, UNKNOWN_SLICE, fate_probabilities, layer_of_any_slice
from supa_datasets.layout import PRIMARY_TYPES

# Relative error of one rounding to float32, and its absolute error below the normal numbers.
_ROUNDING = 2.0**-24
_SMALLEST = 2.0**-150
# Relative error of one rounding to float64.
_ROUNDING_64 = 2.0**-53
# Roundings to float64 between the incident energy and a hit: at most four in each of 62 slices, and the primary's own.
_ROUNDINGS_OF_A_PATH = 256
_CHILDREN = np.zeros(len(FATES), dtype=np.int64)
_CHILDREN[SPLIT], _CHILDREN[PASS] = 2, 1

_Wrong: TypeAlias = tuple[str, BoolArray, Ragged | None]


@dataclass(frozen=True)
class Fault:
    """One kind of impossible value in a file, as returned by `ShowerFile.faults`.

    Args:
        kind: Name of the impossible value, such as ``"a hit's energy"``.
        count: Number of rows or showers with this fault.
        shower: Position in the file of the first shower with this fault.

    Example:
        >>> import supa
        >>> from dataclasses import replace
        >>> from supa_datasets import ShowerFile, save
        >>> showers = supa.simulate(100, "standard", seed=1)
        >>> save(replace(showers, leaked_energy=showers.leaked_energy + 1), "broken.h5")
        >>> with ShowerFile("broken.h5") as file:
        ...     file.faults()
        [Fault(kind='the sum of the hit energies and the leaked energy', count=100, shower=0)]
    """

    kind: str
    count: int
    shower: int


def check_rows(showers: Showers) -> None:
    """Raise an error at the first impossible value, using only cheap checks.

    Args:
        showers: The showers that were read, in the types of the file.

    Raises:
        ValueError: If a value is impossible.
    """
    with np.errstate(all="ignore"):
        for kind, wrong, _ in _cheap(showers):
            if wrong.any():
                raise ValueError(f"it is damaged: {kind} is not possible")


def find_faults(showers: Showers, first: int = 0) -> list[Fault]:
    """Find every kind of impossible value.

    Args:
        showers: The showers that were read, in the types of the file.
        first: Position in the file of the first of these showers.

    Returns:
        One fault for each kind that occurs.
    """
    faults = []
    with np.errstate(all="ignore"):
        for kind, wrong, table in chain(_cheap(showers), _thorough(showers)):
            rows = np.flatnonzero(wrong)
            if len(rows):
                shower = rows[0] if table is None else np.searchsorted(table.offset, rows[0], side="right") - 1
                faults.append(Fault(kind, len(rows), first + int(shower)))
    return faults


def _cheap(showers: Showers) -> Iterator[_Wrong]:
    """Yield the kind of fault, a mask of the wrong rows, and their table (None: the mask has one entry per shower)."""
    hits, primaries, config = showers.hits, showers.primaries, showers.config
    # Imported showers may lack the slices of the hits and the leaked energy.
    imported = not _own(showers)
    leaked = showers.leaked_energy
    yield "an index", showers.index < 0, None
    yield "an incident energy", _not_within(showers.incident_energy) | (showers.incident_energy == 0), None
    yield "a leaked energy", _not_within(leaked) & ~(np.isnan(leaked) & imported), None
    yield "a hit's energy", _not_within(hits["energy"]), hits
    if not imported:
        yield "a hit's energy above its shower's", _above_incident(showers), hits
    yield "a hit's position", ~(np.isfinite(hits["x"]) & np.isfinite(hits["y"])), hits
    known: Any = showers.slice != UNKNOWN_SLICE if imported else True
    yield "a hit's slice", (showers.slice >= config.num_slices) & known, hits
    wrong_layer = (layer_of_any_slice(config)[showers.slice] != showers.layer) & known
    yield "a hit's layer", wrong_layer | (showers.layer >= config.num_layers), hits
    yield "a hit's primary", showers.primary >= np.repeat(showers.num_primaries, showers.num_hits), hits
    yield "a primary's energy", _not_within(primaries["energy"]), primaries
    finite = np.logical_and.reduce([np.isfinite(primaries[name]) for name in PRIMARY_TYPES if name != "energy"])
    yield "a primary's position or direction", ~finite, primaries
    if showers.particles is not None:
        yield from _cheap_of_particles(showers, showers.particles)


def _cheap_of_particles(showers: Showers, particles: Ragged) -> Iterator[_Wrong]:
    slices = showers.config.num_slices
    energy, fate, depth = _typed(particles["energy"]), _typed(particles["fate"]), _typed(particles["slice"])
    yield "a particle's energy", _not_within(energy), particles
    yield "a particle's position", ~(np.isfinite(particles["x"]) & np.isfinite(particles["y"])), particles
    yield "a particle's slice", depth > slices, particles
    yield "a particle's fate", fate >= len(FATES), particles
    stops = np.bincount(particles.group_of_row()[fate == STOP], minlength=len(particles))
    yield "the number of hits", stops != showers.num_hits, None
    yield "a leak before the last slice, or none after it", (fate == LEAK) != (depth == slices), particles
    primaries = np.repeat(showers.num_primaries, particles.counts)
    yield "a particle's primary", np.greater_equal(particles["primary"], primaries), particles
    tree = _Tree(particles)
    wrong = tree.no_parent.copy()
    wrong[tree.root] |= depth[tree.root] != 0
    wrong[tree.child] |= depth[tree.child] != depth[tree.parent] + np.int64(1)
    yield "a particle's parent", wrong, particles
    children = np.bincount(tree.parent, minlength=particles.num_rows)
    yield "a particle's number of children", children != _CHILDREN[np.minimum(fate, LEAK)], particles
    # Energies are shared in float64, where a share may be rounded up, and then rounded to float32.
    most = energy[tree.parent].astype(np.float64) * (1 + 2 * _ROUNDING) + 2 * _SMALLEST
    yield "a particle's energy above its parent's", _on(tree.child, energy[tree.child] > most, particles), particles


def _thorough(showers: Showers) -> Iterator[_Wrong]:
    """Yield faults as ``_cheap`` does, from checks that take more time and checks for simulated showers only."""
    hits, config = showers.hits, showers.config
    yield "the order of the hits", _descends(showers.slice if showers.slices_known else showers.layer, hits), hits
    if showers.run.keep == "complete":
        yield "a readout layer without a hit", ~_complete(showers), None
    if _own(showers):
        yield "an incident energy outside the spectrum of the config", ~_in_spectrum(showers), None
        count, wanted = showers.num_primaries, config.primary_count
        wrong_count = count != wanted.value if wanted.law == "fixed" else count == 0
        yield "the number of primaries", wrong_count, None
        yield "the sum of the primaries' energies", _primaries_do_not_sum(showers), None
        yield "the sum of the hit energies and the leaked energy", _energy_is_lost(showers), None
        stops = np.ones(256, dtype=np.bool_)
        stops[: config.num_slices] = fate_probabilities(config)[0] > 0
        may_stop = stops[showers.slice] | (showers.energy <= np.float32(config.critical_energy))
        yield "a hit in a slice in which no particle stops", ~may_stop, hits
    if showers.particles is not None:
        yield from _thorough_of_particles(showers, showers.particles)


def _thorough_of_particles(showers: Showers, particles: Ragged) -> Iterator[_Wrong]:
    tree = _Tree(particles)
    energy = particles["energy"].astype(np.float64)
    primary, fate = _typed(particles["primary"]), _typed(particles["fate"])
    yield "the order of the particles", _descends(particles["slice"], particles), particles
    wrong = _on(tree.child, primary[tree.child] != primary[tree.parent], particles)
    yield "a particle's primary that is not its parent's", wrong, particles
    # Each of the three energies was rounded to float32 after a few roundings to float64.
    shared = np.bincount(tree.parent, weights=energy[tree.child], minlength=particles.num_rows)
    tolerance = _ROUNDING * (shared + energy) + 8 * _ROUNDING_64 * energy + 3 * _SMALLEST
    lost = (np.abs(shared - energy) > tolerance) & ((fate == SPLIT) | (fate == PASS))
    yield "the sum of the children's energies", lost, particles
    yield "a first particle that is not the primary", _not_the_primaries(showers, particles, tree), particles
    if _own(showers):
        leaked = np.where(fate == LEAK, energy, 0.0)
        total = np.bincount(particles.group_of_row(), weights=leaked, minlength=len(showers))
        count = np.bincount(particles.group_of_row()[fate == LEAK], minlength=len(showers))
        tolerance = (_ROUNDING + count * _ROUNDING_64) * total + count * _SMALLEST
        yield "a leaked energy that is not that of the tree", np.abs(total - showers.leaked_energy) > tolerance, None
    yield "a hit that is not a stopped particle", _not_the_stopped(showers, particles), showers.hits


class _Tree:
    """The rows of the particles with a possible parent, and the rows of these parents."""

    def __init__(self, particles: Ragged) -> None:
        parent: Any = particles["parent"]
        start = np.repeat(particles.offset[:-1], particles.counts)
        number = np.arange(particles.num_rows) - start
        self.no_parent: BoolArray = (parent < -1) | (parent >= number)
        self.root = np.flatnonzero(parent == -1)
        self.child = np.flatnonzero((parent >= 0) & ~self.no_parent)
        self.parent = start[self.child] + parent[self.child]


def _own(showers: Showers) -> bool:
    return showers.run.engine in ("cpu", "reference")


def _typed(column: Any) -> Any:
    """Return a column as ``Any``, since its type depends on the table."""
    return column


def _not_within(energy: Any) -> BoolArray:
    wrong: BoolArray = ~((energy >= 0) & np.isfinite(energy))
    return wrong  # also True for NaN


def _on(rows: Any, wrong: Any, table: Ragged) -> BoolArray:
    """Return a mask over a table that marks the rows in ``rows`` for which ``wrong`` is True."""
    marked = np.zeros(table.num_rows, dtype=np.bool_)
    marked[rows] = wrong
    return marked


def _above_incident(showers: Showers) -> BoolArray:
    # The energy of a primary may be rounded up. Rounding to float32 preserves the order.
    most = (showers.incident_energy * (1 + 4 * _ROUNDING_64)).astype(np.float32)
    if not len(most) or not (showers.energy > most.min()).any():
        return np.zeros(len(showers.energy), dtype=np.bool_)
    return showers.energy > np.repeat(most, showers.num_hits)


def _descends(depth: Any, table: Ragged) -> BoolArray:
    """Mark rows with a smaller depth than the previous row of their group."""
    wrong = np.zeros(table.num_rows, dtype=np.bool_)
    wrong[1:] = depth[1:] < depth[:-1]
    wrong[table.offset[:-1][table.counts > 0]] = False
    return wrong


def _complete(showers: Showers) -> BoolArray:
    layers = showers.config.num_layers
    layer = np.minimum(showers.layer, layers).astype(np.int64)
    cell = showers.hits.group_of_row() * (layers + 1) + layer
    counts = np.bincount(cell, minlength=len(showers) * (layers + 1)).reshape(len(showers), layers + 1)
    return np.asarray((counts[:, :layers] > 0).all(axis=1))


def _in_spectrum(showers: Showers) -> BoolArray:
    spectrum, energy = showers.config.spectrum, showers.incident_energy
    if spectrum.law in ("fixed", "list"):
        return np.isin(energy, spectrum.values)
    low, high = spectrum.values
    rounding = 256 * _ROUNDING_64  # error of exp for arguments up to a few hundred
    return (energy >= low * (1 - rounding)) & (energy <= high * (1 + rounding))


def _primaries_do_not_sum(showers: Showers) -> BoolArray:
    total = _sums(showers.primaries, showers.primaries["energy"])
    tolerance = (showers.num_primaries + 8) * 2 * _ROUNDING_64 * showers.incident_energy
    return _differ(total, showers.incident_energy, tolerance)


def _energy_is_lost(showers: Showers) -> BoolArray:
    energy = _sums(showers.hits, showers.energy) + showers.leaked_energy
    # The leaked energy is a float64 sum of an unknown number of terms. The error of float32 covers 2^29 terms.
    roundings = (showers.num_hits + _ROUNDINGS_OF_A_PATH) * _ROUNDING_64
    tolerance = _ROUNDING * energy + roundings * showers.incident_energy + showers.num_hits * _SMALLEST
    return _differ(energy, showers.incident_energy, tolerance)


def _differ(one: FloatArray, other: FloatArray, tolerance: FloatArray) -> BoolArray:
    """Mark numbers that differ by more than the tolerance. NaN is a fault of another kind and is not marked."""
    return np.abs(one - other) > tolerance


def _sums(table: Ragged, values: Any) -> FloatArray:
    return np.asarray(np.bincount(table.group_of_row(), weights=values, minlength=len(table)), dtype=np.float64)


def _not_the_primaries(showers: Showers, particles: Ragged, tree: _Tree) -> BoolArray:
    """Mark rows in which the first particles of a shower are not its primaries in the same order."""
    primaries, shower = showers.primaries, particles.group_of_row()
    number = np.arange(particles.num_rows) - np.repeat(particles.offset[:-1], particles.counts)
    expected = number < primaries.counts[shower]
    root = _on(tree.root, True, particles)
    wrong: BoolArray = root != expected
    both = np.flatnonzero(root & expected)
    row = primaries.offset[:-1][shower[both]] + number[both]
    differs = np.not_equal(particles["primary"][both], number[both])
    for name in ("x", "y", "energy"):
        differs |= particles[name][both] != primaries[name][row].astype(np.float32)
    wrong[both] |= differs
    return wrong


def _not_the_stopped(showers: Showers, particles: Ragged) -> BoolArray:
    """Mark hits that differ from the stopped particles of their shower, if their numbers agree."""
    hits = showers.hits
    stopped = np.flatnonzero(np.equal(particles["fate"], STOP))
    counts = np.bincount(particles.group_of_row()[stopped], minlength=len(showers))
    fits = counts == hits.counts
    rows = np.flatnonzero(np.repeat(fits, hits.counts))
    particle = stopped[np.repeat(fits, counts)]
    differs = np.zeros(len(rows), dtype=np.bool_)
    for name in ("x", "y", "energy", "slice", "primary"):
        differs |= hits[name][rows] != particles[name][particle]
    return _on(rows, differs, hits)

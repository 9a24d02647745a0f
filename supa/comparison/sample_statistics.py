"""Statistics of one sample: columns of observables, histograms of hits, and means with exact expectations."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, Self, TypeAlias

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.config import ShowerConfig
from supa.observables import hit_table, layer_fraction, layer_hits, slice_hits, table
from supa.ragged import Ragged
from supa.running_moments import RunningMoments
from supa.showers import Run, Showers

GROUPS = 100
"""Number of groups of showers. Resampling uses groups because the hits of a shower are not independent."""

HIT_BINS = 200
RESOLUTION = 2.0**-18
"""Relative resolution, 64 roundings of float32. Rounding errors of sums and logarithms are smaller."""
_FEW = 1000
_SEVERAL_CONFIGS = "All showers of a sample must have the same config; compare the samples one by one."
EXAMPLES = 4


class ShowersInChunks(Protocol):
    """A file of showers, or another object with a method ``chunks``."""

    @property
    def run(self) -> Run:
        """How the showers were produced."""
        ...

    def chunks(self) -> Iterator[Showers]:
        """Iterate over the showers in chunks."""
        ...


SampleLike: TypeAlias = Showers | ShowersInChunks | Iterable[Showers]


class SampleStatistics:
    """Sums and columns of one sample.

    Args:
        edges: Edges of the histograms of hits by name. By default the first showers define them. For a generated
            sample, pass the edges of the true sample.
    """

    def __init__(self, edges: dict[str, FloatArray] | None = None) -> None:
        self.run: Run | None = None
        self.showers = self.hits = 0
        self.edges = edges
        self.hit_counts: dict[str, IntArray] = {}
        self.moments: dict[str, RunningMoments] = {}
        """Moments of the observables that have exact expectations."""
        self.examples: list[Showers] = []
        self.reach = 0.0
        """Largest coordinate of a hit."""
        self.index_range = (0, -1)
        """Smallest and largest index of the showers."""
        self._columns: list[dict[str, FloatArray]] = []

    @classmethod
    def of(cls, sample: SampleLike, edges: dict[str, FloatArray] | None = None) -> Self:
        """Compute the statistics of a sample.

        Args:
            sample: Showers, an open file, or an iterable over chunks.
            edges: Edges of the histograms of hits by name.

        Returns:
            The statistics.

        Raises:
            ValueError: If the chunks have different configs, or if the argument is not a sample.
        """
        statistics = cls(edges)
        for chunk in _merged(chunks_of(sample)):
            statistics.add(chunk)
        return statistics

    def parts(self, share: float) -> tuple[Self, Self]:
        """Split the showers into two samples, with their columns and their histograms of hits.

        Args:
            share: Fraction of the showers in the second sample.

        Returns:
            Both samples. They consist of complete groups.
        """
        number = min(GROUPS - 1, max(1, round(share * GROUPS)))
        second = np.isin(np.arange(GROUPS), np.arange(number) * GROUPS // number)
        halves = []
        for groups in (~second, second):
            part = type(self)(self.edges)
            rows = groups[np.arange(self.showers) % GROUPS]
            part.run, part.showers = self.run, int(rows.sum())
            part._columns = [{name: values[rows] for name, values in self.columns.items()}]
            part.hit_counts = {name: counts[groups] for name, counts in self.hit_counts.items()}
            halves.append(part)
        return halves[0], halves[1]

    @property
    def config(self) -> ShowerConfig:
        """Config of the showers."""
        assert self.run is not None
        return self.run.config

    @property
    def columns(self) -> dict[str, FloatArray]:
        """Dictionary from names to (showers,) values of the observables that all chunks have."""
        if len(self._columns) > 1:
            names = [name for name in self._columns[0] if all(name in columns for columns in self._columns)]
            self._columns = [{name: np.concatenate([c[name] for c in self._columns]) for name in names}]
        return self._columns[0] if self._columns else {}

    def replace(self, columns: dict[str, FloatArray]) -> None:
        """Replace the values of some columns.

        Args:
            columns: Dictionary from names to (showers,) values.
        """
        self._columns = [self.columns | columns]

    def add(self, showers: Showers) -> None:
        """Add showers.

        Args:
            showers: More showers of the sample.

        Raises:
            ValueError: If the showers have another config.
        """
        if self.run is None:
            self.run = showers.run
        elif showers.config != self.config:
            raise ValueError(_SEVERAL_CONFIGS)
        if not len(showers):
            return
        # Files store float32. Round all samples, so that values shared by many showers are equal in all of them.
        hits = dict(showers.hits.columns) | {n: showers.hits[n].astype(np.float32) for n in ("x", "y", "energy")}
        showers = dataclasses.replace(showers, hits=Ragged(hits, showers.offset))
        columns = table(showers)
        columns["log incident energy"] = np.log10(showers.incident_energy)
        self._columns.append(columns)
        self._add_hits(showers)
        self._add_moments(showers)
        ends = [int(showers.index.min()), int(showers.index.max())]
        self.index_range = (min(ends), max(ends)) if not self.showers else (
            min(self.index_range[0], ends[0]), max(self.index_range[1], ends[1])
        )  # fmt: skip
        if len(self.examples) < EXAMPLES:
            self.examples += list(showers[: EXAMPLES - len(self.examples)])
        self.showers += len(showers)
        self.hits += showers.hits.num_rows

    def _add_hits(self, showers: Showers) -> None:
        hits = hit_table(showers)
        if self.edges is None:
            self.edges = {name: _hit_edges(name, values, self.config) for name, values in hits.items()}
        lengths = (np.abs(hits[name]).max(initial=0.0) for name in ("r", "z") if name in hits)
        self.reach = float(max(self.reach, *lengths))
        group = (showers.hits.group_of_row() + self.showers) % GROUPS
        counts = {}
        for name, edges in self.edges.items():
            if name in hits:
                values = hits[name]
                # Two extra bins are for values below the first and above the last edge. NaN counts as below.
                place = np.where(np.isnan(values), 0, np.searchsorted(edges, values, side="right"))
                counted = np.bincount(group * (len(edges) + 1) + place, minlength=GROUPS * (len(edges) + 1))
                counts[name] = counted.reshape(GROUPS, len(edges) + 1)
        self.hit_counts = _added(self.hit_counts, counts, first=not self.showers)

    def _add_moments(self, showers: Showers) -> None:
        parts: dict[str, Any] = {
            "hits": showers.num_hits[:, None],
            "hits, layer": layer_hits(showers),
            "energy fraction, layer": layer_fraction(showers),
        }
        if showers.slices_known:
            parts["hits, slice"] = slice_hits(showers)
        if not self.showers:
            self.moments = {name: RunningMoments() for name in parts}
        # Drop means that are not available for all showers.
        self.moments = {name: moments for name, moments in self.moments.items() if name in parts}
        for name, moments in self.moments.items():
            moments.add(parts[name])


def chunks_of(sample: SampleLike) -> Iterable[Showers]:
    """Return the showers of a sample in chunks.

    Args:
        sample: Showers, an open file, or an iterable over chunks.

    Returns:
        The chunks.

    Raises:
        ValueError: If the argument is not a sample.
    """
    if isinstance(sample, Showers):
        return [sample]
    if hasattr(sample, "chunks"):
        return sample.chunks()
    if isinstance(sample, str) or not isinstance(sample, Iterable):
        raise ValueError(
            "A sample must be Showers, an open ShowerFile, or an iterable over chunks of Showers, got "
            f"{type(sample).__name__}."
        )
    return sample


def _added(sums: dict[str, Any], more: dict[str, Any], *, first: bool) -> dict[str, Any]:
    """Add up the sums that are available for all showers."""
    return more if first else {name: sums[name] + more[name] for name in sums if name in more}


def _merged(chunks: Iterable[Showers]) -> Iterator[Showers]:
    """Merge small chunks, because many showers should define the edges of the histograms."""
    pending: list[Showers] = []
    for chunk in chunks:
        if not isinstance(chunk, Showers):
            raise ValueError(f"The chunks of a sample must be Showers, got {type(chunk).__name__}.")
        if pending and chunk.config != pending[0].config:
            raise ValueError(_SEVERAL_CONFIGS)
        pending.append(chunk)
        if sum(map(len, pending)) >= _FEW:
            yield pending[0] if len(pending) == 1 else Showers.concatenate(pending)
            pending = []
    if pending:
        yield pending[0] if len(pending) == 1 else Showers.concatenate(pending)


def _hit_edges(name: str, values: FloatArray, config: ShowerConfig) -> FloatArray:
    """Choose fine edges of a histogram from the first true hits."""
    if name == "z":
        return np.arange(config.num_slices + 1.0) * np.float64(config.slice_spacing)
    if name == "layer":
        return np.arange(config.num_layers + 1.0)
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [1e-4, 1 - 1e-4]) if len(values) else (0.0, 1.0)
    if high - low <= RESOLUTION * max(abs(low), abs(high)):  # put the value in the middle of a bin
        width = 2 * max(abs(low), abs(high), 1.0) / HIT_BINS
        return np.asarray((low + high) / 2 + width * (np.arange(HIT_BINS + 1) - (HIT_BINS + 1) // 2 + 0.5))
    margin = 0.1 * (high - low)
    low = 0.0 if name == "r" else low - margin
    return np.linspace(low, high + margin, HIT_BINS + 1)

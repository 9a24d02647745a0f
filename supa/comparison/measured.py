"""What is measured of one sample: columns of observables, histograms of hits, sums against the exact expectations."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, Self, TypeAlias

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.config import ShowerConfig
from supa.observables import hit_table, layer_fraction, layer_hits, slice_hits, table
from supa.showers import Run, Showers

GROUPS = 100
"""Showers are dealt into so many groups, which are resampled as wholes: the hits of a shower are not independent."""

HIT_BINS = 200
EXAMPLES = 4


class ShowersInChunks(Protocol):
    """A file of showers, or anything else that gives them in chunks."""

    @property
    def run(self) -> Run:
        """What made the showers."""
        ...

    def chunks(self) -> Iterator[Showers]:
        """Give the showers chunk by chunk."""
        ...


SampleLike: TypeAlias = Showers | ShowersInChunks | Iterable[Showers]


class Measured:
    """Sums and columns of one sample; ``add`` takes showers in.

    Args:
        edges: edges of the histograms of hits by name, which the true sample sets; None to set them from the first
            showers that are added.
    """

    def __init__(self, edges: dict[str, FloatArray] | None = None) -> None:
        self.run: Run | None = None
        self.showers = self.hits = 0
        self.edges = edges
        self.hit_counts: dict[str, IntArray] = {}
        self.sums: dict[str, FloatArray] = {}
        self.examples: list[Showers] = []
        self._columns: list[dict[str, FloatArray]] = []

    @classmethod
    def of(cls, sample: SampleLike, edges: dict[str, FloatArray] | None = None) -> Self:
        """Measure a sample.

        Args:
            sample: Showers, an open file, or an iterable over chunks.
            edges: edges of the histograms of hits by name.

        Returns:
            What was measured.

        Raises:
            ValueError: the chunks are of different configs, or something else was given.
        """
        measured = cls(edges)
        for chunk in chunks_of(sample):
            measured.add(chunk)
        return measured

    @property
    def config(self) -> ShowerConfig:
        """The config of the showers."""
        assert self.run is not None
        return self.run.config

    @property
    def columns(self) -> dict[str, FloatArray]:
        """Name and (showers,) values of each observable that every chunk has."""
        if len(self._columns) > 1:
            names = [name for name in self._columns[0] if all(name in columns for columns in self._columns)]
            self._columns = [{name: np.concatenate([c[name] for c in self._columns]) for name in names}]
        return self._columns[0] if self._columns else {}

    def add(self, showers: Showers) -> None:
        """Take showers in.

        Args:
            showers: some more showers of the sample.

        Raises:
            ValueError: they are of another config.
        """
        if self.run is None:
            self.run = showers.run
        elif showers.config != self.config:
            raise ValueError("Showers of different configs are no single sample; compare each on its own.")
        if not len(showers):
            return
        columns = table(showers)
        # The response is 1 but for what leaks; the rounding of float32 files is no difference.
        columns["response"] = columns["response"].round(6)
        columns["log incident energy"] = np.log10(showers.incident_energy)
        self._columns.append(columns)
        self._add_hits(showers)
        self._add_sums(showers)
        if len(self.examples) < EXAMPLES:
            self.examples += list(showers[: EXAMPLES - len(self.examples)])
        self.showers += len(showers)
        self.hits += showers.hits.num_rows

    def _add_hits(self, showers: Showers) -> None:
        hits = hit_table(showers)
        if self.edges is None:
            self.edges = {name: _hit_edges(name, values) for name, values in hits.items()}
        group = (showers.hits.group_of_row() + self.showers) % GROUPS
        for name, edges in self.edges.items():
            if name in hits:
                values = hits[name]
                # One bin below the first edge, one above the last; what is not defined counts as below.
                place = np.where(np.isnan(values), 0, np.searchsorted(edges, values, side="right"))
                counts = np.bincount(group * (len(edges) + 1) + place, minlength=GROUPS * (len(edges) + 1))
                self.hit_counts[name] = self.hit_counts.get(name, 0) + counts.reshape(GROUPS, len(edges) + 1)

    def _add_sums(self, showers: Showers) -> None:
        parts: dict[str, Any] = {
            "hits": showers.num_hits[:, None],
            "hits, layer": layer_hits(showers),
            "energy fraction, layer": layer_fraction(showers),
        }
        if showers.slices_known:
            parts["hits, slice"] = slice_hits(showers)
        for name, values in parts.items():
            sums = np.stack([values.sum(axis=0), np.square(values, dtype=np.float64).sum(axis=0)])
            self.sums[name] = self.sums.get(name, 0) + sums

    def mean_and_error(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Give means of the sums that have exact expectations.

        Args:
            name: hits; hits, layer; energy fraction, layer; or hits, slice.

        Returns:
            The means, one for each layer (or slice), and their standard errors.
        """
        total, squares = self.sums[name]
        mean = total / self.showers
        variance = np.maximum(squares / self.showers - mean**2, 0)
        return mean, np.sqrt(variance / max(self.showers - 1, 1))


def chunks_of(sample: SampleLike) -> Iterable[Showers]:
    """Give the showers of a sample in chunks.

    Args:
        sample: Showers, an open file, or an iterable over chunks.

    Returns:
        The chunks.

    Raises:
        ValueError: something else was given.
    """
    if isinstance(sample, Showers):
        return [sample]
    if hasattr(sample, "chunks"):
        return sample.chunks()
    if isinstance(sample, str) or not isinstance(sample, Iterable):
        raise ValueError(
            f"A {type(sample).__name__} was given, but a sample is Showers, an open ShowerFile, or an iterable over "
            "chunks."
        )
    return sample


def _hit_edges(name: str, values: FloatArray) -> FloatArray:
    """Choose fine edges from the first true hits."""
    values = values[np.isfinite(values)]
    if name in ("z", "layer"):
        places = np.unique(values)
        return np.append(places, places[-1:] + 1) if len(places) else np.array([0.0, 1.0])
    low, high = np.quantile(values, [1e-4, 1 - 1e-4]) if len(values) else (0.0, 1.0)
    margin = 0.1 * (high - low) or 1.0
    low = 0.0 if name == "r" else low - margin
    return np.linspace(low, high + margin, HIT_BINS + 1)

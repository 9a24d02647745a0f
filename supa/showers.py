"""Showers: the ragged container that every engine, file and loader gives."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from supa.arrays import Array, FloatArray, IntArray
from supa.cells import Cartesian, energy_in_cells
from supa.checks import check_int, counted, format_value
from supa.config import ShowerConfig
from supa.number_format import format_percent
from supa.physics import STOP, UNKNOWN_SLICE
from supa.presets import preset_name
from supa.ragged import Ragged, concatenate, counts_to_offsets
from supa.selection import selected


@dataclass(frozen=True)
class Run:
    """What made some showers.

    Args:
        config: the physics.
        seed: the seed, None where showers of several seeds were put together.
        first: index of the first attempt.
        engine: ``"cpu"`` or ``"reference"``; ``"imported"`` where another program made them; ``"several"`` where
            showers of several were put together.
        keep: ``"all"`` or ``"complete"``: whether showers with an empty readout layer were dropped.
        attempts: how many showers were simulated to keep these; None once some of them were selected.
    """

    config: ShowerConfig
    seed: int | None
    first: int
    engine: str
    keep: Literal["all", "complete"]
    attempts: int | None


@dataclass(frozen=True, eq=False, repr=False)
class Showers:
    """Showers, their hits, their primaries and, where recorded, every particle of their trees.

    ``len``, iteration (each shower as Showers of length one), slices, whole numbers and boolean or integer arrays
    work as for a NumPy array of showers. Slices share memory; other selections copy. Hits are ordered by shower, then
    slice, then creation. Lengths are in the simulator's unit, energies in GeV.

    Args:
        run: what made them.
        index: (n,) int64, the attempt that became each shower: (seed, index) names a shower for good.
        incident_energy: (n,) float64.
        leaked_energy: (n,) float64, energy that left the last slice; NaN where an imported shower does not know it.
        hits: one group a shower; columns x, y, energy (float64, or float32 from a file), slice, layer, primary (uint8);
            slice is 255 where an imported shower knows only the layer.
        primaries: one group a shower; columns energy, x, y, slope_x, slope_y (float64): energy, impact point in slice
            0 and direction (dx/dz, dy/dz).
        particles: one group a shower, in creation order, or None where not recorded; columns parent (int32, number in
            the shower, -1 for a primary), slice (uint8), x, y, energy (as for the hits), fate (uint8: 0 stop, 1 split,
            2 pass, 3 leak), primary (uint8).
    """

    run: Run
    index: IntArray
    incident_energy: FloatArray
    leaked_energy: FloatArray
    hits: Ragged
    primaries: Ragged
    particles: Ragged | None = None

    # ------------------------------------------------------------------ columns

    @property
    def config(self) -> ShowerConfig:
        """The physics that made the showers."""
        return self.run.config

    @property
    def offset(self) -> IntArray:
        """(n + 1,) int64: the hits of shower k are offset[k] to offset[k + 1]."""
        return self.hits.offset

    @property
    def x(self) -> npt.NDArray[np.floating[Any]]:
        """(hits,) x of each hit, length unit."""
        return self.hits["x"]  # type: ignore[return-value]

    @property
    def y(self) -> npt.NDArray[np.floating[Any]]:
        """(hits,) y of each hit, length unit."""
        return self.hits["y"]  # type: ignore[return-value]

    @property
    def z(self) -> FloatArray:
        """(hits,) float64 depth of each hit: slice times spacing, length unit; NaN where the slice is not known."""
        depth = np.multiply(self.slice, self.config.slice_spacing, dtype=np.float64)
        if not self.slices_known:
            depth[self.slice == UNKNOWN_SLICE] = np.nan
        return depth

    @property
    def slices_known(self) -> bool:
        """Whether every hit knows its slice; hits of imported showers may know only their layer."""
        return not (self.slice == UNKNOWN_SLICE).any()

    @property
    def energy(self) -> npt.NDArray[np.floating[Any]]:
        """(hits,) energy of each hit, GeV."""
        return self.hits["energy"]  # type: ignore[return-value]

    @property
    def slice(self) -> npt.NDArray[np.uint8]:
        """(hits,) slice of each hit."""
        return self.hits["slice"]  # type: ignore[return-value]

    @property
    def layer(self) -> npt.NDArray[np.uint8]:
        """(hits,) readout layer of each hit."""
        return self.hits["layer"]  # type: ignore[return-value]

    @property
    def primary(self) -> npt.NDArray[np.uint8]:
        """(hits,) number of the primary from which each hit descends."""
        return self.hits["primary"]  # type: ignore[return-value]

    @property
    def num_hits(self) -> IntArray:
        """(n,) number of hits of each shower."""
        return self.hits.counts

    @property
    def num_primaries(self) -> IntArray:
        """(n,) number of primaries of each shower."""
        return self.primaries.counts

    @property
    def nbytes(self) -> int:
        """Memory of all columns in bytes."""
        tables = self.hits.nbytes + self.primaries.nbytes + (self.particles.nbytes if self.particles is not None else 0)
        return tables + self.index.nbytes + self.incident_energy.nbytes + self.leaked_energy.nbytes

    # ------------------------------------------------------------------ selection

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator["Showers"]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, key: Any) -> "Showers":
        chosen = selected(key, len(self))
        return self._span(*chosen) if isinstance(chosen, tuple) else self._take(chosen)

    def _span(self, start: int, stop: int) -> "Showers":
        whole = stop - start == len(self)
        return Showers(
            run=self.run if whole else dataclasses.replace(self.run, attempts=None),
            index=self.index[start:stop],
            incident_energy=self.incident_energy[start:stop],
            leaked_energy=self.leaked_energy[start:stop],
            hits=self.hits.span(start, stop),
            primaries=self.primaries.span(start, stop),
            particles=self.particles.span(start, stop) if self.particles is not None else None,
        )

    def _take(self, chosen: IntArray) -> "Showers":
        return Showers(
            run=dataclasses.replace(self.run, attempts=None),
            index=self.index[chosen],
            incident_energy=self.incident_energy[chosen],
            leaked_energy=self.leaked_energy[chosen],
            hits=self.hits.take(chosen),
            primaries=self.primaries.take(chosen),
            particles=self.particles.take(chosen) if self.particles is not None else None,
        )

    def copy(self) -> "Showers":
        """Copy the showers.

        Returns:
            Showers that share no memory with these.
        """
        return Showers(
            run=self.run,
            index=self.index.copy(),
            incident_energy=self.incident_energy.copy(),
            leaked_energy=self.leaked_energy.copy(),
            hits=self.hits.copy(),
            primaries=self.primaries.copy(),
            particles=self.particles.copy() if self.particles is not None else None,
        )

    @staticmethod
    def concatenate(parts: Iterable["Showers"]) -> "Showers":
        """Put showers of one config behind each other.

        Args:
            parts: at least one piece; all with the same config and all with or all without recorded particles.

        Returns:
            All showers in order. Attempts are added up where every piece knows them.

        Raises:
            ValueError: nothing was given, or the pieces do not fit together.
        """
        parts = list(parts)
        if not parts or not all(isinstance(part, Showers) for part in parts):
            raise ValueError("Showers to concatenate must be given as a list of at least one piece.")
        runs = [part.run for part in parts]
        if any((run.config, run.keep) != (runs[0].config, runs[0].keep) for run in runs):
            raise ValueError("Showers of different configs or keep rules cannot be put together; keep them in a list.")
        particles = [part.particles for part in parts if part.particles is not None]
        if particles and len(particles) != len(parts):
            raise ValueError("Showers with and without recorded particles cannot be put together.")
        attempts = [run.attempts for run in runs]
        return Showers(
            run=Run(
                config=runs[0].config,
                seed=runs[0].seed if len({run.seed for run in runs}) == 1 else None,
                first=min(run.first for run in runs),
                engine=runs[0].engine if len({run.engine for run in runs}) == 1 else "several",
                keep=runs[0].keep,
                attempts=None if None in attempts else sum(a for a in attempts if a is not None),
            ),
            index=np.concatenate([part.index for part in parts]),
            incident_energy=np.concatenate([part.incident_energy for part in parts]),
            leaked_energy=np.concatenate([part.leaked_energy for part in parts]),
            hits=concatenate([part.hits for part in parts]),
            primaries=concatenate([part.primaries for part in parts]),
            particles=concatenate(particles) if particles else None,
        )

    # ------------------------------------------------------------------ comparison and text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Showers):
            return NotImplemented
        if (self.particles is None) != (other.particles is None):
            return False
        return (
            (self.config, self.run.seed, self.run.keep) == (other.config, other.run.seed, other.run.keep)
            and np.array_equal(self.index, other.index)
            and np.array_equal(self.incident_energy, other.incident_energy)
            and np.array_equal(self.leaked_energy, other.leaked_energy)
            and self.hits.equals(other.hits)
            and self.primaries.equals(other.primaries)
            and (self.particles is None or other.particles is None or self.particles.equals(other.particles))
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        name = preset_name(self.config)
        mean = f", {self.hits.num_rows / len(self):.1f} a shower" if len(self) else ""
        tree = f"; {counted(self.particles.num_rows, 'particle')} recorded" if self.particles is not None else ""
        kept = ""
        if self.run.keep == "complete" and self.run.attempts:
            kept = f"; kept {format_percent(len(self) / self.run.attempts)} of {counted(self.run.attempts, 'attempt')}"
        return (
            f"<Showers: {len(self):,} of {name or 'a custom config'} at {self.config.spectrum} GeV, "
            f"seed {self.run.seed}; {counted(self.hits.num_rows, 'hit')}{mean}{tree}{kept}>"
        )

    # ------------------------------------------------------------------ other forms

    def hit_columns(self) -> dict[str, Array]:
        """Return one row a hit, for a data frame: ``pandas.DataFrame(showers.hit_columns())``.

        Returns:
            ``shower`` (number in this container) and the hit columns, which share memory with the container.
        """
        return {"shower": self.hits.group_of_row(), **self.hits.columns}

    def shower_columns(self) -> dict[str, Array]:
        """Return one row a shower, for a data frame.

        Returns:
            index, incident_energy, leaked_energy, num_hits and num_primaries.
        """
        return {
            "index": self.index,
            "incident_energy": self.incident_energy,
            "leaked_energy": self.leaked_energy,
            "num_hits": self.num_hits,
            "num_primaries": self.num_primaries,
        }

    def to_awkward(self) -> Any:
        """Return the showers as an awkward array, sharing the memory of the columns.

        Returns:
            An ``awkward.Array`` of records: index, incident_energy, leaked_energy, hits, primaries and, where
            recorded, particles.

        Raises:
            ValueError: the package awkward is not installed.
        """
        try:
            import awkward
        except ImportError:
            raise ValueError("to_awkward needs the package awkward: pip install 'supa-showers[hep]'.") from None

        def lists(table: Ragged) -> Any:
            records = awkward.zip(dict(table.columns), depth_limit=1)
            offset = awkward.index.Index64(table.offset)
            return awkward.Array(awkward.contents.ListOffsetArray(offset, records.layout))

        fields = {
            "index": self.index,
            "incident_energy": self.incident_energy,
            "leaked_energy": self.leaked_energy,
            "hits": lists(self.hits),
            "primaries": lists(self.primaries),
        }
        if self.particles is not None:
            fields["particles"] = lists(self.particles)
        return awkward.zip(fields, depth_limit=1)

    def trajectories(self) -> Ragged:
        """Return each hit's path from its primary: one group a hit, in the order of the hits.

        Returns:
            Columns particle (int64, row of ``particles``), slice, x, y, energy; the last row of a group is the hit.

        Raises:
            ValueError: the particles were not recorded.
        """
        particles = self._recorded("trajectories")
        current = np.flatnonzero(particles["fate"] == STOP)
        # A particle in slice l has l ancestors, one in each slice before it.
        offset = counts_to_offsets(particles["slice"][current].astype(np.int64) + 1)
        row_of_shower = particles.offset[:-1][particles.group_of_row()]
        path = np.empty(offset[-1], dtype=np.int64)
        position = offset[1:] - 1
        parent: npt.NDArray[np.int32] = particles["parent"]  # type: ignore[assignment]
        while len(current):
            path[position] = current
            going = parent[current] >= 0
            current, position = current[going], position[going] - 1
            current = row_of_shower[current] + parent[current]
        columns = {name: particles[name][path] for name in ("slice", "x", "y", "energy")}
        return Ragged({"particle": path, **columns}, offset)

    def _recorded(self, use: str) -> Ragged:
        if self.particles is None:
            raise ValueError(f"{use} needs the recorded particles; simulate with record='particles'.")
        return self.particles

    def image(self, edges: tuple[npt.ArrayLike, npt.ArrayLike], *, layer: int | None = None) -> FloatArray:
        """Sum the hits' energies on a grid.

        A cell holds its lower edges; the last cell of an axis also holds its upper edge. Energy outside is left out.

        Args:
            edges: ascending cell edges (length unit) along x, (nx + 1,), and along y, (ny + 1,).
            layer: the readout layer, None for all layers together.

        Returns:
            (n, nx, ny) float64, GeV.

        Raises:
            ValueError: the edges are not ascending, or there is no such layer.
        """
        if layer is not None:
            layer = check_int(0, self.config.num_layers - 1, "layer", layer)
        if not isinstance(edges, list | tuple) or len(edges) != 2:
            raise ValueError(
                f"edges: {format_value(edges)} was given, but it must be a pair: the edges along x, and along y."
            )
        cells = Cartesian(*edges)
        cell = cells.cell(self.x, self.y)
        if layer is not None:
            cell = np.where(self.layer == layer, cell, -1)
        nx, ny = cells.shape
        sums = energy_in_cells(self.hits.group_of_row(), cell, self.energy, len(self), nx * ny)
        return sums.reshape(len(self), nx, ny)

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows, with a thumbnail of a single shower."""
        from supa.html_table import html_table

        run = self.run
        energy = f"{self.incident_energy[0]:.4g}" if len(self) == 1 else str(self.config.spectrum)
        average = f", {self.hits.num_rows / len(self):.1f} per shower" if len(self) > 1 else ""
        rows: list[tuple[str, object]] = [
            ("config", preset_name(self.config) or "custom"),
            ("incident energy", f"{energy} GeV"),
            ("hits", f"{self.hits.num_rows:,}{average}"),
            ("hit energy", f"{self.energy.sum():,.2f} GeV in total"),
            ("readout layers", self.config.num_layers),
            ("particles", f"{self.particles.num_rows:,}" if self.particles is not None else "not recorded"),
            ("seed", "-" if run.seed is None else run.seed),
            ("engine", run.engine),
            ("keep", run.keep),
        ]
        if len(self) != 1:
            return html_table(rows, caption=counted(len(self), "shower"))
        from supa.plotting.thumbnail import thumbnail

        columns = (self.z, self.y.astype(np.float64), self.energy.astype(np.float64), self.layer.astype(np.int64))
        picture = thumbnail(*columns, self.config)
        return f"<div>{html_table(rows, caption=f'Shower {self.index[0]}')}{picture}</div>"

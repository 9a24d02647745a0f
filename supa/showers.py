"""The container of showers, which simulations, files and loaders return."""

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
from supa.refined import Refinement
from supa.selection import selected


@dataclass(frozen=True)
class Run:
    """Origin of showers: config, seed, engine and number of attempts.

    Args:
        config: Physics of the showers.
        seed: Random seed. None for showers of other programs, or if showers of several seeds were concatenated.
        first: Index of the first simulated shower.
        engine: ``"cpu"``, also for the same showers from the engine ``"cuda"``; ``"reference"``; ``"imported"`` if
            another program generated the showers; ``"several"`` if showers of different engines were concatenated.
        keep: ``"all"``, or ``"complete"`` if showers with an empty readout layer were dropped.
        attempts: Number of showers that were simulated to obtain these, or None for a selection of a run.
        model: Name of the generative model from which the showers were sampled, or None.
        refinement: How `supa.comparison.refine_sample` refined the sample, or None.

    Example:
        >>> import supa
        >>> run = supa.simulate(100, "standard", seed=1, keep="complete").run
        >>> run.seed, run.engine, run.keep
        (1, 'cpu', 'complete')
        >>> run.attempts > 100  # showers with an empty readout layer were dropped
        True
    """

    config: ShowerConfig
    seed: int | None
    first: int
    engine: str
    keep: Literal["all", "complete"]
    attempts: int | None
    model: str | None = None
    refinement: Refinement | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Showers:
    """Showers with their hits, their primaries and, if recorded, all particles of their trees.

    A container of n showers behaves like an array of length n: ``len``, iteration, and indexing with an integer, a
    slice, a boolean mask or an integer array return `Showers`. Slices share memory, other selections are copies. The
    hits of all showers are stored in flat arrays. They are ordered by shower, then by slice, then by creation. Lengths
    are in the length unit of the simulator, energies in GeV.

    `simulate`, `stream`, `from_hits` and the functions that read files return showers; the constructor is rarely
    needed.

    Args:
        run: Origin of the showers.
        index: (n,) int64, index of each shower in its run. Seed and index identify a shower.
        incident_energy: (n,) float64, incident energy (GeV).
        leaked_energy: (n,) float64, energy that left the last slice (GeV); NaN for an imported shower for which it is
            unknown.
        hits: Hits, one group per shower. Columns x, y (length unit) and energy (GeV) are float64, or float32 when read
            from a file; slice, layer and primary are uint8. The slice is 255 if only the layer of an imported hit is
            known.
        primaries: Primaries, one group per shower. Columns energy (GeV), x, y (impact point in slice 0, length unit),
            slope_x, slope_y (direction dx/dz, dy/dz), all float64.
        particles: All particles in the order of creation, one group per shower, or None if they were not recorded.
            Columns parent (int32, number of the parent in the shower, -1 for a primary), slice (uint8), x, y, energy
            (as for the hits), fate (uint8; 0 stop, 1 split, 2 pass, 3 leak) and primary (uint8).

    Example:
        >>> import numpy as np
        >>> import supa
        >>> showers = supa.simulate(100, "standard", seed=1, record="particles")
        >>> len(showers), len(showers[10:20]), len(showers[showers.num_hits > 0])
        (100, 10, 100)
        >>> start, stop = showers.offset[3], showers.offset[4]
        >>> bool((showers.energy[start:stop] == showers[3].energy).all())
        True
        >>> deposited = [shower.energy.sum() for shower in showers]
        >>> bool(np.allclose(deposited + showers.leaked_energy, showers.incident_energy))
        True
        >>> sorted(showers.particles.columns)
        ['energy', 'fate', 'parent', 'primary', 'slice', 'x', 'y']
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
        """Physics of the showers."""
        return self.run.config

    @property
    def offset(self) -> IntArray:
        """(n + 1,) int64; the hits of shower k are ``offset[k]`` to ``offset[k + 1]`` (exclusive)."""
        return self.hits.offset

    @property
    def x(self) -> npt.NDArray[np.floating[Any]]:
        """(hits,) float64 x of each hit (length unit); float32 when read from a file."""
        return self.hits["x"]  # type: ignore[return-value]

    @property
    def y(self) -> npt.NDArray[np.floating[Any]]:
        """(hits,) float64 y of each hit (length unit); float32 when read from a file."""
        return self.hits["y"]  # type: ignore[return-value]

    @property
    def z(self) -> FloatArray:
        """(hits,) float64 depth of each hit, its slice times the spacing (length unit); NaN if the slice is unknown."""
        depth = np.multiply(self.slice, self.config.slice_spacing, dtype=np.float64)
        if not self.slices_known:
            depth[self.slice == UNKNOWN_SLICE] = np.nan
        return depth

    @property
    def slices_known(self) -> bool:
        """Whether the slice of every hit is known. Imported hits may have a layer only."""
        return not (self.slice == UNKNOWN_SLICE).any()

    @property
    def energy(self) -> npt.NDArray[np.floating[Any]]:
        """(hits,) float64 energy of each hit (GeV); float32 when read from a file."""
        return self.hits["energy"]  # type: ignore[return-value]

    @property
    def slice(self) -> npt.NDArray[np.uint8]:
        """(hits,) uint8 slice of each hit; 255 if it is unknown."""
        return self.hits["slice"]  # type: ignore[return-value]

    @property
    def layer(self) -> npt.NDArray[np.uint8]:
        """(hits,) uint8 readout layer of each hit."""
        return self.hits["layer"]  # type: ignore[return-value]

    @property
    def primary(self) -> npt.NDArray[np.uint8]:
        """(hits,) uint8 number of the primary from which each hit descends."""
        return self.hits["primary"]  # type: ignore[return-value]

    @property
    def num_hits(self) -> IntArray:
        """(n,) int64 number of hits in each shower."""
        return self.hits.counts

    @property
    def num_primaries(self) -> IntArray:
        """(n,) int64 number of primaries of each shower."""
        return self.primaries.counts

    @property
    def nbytes(self) -> int:
        """Memory used by all columns, in bytes."""
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
        """Return a copy of the showers.

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
        """Concatenate showers of the same config.

        Args:
            parts: One or more pieces, either all with or all without recorded particles.

        Returns:
            All showers in order. The number of attempts is the sum over the pieces, or None if it is unknown for one
            of them.

        Raises:
            ValueError: If nothing was given, if the pieces differ in their config or in ``keep``, or if only some of
                them have recorded particles.
        """
        parts = list(parts)
        if not parts or not all(isinstance(part, Showers) for part in parts):
            raise ValueError("Showers.concatenate needs a list of at least one Showers object.")
        runs = [part.run for part in parts]
        if any((run.config, run.keep) != (runs[0].config, runs[0].keep) for run in runs):
            raise ValueError(
                "Showers with different configs or different values of keep cannot be concatenated; use a list."
            )
        particles = [part.particles for part in parts if part.particles is not None]
        if particles and len(particles) != len(parts):
            raise ValueError("Showers with and without recorded particles cannot be concatenated.")
        attempts = [run.attempts for run in runs]
        return Showers(
            run=Run(
                config=runs[0].config,
                seed=runs[0].seed if len({run.seed for run in runs}) == 1 else None,
                first=min(run.first for run in runs),
                engine=runs[0].engine if len({run.engine for run in runs}) == 1 else "several",
                keep=runs[0].keep,
                attempts=None if None in attempts else sum(a for a in attempts if a is not None),
                model=runs[0].model if len({run.model for run in runs}) == 1 else None,
                refinement=runs[0].refinement if len({run.refinement for run in runs}) == 1 else None,
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
        mean = f", {self.hits.num_rows / len(self):.1f} per shower" if len(self) else ""
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
        """Return the hits as the columns of a data frame.

        ``pandas.DataFrame(showers.hit_columns())`` has one row per hit.

        Returns:
            Array of each column by name: ``shower`` (number of the shower in this container) and the columns of the
            hits, which share memory with the container.
        """
        return {"shower": self.hits.group_of_row(), **self.hits.columns}

    def shower_columns(self) -> dict[str, Array]:
        """Return the showers as the columns of a data frame with one row per shower.

        Returns:
            Array of each column by name: index, incident_energy, leaked_energy, num_hits and num_primaries.
        """
        return {
            "index": self.index,
            "incident_energy": self.incident_energy,
            "leaked_energy": self.leaked_energy,
            "num_hits": self.num_hits,
            "num_primaries": self.num_primaries,
        }

    def to_awkward(self) -> Any:
        """Return the showers as an Awkward array, which shares the memory of the columns.

        Returns:
            ``awkward.Array`` of records with the fields index, incident_energy, leaked_energy, hits, primaries and, if
            recorded, particles.

        Raises:
            ValueError: If the package awkward is not installed.
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
        """Return the path of each hit from its primary.

        Returns:
            Table with one group per hit, in the order of the hits. Columns particle (int64, row in ``particles``),
            slice, x, y and energy. The first row of a group is the primary, the last one the hit.

        Raises:
            ValueError: If the particles were not recorded.
        """
        particles = self._recorded("trajectories")
        current = np.flatnonzero(particles["fate"] == STOP)
        # A particle in slice l has l ancestors, one in each earlier slice.
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
        """Sum the energies of the hits on a rectangular grid.

        A cell includes its lower edges; the last cell of an axis also includes its upper edge. Hits outside the grid
        are ignored.

        Args:
            edges: Ascending cell edges (length unit) along x, (nx + 1,), and along y, (ny + 1,).
            layer: Readout layer. By default all layers are summed.

        Returns:
            (n, nx, ny) float64, energy in each cell (GeV).

        Raises:
            ValueError: If the edges do not ascend or the layer does not exist.
        """
        if layer is not None:
            layer = check_int(0, self.config.num_layers - 1, "layer", layer)
        if not isinstance(edges, list | tuple) or len(edges) != 2:
            raise ValueError(
                f"edges: {format_value(edges)} was given, but it must be a pair (edges along x, edges along y)."
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
            *([("model", run.model)] if run.model is not None else []),
            *([("refinement", run.refinement)] if run.refinement is not None else []),
            ("keep", run.keep),
        ]
        if len(self) != 1:
            return html_table(rows, caption=counted(len(self), "shower"))
        from supa.plotting.thumbnail import thumbnail

        columns = (self.z, self.y.astype(np.float64), self.energy.astype(np.float64), self.layer.astype(np.int64))
        picture = thumbnail(*columns, self.config)
        return f"<div>{html_table(rows, caption=f'Shower {self.index[0]}')}{picture}</div>"

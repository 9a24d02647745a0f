"""Concatenation of chunks of showers in memory with a single copy, which several threads make."""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from supa.arrays import Array
from supa.memory import available_bytes
from supa.ragged import Ragged, counts_to_offsets
from supa.showers import Run, Showers

_MOST_BYTES_FOR_ONE_THREAD = 64 << 20
_SPARE_ROWS = 1.25  # rows of new columns over the number that the first chunks lead to expect


class _GrowingColumns:
    """Named columns that grow when rows are added.

    The columns are allocated with spare rows, which take no physical memory until they are written.
    """

    def __init__(self) -> None:
        self._columns: dict[str, Array] = {}
        self._end = 0

    def room(self, columns: Mapping[str, Array], share: float, before_growth: Callable[[], None]) -> dict[str, Array]:
        """Return the places of further rows, after which the columns contain about this share of all expected rows."""
        start, self._end = self._end, self._end + len(next(iter(columns.values())))
        if any(name not in self._columns or self._end > len(self._columns[name]) for name in columns):
            before_growth()
            for name, column in columns.items():
                longer = np.empty(max(self._end, int(_SPARE_ROWS * self._end / share) + 1024), dtype=column.dtype)
                if name in self._columns:
                    longer[:start] = self._columns[name][:start]
                self._columns[name] = longer
        return {name: self._columns[name][start : self._end] for name in columns}

    def finished(self) -> dict[str, Array]:
        return {name: column[: self._end] for name, column in self._columns.items()}


class Collector:
    """Concatenate chunks of showers, and raise an error early if all of them would not fit into memory.

    Use it as a context manager, which ends its threads.

    Args:
        num_showers: Total number of showers in all chunks.
        threads: Number of threads that copy.
    """

    def __init__(self, num_showers: int, threads: int) -> None:
        self._num_showers = num_showers
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="supa-copy")
        self._copies: deque[Future[None]] = deque()
        self._most_copies = threads
        self._free = available_bytes()
        self._run: Run | None = None
        self._bytes = self._count = self._attempts = 0
        self._rows = {name: _GrowingColumns() for name in ("showers", "hits", "primaries", "particles")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, chunk: Showers) -> None:
        """Append a chunk. Its arrays must not change afterwards.

        Args:
            chunk: Next showers of the run.

        Raises:
            MemoryError: If all showers together are estimated to need more memory than is free.
        """
        self._run = chunk.run
        self._bytes += chunk.nbytes
        self._count += len(chunk)
        self._attempts += chunk.run.attempts or 0
        if not self._count:
            share = 1.0
        else:
            share = self._count / self._num_showers
            if self._bytes / share > self._free:
                raise MemoryError(
                    f"{self._num_showers:,} showers need about {self._bytes / share / 2**30:.1f} GiB, but only "
                    f"{self._free / 2**30:.1f} GiB of memory are free; process them in chunks with supa.stream, or "
                    "write them to a file with `supa generate`."
                )
        rows = {name: table.columns for name, table in _tables(chunk).items()}
        rows["showers"] = {
            "index": chunk.index,
            "incident_energy": chunk.incident_energy,
            "leaked_energy": chunk.leaked_energy,
            **{f"num_{name}": table.counts for name, table in _tables(chunk).items()},
        }
        room = {name: self._rows[name].room(columns, share, self._finish_copies) for name, columns in rows.items()}
        pairs = [(room[table][name], column) for table, columns in rows.items() for name, column in columns.items()]
        while len(self._copies) >= self._most_copies:  # each copy keeps the memory of a chunk in use
            self._copies.popleft().result()
        for part in [[pair] for pair in pairs] if chunk.nbytes > _MOST_BYTES_FOR_ONE_THREAD else [pairs]:
            self._copies.append(self._pool.submit(_copy, part))

    def _finish_copies(self) -> None:
        while self._copies:
            self._copies.popleft().result()

    def showers(self) -> Showers:
        """Return the showers of all chunks.

        Returns:
            Showers in the order of the chunks.

        Raises:
            ValueError: If no chunk was added.
        """
        if self._run is None:
            raise ValueError("The collector is empty; add at least one chunk.")
        self._finish_copies()
        showers = self._rows["showers"].finished()
        tables = {
            name: Ragged(self._rows[name].finished(), counts_to_offsets(showers[f"num_{name}"]))  # type: ignore[arg-type]
            for name in ("hits", "primaries", "particles")
            if f"num_{name}" in showers
        }
        return Showers(
            run=replace(self._run, attempts=self._attempts),
            index=showers["index"],  # type: ignore[arg-type]
            incident_energy=showers["incident_energy"],  # type: ignore[arg-type]
            leaked_energy=showers["leaked_energy"],  # type: ignore[arg-type]
            hits=tables["hits"],
            primaries=tables["primaries"],
            particles=tables.get("particles"),
        )


def _tables(chunk: Showers) -> dict[str, Ragged]:
    tables = {"hits": chunk.hits, "primaries": chunk.primaries}
    return tables if chunk.particles is None else {**tables, "particles": chunk.particles}


def _copy(pairs: list[tuple[Array, Array]]) -> None:
    for target, column in pairs:
        target[...] = column

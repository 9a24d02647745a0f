"""Generation of a dataset in shards by the workers of a dask scheduler."""

import os
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from supa.checks import counted
from supa.presets import ConfigLike
from supa.simulation_plan import Record
from supa_datasets.compression import Compression
from supa_datasets.shards.checking import ForeignShardError
from supa_datasets.shards.cluster import connected
from supa_datasets.shards.manifest import Manifest
from supa_datasets.shards.planning import begun, locked, planned_dataset
from supa_datasets.shards.report import ShardProgress, ShardReport
from supa_datasets.shards.task import FinishedShard, make_shard, remove_temporary_files

MOST_FAILURES = 3
"""Failures of one shard after which the run ends. Lost workers do not count until dask gives the shard up."""

_POLL = 0.5  # seconds between two looks at the workers
_LEAST_PAUSE = 20  # of the time that writing the manifest takes; it is long for many thousand shards


def generate_shards(
    folder: str | PathLike[str],
    num_showers: int,
    config: ConfigLike = "standard",
    *,
    shards: int,
    seed: int = 0,
    first: int = 0,
    record: Record = "hits",
    engine: Literal["cpu", "cuda"] = "cpu",
    compression: Compression = "none",
    scheduler: str | PathLike[str] = "local",
    workers: int | None = None,
    progress: Callable[[ShardProgress], None] | None = None,
) -> ShardReport:
    """Simulate showers into a folder of files, in the processes or on the machines of a dask scheduler.

    Each file contains one range of indices, and one task makes it. `ShowerFile` and the loaders open the folder as if
    it were one file. A call with the same arguments continues a run that was interrupted: it checks the finished files
    and makes only those that are missing or damaged. If a worker is lost, other workers make its files.

    A script that calls this function with ``scheduler="local"`` needs ``if __name__ == "__main__":``, because the
    worker processes import the script.

    Args:
        folder: Folder of the dataset. It is created if it does not exist; its parent must exist. All workers must see
            it under the same path.
        num_showers: Number of showers. All of them are kept.
        config: Name of a preset or a `supa.ShowerConfig`.
        shards: Number of files, at most 100,000.
        seed: Random seed.
        first: Index of the first shower.
        record: ``"hits"``, or ``"particles"`` to record the trees.
        engine: ``"cpu"``, or ``"cuda"`` for the same showers, simulated on the GPUs of the workers.
        compression: One of ``COMPRESSIONS``: ``"none"``, ``"gzip"``, ``"lz4"`` or ``"zstd"``.
        scheduler: ``"local"`` for worker processes on this machine, the address of a scheduler such as
            ``"tcp://host:8786"``, or the path of a scheduler file.
        workers: Number of local worker processes, each with one thread; by default one per processor. Not allowed with
            another scheduler.
        progress: Function that is called at least once per second. If it raises an error, the run ends, and the
            finished files are kept.

    Returns:
        Numbers of the dataset, the files that were simulated, and failures.

    Raises:
        FileNotFoundError: If the parent of the folder does not exist.
        ImportError: If the package distributed is not installed.
        OSError: If the scheduler does not answer or is lost, or if a shard fails three times. The finished files are
            kept.
        ValueError: If an argument is not allowed, or the folder contains another dataset.

    Example:
        >>> from supa_datasets import ShowerFile, generate_shards
        >>> report = generate_shards("dataset", 1000, "standard", shards=4, seed=1, workers=1)
        >>> report.simulated
        ('shard-00000.h5', 'shard-00001.h5', 'shard-00002.h5', 'shard-00003.h5')
        >>> ShowerFile("dataset")
        <ShowerFile dataset: 1,000 showers, 70,319 hits>
    """
    dataset = planned_dataset(
        num_showers,
        config,
        shards=shards,
        seed=seed,
        first=first,
        record=record,
        engine=engine,
        compression=compression,
    )
    folder = Path(folder).absolute()
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"{folder}: the folder {folder.parent} does not exist; make it first.")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: it is a file, but shards need a folder; choose another name.")
    with locked(folder):
        dataset = begun(folder, dataset)
        with connected(os.fspath(scheduler), workers) as client:
            dataset.write(folder)
            return _Generation(client, folder, dataset, engine, progress).run()


class _Generation:
    """One run: the tasks that are not finished, and what happened so far."""

    def __init__(
        self,
        client: Any,
        folder: Path,
        dataset: Manifest,
        engine: str,
        progress: Callable[[ShardProgress], None] | None,
    ) -> None:
        self._client, self._folder, self._dataset, self._engine = client, folder, dataset, engine
        self._progress = progress
        self._shards = list(dataset.shards)
        self._existing = {k for k, shard in enumerate(self._shards) if (folder / shard.file).exists()}
        self._pending: dict[int, Any] = {}
        self._ended: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._failures: dict[int, list[str]] = {}
        self._simulated: list[int] = []
        self._replaced: list[str] = []
        self._workers: set[str] = set()
        self._lost = 0
        self._looked = 0.0
        self._next_write = 0.0
        self._written = True

    def run(self) -> ShardReport:
        try:
            for number in range(len(self._shards)):
                self._submit(number)
            while self._pending:
                if time.monotonic() - self._looked >= _POLL:
                    self._look_at_workers()
                self._report()
                with suppress(queue.Empty):
                    self._end(*self._ended.get(timeout=_POLL))
            self._look_at_workers()  # one may have left since the last look
            self._report()
        finally:
            if not self._written:
                self._write_manifest()
            if self._pending:
                with suppress(Exception):  # if the scheduler was lost
                    self._client.cancel(list(self._pending.values()))
        remove_temporary_files(self._folder)
        return self._summary()

    def _summary(self) -> ShardReport:
        simulated = [self._shards[number] for number in sorted(self._simulated)]
        return ShardReport(
            shards=len(self._shards),
            showers=self._dataset.num_showers,
            hits=sum(shard.hits or 0 for shard in self._shards),
            bytes=sum(shard.bytes or 0 for shard in self._shards),
            simulated=tuple(shard.file for shard in simulated),
            simulated_showers=sum(shard.count for shard in simulated),
            replaced=tuple(self._replaced),
            failures=tuple(reason for reasons in self._failures.values() for reason in reasons),
            lost=self._lost,
        )

    def _submit(self, number: int) -> None:
        # The key differs for every attempt: a scheduler that exists may remember the result of an earlier one.
        future = self._client.submit(
            make_shard, self._folder, self._dataset.reduced_to(number), self._engine, pure=False
        )
        self._pending[number] = future
        self._watch(number, future)

    def _watch(self, number: int, future: Any) -> None:
        future.add_done_callback(lambda ended: self._ended.put((number, ended)))

    def _end(self, number: int, future: Any) -> None:
        try:
            # A result that was lost with its worker is made again.
            result = future.result(timeout=_POLL) if future.status in ("finished", "lost") else None
        except TimeoutError:
            result = None
        if result is None and future.status in ("finished", "lost", "pending"):
            self._watch(number, future)
            return
        del self._pending[number]
        if result is not None:
            self._finish(number, result)
        elif future.status == "error":
            self._fail(number, future.exception())
        else:
            raise OSError(f"{self._folder}: the scheduler was lost. {self._advice()}")

    def _finish(self, number: int, finished: FinishedShard) -> None:
        self._shards[number] = finished.shard
        if finished.simulated or number not in self._existing:  # the first result may have been lost with a worker
            self._simulated.append(number)
        if finished.damage:
            self._replaced.append(finished.damage)
        self._written = False
        if time.monotonic() >= self._next_write:
            self._write_manifest()

    def _fail(self, number: int, error: BaseException) -> None:
        from distributed.scheduler import KilledWorker

        if isinstance(error, ForeignShardError):
            raise ValueError(f"{str(error).rstrip('.')}; move it away, or choose another folder.")
        reason = str(error) or type(error).__name__
        if isinstance(error, KilledWorker):
            reason = "several workers in turn were lost while they made it; do they have enough memory?"
        reasons = self._failures.setdefault(number, [])
        reasons.append(f"{self._shards[number].file}: {reason}")
        if len(reasons) == MOST_FAILURES:
            raise OSError(
                f"{self._folder}: {reasons[-1].rstrip('.')}; it failed {MOST_FAILURES} times. {self._advice()}"
            )
        self._submit(number)

    def _advice(self) -> str:
        done, total = self._num_finished(), len(self._shards)
        return f"{done:,} of {counted(total, 'shard')} are finished; repeat the command to make the others."

    def _look_at_workers(self) -> None:
        self._looked = time.monotonic()
        try:
            workers = set(self._client.nthreads())
        except Exception:  # the scheduler is lost, so all tasks end soon
            return
        self._lost += len(self._workers - workers)
        self._workers = workers

    def _report(self) -> None:
        if self._progress is not None:
            done, failures = len(self._shards) - len(self._pending), sum(map(len, self._failures.values()))
            self._progress(ShardProgress(done, len(self._shards), len(self._workers), self._lost, failures))

    def _num_finished(self) -> int:
        return sum(shard.checksum is not None for shard in self._shards)

    def _manifest(self) -> Manifest:
        return self._dataset.replace(shards=tuple(self._shards))

    def _write_manifest(self) -> None:
        start = time.monotonic()
        self._manifest().write(self._folder)
        end = time.monotonic()
        self._next_write, self._written = end + _LEAST_PAUSE * (end - start), True

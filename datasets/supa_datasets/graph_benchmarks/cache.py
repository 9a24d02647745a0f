"""The cache of graph benchmarks: the raw files of each set and the files that PyTorch Geometric processed.

A set is built in a private folder inside the cache, checked, and renamed to its final name. ``contents.json`` lists
the size and CRC-32 of its files. A set is built again if its files do not match this list, or if its raw files differ
from the given ones.
"""

import errno
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supa.file_lock import wait_for_lock
from supa_datasets.graph_benchmarks.finding import Contents, DamagedError, RawFiles, contents_of, in_folder
from supa_datasets.graph_benchmarks.processing import process, read_graphs
from supa_datasets.graph_benchmarks.sources import BenchmarkSource

_LIST = "contents.json"

_LEFT_BEHIND = 24 * 3600.0
"""Age in seconds after which a private folder is assumed to be left behind by a killed process."""


def load_graphs(source: BenchmarkSource, given: RawFiles | None, cache: Path) -> list[Any]:
    """Load the graphs of a set from the cache, and build them first if the cache does not contain a valid copy.

    Args:
        source: The set.
        given: Raw files of the set; None for those in the cache, which are downloaded if they are missing.
        cache: Folder of the cache.

    Returns:
        List of PyG ``Data`` objects.

    Raises:
        DamagedError: If the raw files are damaged.
        ValueError: If the raw files cannot be downloaded, or the cache cannot be written.
    """
    place = cache / source.family / source.folder
    lock = place.with_name(f".{source.folder}.lock")
    contents = None if given is None else given.contents()
    with wait_for_lock(lock, shared=True):
        graphs = _kept(source, place, contents)
    if graphs is not None:
        return graphs
    with suppress(OSError):  # reported when the set is built
        place.parent.mkdir(parents=True, exist_ok=True)
    with wait_for_lock(lock):
        graphs = _kept(source, place, contents)  # another process may have built it in the meantime
        return _made(source, given, place) if graphs is None else graphs


def _kept(source: BenchmarkSource, place: Path, raw: Contents | None) -> list[Any] | None:
    """Read the set in the cache; return None if it is incomplete or was built from other raw files."""
    try:
        own = in_folder(source, place / "raw")
        if own is None:
            return None
        if json.loads((place / _LIST).read_bytes()) != _listed(own.contents() if raw is None else raw, place):
            return None
        return read_graphs(source, place.parent)
    except MemoryError:
        raise
    except Exception:  # reading damaged or foreign files raises errors of every kind; the set is built again
        return None


def _made(source: BenchmarkSource, given: RawFiles | None, place: Path) -> list[Any]:
    """Build a set from the given raw files, from those in the cache, or from a download, in this order."""
    if given is not None:
        return _made_from(source, given, place)
    own = in_folder(source, place / "raw")
    if own is None:
        return _made_from(source, None, place)
    try:
        return _made_from(source, own, place)
    except DamagedError as damage:
        try:
            return _made_from(source, None, place)
        except ValueError as failure:
            raise DamagedError(f"{damage} {failure}") from None


def _made_from(source: BenchmarkSource, raw: RawFiles | None, place: Path) -> list[Any]:
    try:
        with _private_folder(place) as (private, stays):
            graphs, contents = process(source, raw, private)
            if stays:
                made = private / source.folder
                (made / _LIST).write_text(json.dumps(_listed(contents, made)))
                _put(made, place, private)
            return graphs
    except OSError as error:
        raise ValueError(
            f"{place.parent}: the cache of benchmarks cannot be written ({error.strerror or error}); free some space "
            "or choose another folder (cache= or XDG_CACHE_HOME)."
        ) from None


def _listed(raw: Contents, place: Path) -> dict[str, Contents]:
    processed = {path.name: contents_of(path) for path in (place / "processed").iterdir()}
    return {"raw": raw, "processed": processed}


@contextmanager
def _private_folder(place: Path) -> Iterator[tuple[Path, bool]]:
    """Create a folder beside ``place`` (True), or a temporary folder elsewhere if the cache is read-only (False)."""
    stays, where = True, place.parent
    try:
        where.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=where, ignore_cleanup_errors=True)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        stays, folder = False, tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    for other in where.glob(f".{place.name}-*"):
        with suppress(OSError):
            if time.time() - other.stat().st_mtime > _LEFT_BEHIND:
                shutil.rmtree(other)
    with folder as name:
        yield Path(name), stays


def _put(made: Path, place: Path, private: Path) -> None:
    """Rename a set to its final name; an existing set is moved into the private folder."""
    moved = 0
    while True:
        try:
            made.rename(place)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        with suppress(FileNotFoundError):  # on file systems without locks, another process may have moved it
            place.rename(private / f"before-{moved}")
            moved += 1

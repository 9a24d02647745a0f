"""Downloading, processing and reading a set with PyTorch Geometric."""

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from supa_datasets.graph_benchmarks.checking import check_raw_files, reason
from supa_datasets.graph_benchmarks.finding import Contents, DamagedError, RawCopy, RawFiles, in_folder
from supa_datasets.graph_benchmarks.sources import BenchmarkSource


def process(source: BenchmarkSource, raw: RawFiles | None, folder: Path) -> tuple[list[Any], Contents]:
    """Copy or download the raw files of a set, check them, and process them.

    Args:
        source: The set.
        raw: Raw files of the set; None to download them.
        folder: Empty folder, in which the folder of the set with ``raw`` and ``processed`` is created.

    Returns:
        List of PyG ``Data`` objects, and the contents of the raw files.

    Raises:
        DamagedError: If the raw files are damaged.
        OSError: If the folder cannot be written.
        ValueError: If the raw files cannot be downloaded or read, or PyTorch Geometric is not installed.
    """
    _families()  # a missing package must not be reported as damage
    target = folder / source.folder / "raw"
    if raw is None:
        return _downloaded(source, folder, target)
    target.mkdir(parents=True)
    for name in raw.files:
        (target / name).write_bytes(raw.read(name))
    names = {name: name for name in raw.files}
    copy = RawCopy(target, names, {name: raw.path_of(name) for name in names})
    check_raw_files(source, copy)
    try:
        with redirect_stderr(io.StringIO()):  # no progress messages, since this is fast
            graphs = read_graphs(source, folder)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damaged contents raise errors of every kind
        raise DamagedError(
            f"{reason(error)}; see the files in the folder of {copy.path_of(source.raw_files[0])}."
        ) from None
    return graphs, copy.contents()


def _downloaded(source: BenchmarkSource, folder: Path, target: Path) -> tuple[list[Any], Contents]:
    graphs, why = None, "the download lacks files"
    try:
        graphs = read_graphs(source, folder)
    except MemoryError:
        raise
    except Exception as error:  # networks, archives and truncated files raise errors of every kind
        why = reason(error)
    found = in_folder(source, target)
    if found is not None:
        names = {name: f"the downloaded {name}" for name in found.files}
        check_raw_files(source, RawCopy(target, found.files, names))
    if graphs is None or found is None:
        raise ValueError(
            f"{source.name}: the set cannot be downloaded or read ({why}); pass the folder of its raw files (root= or "
            "--root)."
        )
    return graphs, found.contents()


def read_graphs(source: BenchmarkSource, folder: Path) -> list[Any]:
    """Read the graphs of a set. Missing files are downloaded and processed.

    Args:
        source: The set.
        folder: Folder that contains the folder of the set.

    Returns:
        List of PyG ``Data`` objects.

    Raises:
        ValueError: If PyTorch Geometric is not installed.
        Exception: If files are damaged or cannot be downloaded; the type depends on the library that fails.
    """
    options = {"use_node_attr": True} if source.node_attributes else {}
    dataset = getattr(_families(), source.family)(str(folder), source.set_name, **options)
    return [dataset[k] for k in range(len(dataset))]


def _families() -> Any:
    try:
        from torch_geometric import datasets
    except ImportError:
        raise ValueError("Graph benchmarks need PyTorch Geometric: pip install 'supa-showers[learn]'.") from None
    return datasets

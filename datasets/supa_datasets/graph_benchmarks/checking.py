"""Checks of raw files before they are processed. An error names the damaged file.

PyTorch Geometric itself accepts many truncated files: it drops an incomplete last line and does not compare the
numbers of lines.
"""

import io
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supa.checks import counted, format_value
from supa_datasets.graph_benchmarks.finding import DamagedError, RawFiles
from supa_datasets.graph_benchmarks.sources import BenchmarkSource


def check_raw_files(source: BenchmarkSource, raw: RawFiles) -> None:
    """Check that each raw file of a set can be read, and that the files are consistent.

    Args:
        source: The set.
        raw: Raw files of the set.

    Raises:
        DamagedError: If a file is damaged or inconsistent with the others.
    """
    _CHECKS[source.family](source, raw)


def reason(error: BaseException) -> str:
    """Return the message of an error as one line.

    Args:
        error: The error.

    Returns:
        The message, or the type of an error without message.
    """
    return " ".join(str(error).split()) or type(error).__name__


def _check_tu(source: BenchmarkSource, raw: RawFiles) -> None:
    def path(part: str) -> str:
        return raw.path_of(f"{source.set_name}_{part}.txt")

    def table(part: str, dtype: type = np.int64) -> NDArray[Any]:
        return _table(raw, f"{source.set_name}_{part}.txt", dtype)

    owner = table("graph_indicator")
    if owner.shape[1] != 1 or owner[0, 0] != 1 or not np.isin(np.diff(owner[:, 0]), (0, 1)).all():
        raise DamagedError(f"{path('graph_indicator')}: the numbers of the graphs must ascend from 1 without gaps.")
    nodes, graphs = len(owner), int(owner[-1, 0])
    edges = table("A")
    if edges.shape[1] != 2:
        raise DamagedError(f"{path('A')}: each line must contain two nodes, got {edges.shape[1]}.")
    if edges.min() < 1 or edges.max() > nodes:
        raise DamagedError(
            f"{path('A')}: the nodes are numbered from {edges.min()} to {edges.max()}, but {path('graph_indicator')} "
            f"lists {counted(nodes, 'node')}, numbered from 1."
        )
    if (owner[edges[:, 0] - 1] != owner[edges[:, 1] - 1]).any():
        raise DamagedError(f"{path('A')}: an edge connects two graphs of {path('graph_indicator')}.")
    there, back = edges @ (nodes, 1), edges @ (1, nodes)
    if not np.array_equal(np.unique(there), np.unique(back)):
        raise DamagedError(f"{path('A')}: each edge must be listed in both directions; the file is truncated.")
    if owner[edges - 1].max() < graphs:  # PyTorch Geometric would drop such graphs
        raise DamagedError(f"{path('A')}: the last graph, {graphs:,}, has no edge; the file is truncated.")
    for part, rows, dtype in (
        ("graph_labels", graphs, np.int64),
        ("node_labels", nodes, np.int64),
        ("node_attributes", nodes, np.float64),
        ("edge_labels", len(edges), np.int64),
        ("edge_attributes", len(edges), np.float64),
    ):
        if f"{source.set_name}_{part}.txt" not in raw.files:
            continue
        found = len(table(part, dtype))
        if found != rows:
            of = path("A") if part.startswith("edge") else path("graph_indicator")
            raise DamagedError(
                f"{path(part)}: it has {counted(found, 'line')}, but {of} needs {rows:,}; one of the two is damaged."
            )


def _check_planetoid(source: BenchmarkSource, raw: RawFiles) -> None:
    prefix = f"ind.{source.set_name.lower()}"

    def path(part: str) -> str:
        return raw.path_of(f"{prefix}.{part}")

    def unpickled(part: str) -> Any:
        data = raw.read(f"{prefix}.{part}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the files refer to modules of SciPy that have been moved
                return pickle.loads(data, encoding="latin1")
        except MemoryError:
            raise
        except Exception as error:  # damaged pickles raise errors of every kind
            raise DamagedError(f"{path(part)}: the file is damaged ({reason(error)}).") from None

    def rows(part: str) -> int:
        shape: tuple[int, ...] = getattr(unpickled(part), "shape", ())
        if len(shape) != 2:
            raise DamagedError(f"{path(part)}: the file must contain a matrix.")
        return shape[0]

    for features, labels in (("x", "y"), ("tx", "ty"), ("allx", "ally")):
        if rows(features) != rows(labels):
            raise DamagedError(
                f"{path(features)} has {counted(rows(features), 'row')}, but {path(labels)} has {rows(labels):,}; one "
                "of the two is damaged."
            )
    known, test = rows("allx"), rows("tx")
    index = _table(raw, f"{prefix}.test.index", np.int64)
    if index.shape != (test, 1):
        raise DamagedError(
            f"{path('test.index')}: it has {counted(len(index), 'line')}, but {path('tx')} needs {test:,}; one of the "
            "two is damaged."
        )
    nodes = known + int(index.max() - index.min()) + 1
    if index.min() != known or len(np.unique(index)) != test:
        raise DamagedError(f"{path('test.index')}: it must number the nodes after those of {path('allx')}.")
    graph = unpickled("graph")
    whole = isinstance(graph, Mapping) and all(
        _is_node(node, nodes) and isinstance(others, list) and all(_is_node(other, nodes) for other in others)
        for node, others in graph.items()
    )
    if not whole or len(graph) != nodes:
        raise DamagedError(f"{path('graph')}: it must list the neighbours of each of the {counted(nodes, 'node')}.")


def _check_npz(source: BenchmarkSource, raw: RawFiles) -> None:
    import scipy.sparse

    [name] = source.raw_files
    keys = tuple(f"{matrix}_{part}" for matrix in ("adj", "attr") for part in ("data", "indices", "indptr", "shape"))
    arrays = _arrays(raw, name, (*keys, "labels"))
    matrices = {}
    for key in ("adj", "attr"):
        data, indices, indptr, shape = (arrays[f"{key}_{part}"] for part in ("data", "indices", "indptr", "shape"))
        try:
            matrix = scipy.sparse.csr_matrix((data, indices, indptr), tuple(shape))
            matrix.check_format(full_check=True)
        except (ValueError, TypeError, IndexError) as error:
            raise DamagedError(f"{raw.path_of(name)}: the matrix {key} is damaged ({reason(error)}).") from None
        matrices[key] = matrix.shape
    nodes, labels = matrices["adj"][0], arrays["labels"]
    if matrices["adj"][1] != nodes or matrices["attr"][0] != nodes or labels.shape != (nodes,):
        raise DamagedError(
            f"{raw.path_of(name)}: adj {matrices['adj']}, attr {matrices['attr']} and labels {labels.shape} must have "
            "the same number of nodes."
        )
    if labels.dtype.kind not in "iu":
        raise DamagedError(f"{raw.path_of(name)}: labels must be integers.")


def _check_webkb(source: BenchmarkSource, raw: RawFiles) -> None:
    nodes_file, edges_file, *splits = source.raw_files
    rows = _lines(raw, nodes_file)[1:]
    widths = set()
    for number, row in enumerate(rows):
        cells = row.split("\t")
        if len(cells) != 3 or cells[0] != str(number) or not re.fullmatch(r"\d+", cells[2]):
            raise DamagedError(
                f"{raw.path_of(nodes_file)}, line {number + 2}: the line must contain the node {number}, its features "
                f"and its class, got {format_value(row)}."
            )
        widths.add(len(_numbers(raw, nodes_file, number + 2, cells[1].split(","), float)))
    if len(widths) != 1:
        raise DamagedError(f"{raw.path_of(nodes_file)}: each node must have the same number of features.")
    for number, row in enumerate(_lines(raw, edges_file)[1:], 2):
        ends = _numbers(raw, edges_file, number, row.split("\t"), int)
        if len(ends) != 2 or not all(0 <= end < len(rows) for end in ends):
            raise DamagedError(
                f"{raw.path_of(edges_file)}, line {number}: the line must contain two nodes between 0 and "
                f"{len(rows) - 1}, got {format_value(row)}."
            )
    for name in splits:
        masks = _arrays(raw, name, ("train_mask", "val_mask", "test_mask"))
        if any(mask.shape != (len(rows),) for mask in masks.values()):
            raise DamagedError(f"{raw.path_of(name)}: each mask must have {counted(len(rows), 'entry', 'entries')}.")


_CHECKS: Mapping[str, Callable[[BenchmarkSource, RawFiles], None]] = MappingProxyType(
    {
        "TUDataset": _check_tu,
        "Planetoid": _check_planetoid,
        "CitationFull": _check_npz,
        "Amazon": _check_npz,
        "Coauthor": _check_npz,
        "WebKB": _check_webkb,
    }
)


def _text(raw: RawFiles, name: str) -> bytes:
    """Read a file whose lines all end with a newline."""
    data = raw.read(name)
    if not data:
        raise DamagedError(f"{raw.path_of(name)}: the file is empty.")
    if not data.endswith(b"\n"):
        raise DamagedError(f"{raw.path_of(name)}: the last line is incomplete; the file is truncated.")
    return data


def _table(raw: RawFiles, name: str, dtype: type) -> NDArray[Any]:
    """Read comma-separated numbers as (lines, columns)."""
    data = _text(raw, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns if there are no numbers
            table: NDArray[Any] = np.loadtxt(io.BytesIO(data), dtype, delimiter=",", comments=None, ndmin=2)
    except (ValueError, UserWarning, OverflowError) as error:
        raise DamagedError(f"{raw.path_of(name)}: the file is damaged ({reason(error)}).") from None
    if len(table) != data.count(b"\n"):
        raise DamagedError(f"{raw.path_of(name)}: the file is damaged (a line is empty).")
    if not np.isfinite(table).all():
        raise DamagedError(f"{raw.path_of(name)}: the file is damaged (a number is not finite).")
    return table


def _lines(raw: RawFiles, name: str) -> list[str]:
    try:
        return _text(raw, name).decode().split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise DamagedError(f"{raw.path_of(name)}: the file is damaged ({reason(error)}).") from None


def _numbers(
    raw: RawFiles, name: str, line: int, cells: list[str], kind: Callable[[str], int | float]
) -> list[int | float]:
    try:
        return [kind(cell) for cell in cells]
    except ValueError as error:
        raise DamagedError(f"{raw.path_of(name)}, line {line}: the line is damaged ({reason(error)}).") from None


def _arrays(raw: RawFiles, name: str, keys: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read arrays from an npz archive."""
    data = raw.read(name)
    try:
        with np.load(io.BytesIO(data)) as file:
            arrays: dict[str, NDArray[Any]] = {key: file[key] for key in keys}
    except MemoryError:
        raise
    except Exception as error:  # damaged packed bytes raise errors of every decompressor
        raise DamagedError(
            f"{raw.path_of(name)}: the file is damaged or not an npz archive ({reason(error)})."
        ) from None
    return arrays


def _is_node(value: object, nodes: int) -> bool:
    return isinstance(value, (int, np.integer)) and 0 <= int(value) < nodes

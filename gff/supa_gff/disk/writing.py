"""Writing of graphs to folders, in memory that does not depend on the number of edges.

The edges are distributed over files by target node until the edges of a file fit in memory, where they are sorted.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from supa.arrays import Array, IntArray
from supa.atomic_file import sync_to_disk
from supa.checks import check_int, counted, format_value
from supa_gff.checks import form
from supa_gff.disk.graph import FILES, FORMAT, MANIFEST, VERSION, DiskGraph

_PARTS = 256
"""Number of files over which edges are distributed at a time."""

_SORTED_EDGES = 1 << 24
"""Largest number of edges that are sorted in memory, unless a single node has more."""


def write_disk_graph(
    path: str | os.PathLike[str],
    nodes: Iterable[tuple[Any, Any]],
    edges: Iterable[Any],
    *,
    num_outputs: int | None = None,
) -> DiskGraph:
    """Write a graph to a folder, from blocks of nodes and blocks of edges.

    The memory is that of one block, and of up to 16 million edges that are sorted at a time. The folder appears when it
    is complete. Until then its files are in a folder beside it, which needs 8 to 16 more bytes for each edge.

    Args:
        path: New folder.
        nodes: Blocks of consecutive nodes: pairs of (nodes, features) features and of targets, as arrays or tensors.
            Targets are (nodes,) integers for classes, (nodes,) or (nodes, targets) floats for regression, or
            (nodes, labels) bool for labels that apply.
        edges: Blocks of (2, edges) integers: source and target nodes, as ``edge_index`` of PyTorch Geometric. Blocks
            may be in any order. Store an undirected edge in both directions.
        num_outputs: Number of classes. None: the largest class plus one.

    Returns:
        The graph.

    Raises:
        FileExistsError: If the folder exists.
        ValueError: If there are no nodes, blocks do not fit together, features are not finite, or an edge has a node
            that does not exist.

    Example:
        >>> import torch
        >>> from supa_gff import write_disk_graph
        >>> nodes = ((torch.rand(100, 8), torch.randint(3, (100,))) for block in range(10))
        >>> edges = (torch.randint(1000, (2, 500)) for block in range(4))
        >>> write_disk_graph("random", nodes, edges, num_outputs=3)
        <DiskGraph: 1,000 nodes, 2,000 edges, 8 features, 3 outputs per node>
    """
    path = Path(path)
    for name, blocks in (("nodes", nodes), ("edges", edges)):
        if not isinstance(blocks, Iterable):
            raise ValueError(f"{name} must be a list or another iterable of blocks, got {form(blocks)}.")
    if path.exists():
        raise FileExistsError(f"{path}: it exists; choose another folder, or remove it first.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first.")
    folder = Path(mkdtemp(prefix=f"{path.name}.", suffix=".new", dir=path.parent))
    try:
        values = _write_nodes(folder, nodes, num_outputs)
        values |= _write_edges(folder, edges, values["nodes"], values["checksum"])
        values = {"format": FORMAT, "version": VERSION, **values, "checksum": f"{values['checksum']:08x}"}
        (folder / MANIFEST).write_text(json.dumps(values, indent=2) + "\n")
        for name in (*FILES.values(), MANIFEST):
            sync_to_disk(folder / name)
        folder.chmod(0o755)  # temporary folders are private
        folder.rename(path)
        sync_to_disk(path.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return DiskGraph(path)


def _write_nodes(folder: Path, blocks: Iterable[tuple[Any, Any]], num_outputs: int | None) -> dict[str, Any]:
    count, checksum, largest = 0, 0, -1
    shape: tuple[int, tuple[int, ...], np.dtype[Any]] | None = None
    with (folder / FILES["features"]).open("wb") as features, (folder / FILES["target"]).open("wb") as targets:
        for k, block in enumerate(blocks):
            if not isinstance(block, tuple | list) or len(block) != 2:
                raise ValueError(
                    f"Block {k} of the nodes is {form(block)}, but it must be a pair of features and targets. Pass a "
                    "list of pairs, such as [(x, y)]."
                )
            of_block = f"Block {k} of the nodes"
            x = _checked_features(of_block, _array(f"{of_block}: features", block[0]))
            y = _checked_target(of_block, _array(f"{of_block}: targets", block[1]))
            if len(x) != len(y):
                raise ValueError(
                    f"Block {k} of the nodes has features of {counted(len(x), 'node')}, but targets of {len(y):,}."
                )
            own = (x.shape[1], y.shape[1:], y.dtype)
            if shape is not None and own != shape:
                raise ValueError(
                    f"Block {k} of the nodes has {counted(own[0], 'feature')} and targets of type {own[2]} and shape "
                    f"(nodes, *{own[1]}), but the first block has {shape[0]:,}, {shape[2]} and (nodes, *{shape[1]})."
                )
            shape = own
            for file, values in ((features, x), (targets, y)):
                checksum = _append(file, values, checksum)
            count += len(x)
            if y.dtype == np.int64 and len(y):
                largest = max(largest, int(y.max()))
    if shape is None or count == 0:
        raise ValueError("There are no nodes; pass at least one block.")
    columns = shape[1][0] if shape[1] else None
    outputs = columns or 1
    if shape[2] == np.int64:
        outputs = largest + 1 if num_outputs is None else check_int(2, 10**6, "num_outputs", num_outputs)
        if largest >= outputs:
            raise ValueError(f"The classes must be between 0 and {outputs - 1}, but one is {largest}.")
        if outputs < 2:
            raise ValueError(
                "All classes are 0, but a classifier needs at least two; use floats for regression, or give "
                "num_outputs."
            )
    elif num_outputs not in (None, outputs):
        raise ValueError(
            f"num_outputs is the number of classes, got {format_value(num_outputs)}, but the targets are {shape[2]} "
            f"with {counted(outputs, 'column')}; omit it, or use integers for classes."
        )
    return {
        "nodes": count, "features": shape[0], "outputs": outputs, "target_dtype": str(shape[2]),
        "target_columns": columns, "checksum": checksum,
    }  # fmt: skip


def _array(what: str, values: Any) -> Array:
    """Convert an array, tensor or list of a user; ``what`` names it in an error message."""
    if isinstance(values, Tensor):
        if values.layout != torch.strided:
            raise ValueError(f"{what} must be a dense array or tensor, got {form(values)}; use to_dense().")
        values = values.detach().cpu()
        array: Array = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        return array
    try:
        return np.asarray(values)
    except ValueError:  # lists of different lengths, or objects that are no arrays
        raise ValueError(f"{what} must be an array or tensor, got {form(values)} that cannot be converted.") from None


def _checked_features(of_block: str, x: Array) -> Array:
    if x.ndim != 2 or x.shape[1] == 0 or x.dtype.kind not in "fiub":
        raise ValueError(
            f"{of_block}: features must be numbers of shape (nodes, features) with at least one feature, got {x.dtype} "
            f"of shape {x.shape}."
        )
    return _as_float32(f"{of_block}: the features", x)


def _as_float32(what: str, values: Array) -> Array:
    with np.errstate(over="ignore"):
        converted: Array = np.ascontiguousarray(values, dtype=np.float32)
    finite = np.isfinite(converted).all(tuple(range(1, converted.ndim)))
    if not finite.all():
        row = int(finite.argmin())
        fault = "exceed the range of float32" if np.isfinite(values[row]).all() else "contain NaN or infinity"
        raise ValueError(f"{what} of row {row:,} {fault}; correct them.")
    return converted


def _checked_target(of_block: str, y: Array) -> Array:
    columns = y.ndim == 2 and y.shape[1] > 0
    if y.dtype == np.bool_ and columns:
        return np.ascontiguousarray(y)
    if y.dtype.kind == "f" and (columns or y.ndim == 1):
        return _as_float32(f"{of_block}: the targets", y)
    if y.dtype.kind not in "iu" or y.ndim != 1:
        hint = ""
        if y.dtype.kind in "iub" and y.ndim <= 2:
            hint = " Convert one class per node to (nodes,) int64, and several labels per node to (nodes, labels) bool."
        raise ValueError(
            f"{of_block}: targets must be (nodes,) integers for classes, (nodes,) or (nodes, targets) floats for "
            f"regression, or (nodes, labels) bool for labels, got {y.dtype} of shape {y.shape}.{hint}"
        )
    y = np.ascontiguousarray(y, dtype=np.int64)
    if len(y) and y.min() < 0:
        raise ValueError(f"{of_block}: classes must be at least 0, but one is {int(y.min())}.")
    return y


def _append(file: BinaryIO, values: Array, checksum: int) -> int:
    data = values.data.cast("B") if values.size else b""
    file.write(data)
    return zlib.crc32(data, checksum)


def _write_edges(folder: Path, blocks: Iterable[Any], num_nodes: int, checksum: int) -> dict[str, Any]:
    dtype = np.dtype(np.int32 if num_nodes < 2**31 else np.int64)
    parts = _distribute(folder, _checked_edges(blocks, num_nodes, dtype), 0, num_nodes)
    count = 0
    with (folder / FILES["offset"]).open("wb") as offset, (folder / FILES["sources"]).open("wb") as sources:
        checksum = _append(offset, np.zeros(1, np.int64), checksum)
        for own, degrees in _sorted_parts(folder, parts, num_nodes, dtype):
            checksum = _append(sources, own, checksum)
            checksum = _append(offset, count + degrees.cumsum(), checksum)
            count += len(own)
    return {"edges": count, "index_dtype": str(dtype), "checksum": checksum}


def _checked_edges(blocks: Iterable[Any], num_nodes: int, dtype: np.dtype[Any]) -> Iterator[IntArray]:
    """Yield the edges of each block as (edges, 2) target and source nodes."""
    for k, given in enumerate(blocks):
        block = _array(f"Block {k} of the edges", given)
        if block.ndim != 2 or len(block) != 2 or block.dtype.kind not in "iu":
            hint = ""
            if block.ndim == 1:
                hint = " Pass a list of blocks, such as [edge_index]."
            elif block.ndim == 2 and block.shape[1] == 2 and len(block) != 2:
                hint = " Use edge_index.T."
            raise ValueError(
                f"Block {k} of the edges must have integers of shape (2, edges), got {block.dtype} of shape "
                f"{block.shape}.{hint}"
            )
        if block.size and not (block.min() >= 0 and block.max() < num_nodes):
            raise ValueError(
                f"Block {k} of the edges has nodes from {int(block.min())} to {int(block.max())}, but there are "
                f"{counted(num_nodes, 'node')}, counted from 0."
            )
        yield np.stack([block[1], block[0]], axis=1).astype(dtype)


Part = tuple[Path, int, int]
"""File with the edges of a range of target nodes, the first of these nodes, and the last one plus one."""


def _distribute(folder: Path, blocks: Iterable[IntArray], start: int, end: int) -> list[Part]:
    """Distribute (edges, 2) target and source nodes over files by ranges of target nodes."""
    rows = -(-(end - start) // _PARTS)
    parts = [
        (folder / f"edges.{first}.{min(first + rows, end)}", first, min(first + rows, end))
        for first in range(start, end, rows)
    ]
    with ExitStack() as stack:
        files = [stack.enter_context(part[0].open("wb")) for part in parts]
        for block in blocks:
            number = ((block[:, 0] - start) // rows).astype(np.uint8)
            ordered = block[np.argsort(number, kind="stable")]  # a radix sort, for small integers
            ends = np.bincount(number, minlength=len(parts)).cumsum()
            for file, last, size in zip(files, ends, np.diff(ends, prepend=0), strict=True):
                if size:
                    file.write(ordered[last - size : last].data.cast("B"))
    return parts


def _sorted_parts(
    folder: Path, parts: list[Part], num_nodes: int, dtype: np.dtype[Any]
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the sorted source nodes of each part, and the (nodes,) numbers of incoming edges of its nodes."""
    for path, start, end in parts:
        edges = path.stat().st_size // (2 * dtype.itemsize)
        if edges > _SORTED_EDGES and end - start > 1:
            smaller = _distribute(folder, _pieces(path, dtype), start, end)
            path.unlink()
            yield from _sorted_parts(folder, smaller, num_nodes, dtype)
            continue
        own = np.fromfile(path, dtype).reshape(-1, 2)
        path.unlink()
        key = (own[:, 0].astype(np.int64) - start) * num_nodes + own[:, 1]
        key.sort()
        yield (key % num_nodes).astype(dtype), np.bincount(key // num_nodes, minlength=end - start)


def _pieces(path: Path, dtype: np.dtype[Any]) -> Iterator[IntArray]:
    with path.open("rb") as file:
        while data := file.read(_SORTED_EDGES // 4 * 2 * dtype.itemsize):
            yield np.frombuffer(data, dtype).reshape(-1, 2)

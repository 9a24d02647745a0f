"""Graph in a folder, whose edges and features are read through memory maps."""

import json
import os
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supa.arrays import Array, IntArray
from supa.checks import counted, format_value
from supa_gff.names import TargetKind

MANIFEST = "manifest.json"
FORMAT, VERSION = "supa-disk-graph", 1
FILES = {"offset": "offset.bin", "sources": "sources.bin", "features": "features.bin", "target": "target.bin"}

_BLOCK = 1 << 20
"""Number of nodes whose degrees are counted at a time."""


class DiskGraph:
    """Graph in a folder for node classification or regression, which need not fit in memory.

    `write_disk_graph` writes the folder. The incoming edges of each node, the features and the targets are
    memory-mapped: the operating system reads what is used, and keeps in memory what fits.

    Args:
        path: Folder with the graph.

    Raises:
        FileNotFoundError: If the folder or one of its files does not exist.
        ValueError: If the folder has another format, or a file has a wrong size.

    Example:
        >>> import torch
        >>> from supa_gff import DiskGraph, write_disk_graph
        >>> x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
        >>> _ = write_disk_graph("ring", [(x, y)], [torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])])
        >>> graph = DiskGraph("ring")
        >>> graph
        <DiskGraph: 4 nodes, 4 edges, 4 features, 2 outputs per node>
    """

    level: ClassVar[Literal["node"]] = "node"
    """What is predicted, as in `GraphSet`."""
    num_edge_features: ClassVar[int] = 0
    """Number of features per edge, as in `GraphSet`."""
    device: ClassVar[torch.device] = torch.device("cpu")
    """Device of the graph. Blocks are copied to the device of the network."""

    path: Path
    """Folder with the graph."""
    num_nodes: int
    """Number of nodes."""
    num_edges: int
    """Number of directed edges."""
    num_features: int
    """Number of features per node."""
    num_outputs: int
    """Number of classes, of labels or of regression targets."""
    checksum: str
    """Checksum of edges, features and targets, by which kept inputs and trainings recognise their graph."""
    offset: IntArray
    """(nodes + 1,) int64 index of the first incoming edge of each node, then the number of edges."""
    sources: IntArray
    """(edges,) int32 or int64 source nodes, ordered by target node and then by source."""
    features: npt.NDArray[np.float32]
    """(nodes, features) float32 features."""
    target: Array
    """(nodes,) int64 classes; (nodes,) or (nodes, targets) float32 values; or (nodes, labels) bool."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        values = _read_manifest(self.path)
        try:
            sizes = [int(values[name]) for name in ("nodes", "edges", "features", "outputs")]
            self.num_nodes, self.num_edges, self.num_features, self.num_outputs = sizes
            self.checksum = str(values["checksum"])
            columns = (self.num_nodes, *([] if values["target_columns"] is None else [int(values["target_columns"])]))
            shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
                "offset": (np.dtype("int64"), (self.num_nodes + 1,)),
                "sources": (np.dtype(values["index_dtype"]), (self.num_edges,)),
                "features": (np.dtype("float32"), (self.num_nodes, self.num_features)),
                "target": (np.dtype(values["target_dtype"]), columns),
            }
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{self.path / MANIFEST}: it is damaged ({format_value(str(error))}).") from None
        maps = {name: _mapped(self.path / FILES[name], *shape) for name, shape in shapes.items()}
        self.offset, self.sources, self.features, self.target = maps.values()
        if self.offset[0] != 0 or self.offset[-1] != self.num_edges:
            raise ValueError(
                f"{self.path / FILES['offset']}: it does not end with the number of edges; write it again."
            )

    def __repr__(self) -> str:
        return (
            f"<DiskGraph: {counted(self.num_nodes, 'node')}, {counted(self.num_edges, 'edge')}, "
            f"{counted(self.num_features, 'feature')}, {counted(self.num_outputs, 'output')} per node>"
        )

    @property
    def target_kind(self) -> TargetKind:
        """Kind of the targets, by their type: int64 classes, float32 regression targets, or bool labels."""
        if self.target.dtype == np.bool_:
            return "multi-label"
        return "regression" if self.target.dtype == np.float32 else "classification"

    @property
    def deg(self) -> Tensor:
        """(largest degree + 1,) int64 histogram of the in-degrees of the nodes."""
        counts = np.zeros(1, dtype=np.int64)
        for start in range(0, self.num_nodes, _BLOCK):
            more = np.bincount(np.diff(self.offset[start : start + _BLOCK + 1]))
            counts, more = (counts, more) if len(counts) >= len(more) else (more, counts)
            counts[: len(more)] += more
        return torch.from_numpy(counts)

    def targets_of(self, nodes: Tensor) -> Tensor:
        """Return the targets of nodes.

        Args:
            nodes: (count,) int64 indices of nodes.

        Returns:
            (count,) or (count, columns) targets.
        """
        return torch.from_numpy(self.target[nodes.cpu().numpy()])


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; write_disk_graph writes a graph into a folder.")
    try:
        values = json.loads(path.read_text())
    except ValueError:
        values = None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"{path}: it is not the manifest of a graph on disk.")
    if values.get("version") != VERSION:
        raise ValueError(
            f"{path}: its version is {format_value(values.get('version'))}, but this program reads version {VERSION}."
        )
    return values


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """Return a file as an array. Changes of the array are not written."""
    size = int(np.prod(shape)) * dtype.itemsize
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file, although the manifest lists it.")
    if path.stat().st_size != size:
        raise ValueError(f"{path}: it has {path.stat().st_size:,} bytes, but the manifest requires {size:,}.")
    if size == 0:
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="c", shape=shape))

"""Checkpoints of graph networks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

import torch
from torch import Tensor

from supa.checks import check_int, format_value
from supa_gff.batch import Level
from supa_gff.disk.graph import DiskGraph
from supa_gff.graph_set import GraphSet
from supa_gff.method import Method
from supa_gff.networks.network import Network
from supa_gff.shower_encoding import ShowerEncoding
from supa_gff.splits.standard import Split
from supa_gff.training.graph_task import GraphTask
from supa_gff.training.stream_data import StreamData
from supa_learning import checkpoint
from supa_learning.trainer import Trainer


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(checkpoint.Checkpoint):
    """Checkpoint of a graph network: the network, its method, and the state of its training.

    A checkpoint can be taken between any two training steps. It does not contain the graphs. The loss of the method
    states whether the targets are classes, values or labels.

    Args:
        method: How the network is built, scored and trained.
        level: What is predicted: ``"graph"``, ``"node"`` or ``"link"``.
        in_channels: Number of features per node.
        out_channels: Number of classes, of labels or of regression targets; 1 for links.
        deg: (largest degree + 1,) int64 histogram of the in-degrees of the nodes.
        benchmark: Name of the graph benchmark. None for custom graphs.
        split: Training, validation and test indices of the benchmark, or of the user's own graphs. None if unknown.
        source: File or function with the user's own graphs; see `load_graphs`. None for other graphs.
        edge_channels: Number of features per edge that the network uses.
        checksum: Checksum of the user's own graphs, ``GraphSet.checksum``. None for other graphs.
        encoding: Conversion of showers into graphs, for `encoded_showers`. None for other graphs.
        training: Training state, from ``Trainer.state_dict``.
        versions: Versions of the packages that wrote the checkpoint.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import Checkpoint, GraphSet, Network, preset, train
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.full((2, 3), k % 2), edge_index=edges, y=torch.tensor([k % 2])) for k in range(12)]
        >>> dataset = GraphSet.of(graphs)
        >>> network = Network.for_graphs(preset("mono-forward").replace(layers=2, epochs=1), dataset)
        >>> trainer = train(network, dataset, torch.arange(8), torch.arange(8, 12))
        >>> Checkpoint.of(trainer).save("model.ckpt")
        >>> restored = Checkpoint.load("model.ckpt").model()
        >>> torch.equal(restored(dataset.batch(torch.arange(12))), network(dataset.batch(torch.arange(12))))
        True
    """

    format: ClassVar[str] = "supa-gff-checkpoint"
    written_by: ClassVar[str] = "supa gff train"

    method: Method
    level: Level
    in_channels: int
    out_channels: int
    deg: Tensor
    benchmark: str | None = None
    split: Split | None = None
    encoding: ShowerEncoding | None = None
    source: str | None = None
    checksum: str | None = None
    edge_channels: int = 0

    @classmethod
    def of(
        cls,
        trainer: Trainer[GraphTask],
        *,
        benchmark: str | None = None,
        split: Split | None = None,
        source: str | None = None,
    ) -> Self:
        """Return a checkpoint of a training run.

        Args:
            trainer: Trainer of the network, between two steps or after the last one.
            benchmark: Name of the graph benchmark. None for custom graphs.
            split: Training, validation and test indices of the benchmark or of the user's own graphs.
            source: File or function with the user's own graphs. The checkpoint then stores their checksum.

        Returns:
            The checkpoint. Further training does not change it.
        """
        task = trainer.task
        network, graphs = task.network, task.data.graphs
        if isinstance(graphs, GraphSet | DiskGraph):
            deg = graphs.deg
        else:
            deg = torch.bincount(torch.bincount(graphs.train.edge_index[1], minlength=graphs.train.num_nodes))
        return cls(
            method=network.method,
            level=network.level,
            in_channels=network.in_channels,
            out_channels=network.out_channels,
            deg=deg.cpu(),
            benchmark=benchmark,
            split=split,
            encoding=task.data.source.encoding if isinstance(task.data, StreamData) else None,
            source=source,
            edge_channels=network.edge_channels,
            checksum=graphs.checksum if source is not None and isinstance(graphs, GraphSet) else None,
            training=trainer.state_dict(),
            versions=checkpoint.package_versions("torch-geometric"),
        )

    def model(self) -> Network:
        """Build the network and load its weights.

        Returns:
            The network, on the CPU and in evaluation mode.
        """
        network = Network(
            self.method, self.in_channels, self.out_channels, self.level, self.deg, edge_channels=self.edge_channels
        )
        network.load_state_dict(self.training["model"])
        return network.eval()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the checkpoint atomically; see `supa_learning.Checkpoint`.

        Args:
            path: File to write.

        Raises:
            OSError: If the file cannot be written.
            ValueError: If the convolution of the method is a function, or another process is writing the file.
        """
        if not isinstance(self.method.conv, str):
            raise ValueError(
                "The convolution is a function, which a checkpoint cannot store. Save network.state_dict() instead and "
                "build the network with the same function before you load it."
            )
        super().save(path)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values and tensors; see `supa_learning.Checkpoint`."""
        return {
            "method": self.method.to_dict(),
            "level": self.level,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "deg": self.deg,
            "benchmark": self.benchmark,
            "split": None if self.split is None else dict(vars(self.split)),
            "encoding": None if self.encoding is None else self.encoding.to_dict(),
            "source": self.source,
            "checksum": self.checksum,
            "edge_channels": self.edge_channels,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a checkpoint from the result of `to_dict`; see `supa_learning.Checkpoint`."""
        if values["level"] not in get_args(Level):
            raise ValueError(f"level: {format_value(values['level'])}")
        return cls(
            method=Method.from_dict(values["method"]),
            level=values["level"],
            in_channels=check_int(1, 10**9, "in_channels", values["in_channels"]),
            out_channels=check_int(1, 10**6, "out_channels", values["out_channels"]),
            deg=values["deg"],
            benchmark=values["benchmark"],
            split=None if values["split"] is None else Split(**values["split"]),
            encoding=None if values["encoding"] is None else ShowerEncoding.from_dict(values["encoding"]),
            source=values.get("source"),  # files of earlier versions do not have these three
            checksum=values.get("checksum"),
            edge_channels=check_int(0, 10**6, "edge_channels", values.get("edge_channels", 0)),
            training=values["training"],
            versions=values["versions"],
        )

"""Checkpoints of graph networks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

import torch
from torch import Tensor

from supa.checks import check_int, format_value
from supa_gff.data import GraphSet, Level
from supa_gff.method import Method
from supa_gff.networks.network import Network
from supa_gff.splits.standard import Split
from supa_gff.training.tasks import GraphTask
from supa_learning import checkpoint
from supa_learning.trainer import Trainer


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(checkpoint.Checkpoint):
    """A training of a network between two steps, or at its end.

    Args:
        method: how the network is built, scored and trained.
        level: what is predicted.
        in_channels: number of features of a node.
        out_channels: number of classes; 1 for values and for pairs.
        deg: (largest degree + 1,) int64 histogram of the nodes' in-degrees.
        benchmark: name of the graph benchmark; None for custom graphs.
        split: the training, validation and test indices of the benchmark.
        training: what ``Trainer.state_dict`` returned.
        versions: versions of the packages that wrote the checkpoint.
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

    @classmethod
    def of(cls, trainer: Trainer[GraphTask], *, benchmark: str | None = None, split: Split | None = None) -> Self:
        """Take a checkpoint of a training.

        Args:
            trainer: the training, between two steps or at its end.
            benchmark: name of the graph benchmark.
            split: the training, validation and test indices of the benchmark.

        Returns:
            The checkpoint; further training does not change it.
        """
        task = trainer.task
        network, graphs = task.network, task.data.graphs
        if isinstance(graphs, GraphSet):
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
            training=trainer.state_dict(),
            versions=checkpoint.package_versions("torch-geometric"),
        )

    def model(self) -> Network:
        """Build the network, with its weights.

        Returns:
            The network, on the CPU and in evaluation mode.
        """
        network = Network(self.method, self.in_channels, self.out_channels, self.level, self.deg)
        network.load_state_dict(self.training["model"])
        return network.eval()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file atomically; see `supa_learning.Checkpoint`.

        Args:
            path: the file.

        Raises:
            OSError: the file cannot be written.
            ValueError: the convolution of the method is a function, or another process is writing the file.
        """
        if not isinstance(self.method.conv, str):
            raise ValueError(
                "The convolution is a function, which a checkpoint cannot store; save network.state_dict() instead, "
                "and build the network with the same function."
            )
        super().save(path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values and tensors; see `supa_learning.Checkpoint`."""
        return {
            "method": self.method.to_dict(),
            "level": self.level,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "deg": self.deg,
            "benchmark": self.benchmark,
            "split": None if self.split is None else dict(vars(self.split)),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore what `to_dict` returned; see `supa_learning.Checkpoint`."""
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
            training=values["training"],
            versions=values["versions"],
        )

"""A training in one file: its network, where it stands, and the data that it saw."""

import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from supa.checks import check_int, format_value
from supa_datasets.torch_io import UNREADABLE, read_checked, write_atomic
from supa_gff.graphs import Graphs, Level
from supa_gff.method import Method
from supa_gff.network import Network, network_of
from supa_gff.splits import Split
from supa_gff.training import Trainer

FORMAT = "supa-gff-checkpoint"
VERSION = 1


def _versions() -> Mapping[str, str]:
    return {name: importlib.metadata.version(name) for name in ("supa-showers", "torch", "torch-geometric")}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training between two epochs, or at its end.

    Args:
        method: how the network is built, scored and trained.
        level: what is predicted.
        in_features: features of a node.
        outputs: number of classes; 1 for values and for pairs.
        degrees: (largest degree + 1,) int64 histogram of the nodes' degrees.
        training: from ``Trainer.state_dict``.
        benchmark: name of the set that it trains on; None: graphs of the user's own.
        split: the members that train, validate and test.
        versions: of the packages that made it.
    """

    method: Method
    level: Level
    in_features: int
    outputs: int
    degrees: Tensor
    training: Mapping[str, Any]
    benchmark: str | None = None
    split: Split | None = None
    versions: Mapping[str, str] = field(default_factory=_versions)

    @classmethod
    def of(cls, trainer: Trainer, *, benchmark: str | None = None, split: Split | None = None) -> "Checkpoint":
        """Take where a training stands.

        Args:
            trainer: the training, between two epochs or at its end.
            benchmark: name of its set.
            split: the members that train, validate and test.

        Returns:
            The checkpoint; further training does not change it.
        """
        network, graphs = trainer.network, trainer.graphs
        if not isinstance(graphs, Graphs):
            edges, nodes = graphs.train.edge_index, graphs.train.num_nodes
            degrees = torch.bincount(torch.bincount(edges[1], minlength=nodes))
        else:
            degrees = graphs.degrees
        return cls(
            method=network.method,
            level=network.level,
            in_features=network.in_features,
            outputs=network.outputs,
            degrees=degrees.cpu(),
            training=trainer.state_dict(),
            benchmark=benchmark,
            split=split,
        )

    @property
    def finished(self) -> bool:
        """Whether training was over."""
        return bool(self.training["state"]["finished"])

    def network(self) -> Network:
        """Make the network, with its weights.

        Returns:
            The network, on the CPU, to predict with or for a ``Trainer`` that takes ``training`` up.
        """
        network = network_of(self.method, self.in_features, self.outputs, self.level, self.degrees)
        network.load_state_dict(self.training["network"])
        return network.eval()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all; one of this name is replaced.

        Args:
            path: the file.

        Raises:
            OSError: it cannot be written.
            ValueError: the method has a function for its convolution, which no file holds, or another process is
                writing the file.
        """
        if not isinstance(self.method.conv, str):
            raise ValueError(
                "The convolution is a function, which a checkpoint cannot hold; keep network.state_dict() instead, and "
                "make the network with the same function."
            )
        write_atomic(path, self._plain())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Checkpoint":
        """Read a file.

        Args:
            path: the file.

        Returns:
            The checkpoint, its tensors on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no checkpoint, damaged, or of a newer version.
        """
        values = read_checked(path, format_name=FORMAT, version=VERSION, written_by="supa gff train")
        try:
            made = cls._made(values)
            made.network()
        except UNREADABLE as error:
            raise ValueError(f"{path}: the checkpoint is damaged ({format_value(str(error))}).") from None
        return made

    def _plain(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "method": self.method.to_dict(),
            "level": self.level,
            "in_features": self.in_features,
            "outputs": self.outputs,
            "degrees": self.degrees,
            "training": self.training,
            "benchmark": self.benchmark,
            "split": None if self.split is None else dict(vars(self.split)),
            "versions": dict(self.versions),
        }

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> "Checkpoint":
        if values["level"] not in ("graph", "node", "link"):
            raise ValueError(f"level: {format_value(values['level'])}")
        return cls(
            method=Method.from_dict(values["method"]),
            level=values["level"],
            in_features=check_int(1, 10**9, "in_features", values["in_features"]),
            outputs=check_int(1, 10**6, "outputs", values["outputs"]),
            degrees=values["degrees"],
            training=values["training"],
            benchmark=values["benchmark"],
            split=None if values["split"] is None else Split(**values["split"]),
            versions=values["versions"],
        )

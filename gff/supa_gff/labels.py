"""How a hypothesis about the labels gets into a network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supa.checks import check_int
from supa_gff.topology import Topology


@dataclass(frozen=True)
class NodeFeatures:
    """The label as one-hot beside the features of each node; unknown labels are uniform (arXiv 2403.11004, eq. 4)."""


@dataclass(frozen=True)
class Embedding:
    """A learned vector for each class beside the features of each node.

    Args:
        width: its length.
    """

    width: int = 16

    def __post_init__(self) -> None:
        check_int(1, 10**6, "width", self.width)


@dataclass(frozen=True)
class EveryLayer:
    """The label through a projection of its own added to what each convolution gives (arXiv 2604.13081)."""


@dataclass(frozen=True)
class Gate:
    """Each class scales and shifts what each convolution gives: z (1 + gamma_c) + beta_c, before the activation."""


@dataclass(frozen=True)
class VirtualNodes:
    """Nodes with a fixed random vector for each class, joined to the nodes that bear it (arXiv 2403.11004, eq. 5).

    At node level there is one for each class; at graph level each graph has one, of the class that it is held for.

    Args:
        positive_features: later layers take the node features of the true stream in every stream, as published, so that
            the streams differ by their edges alone.
    """

    positive_features: bool = True


Injection = NodeFeatures | Embedding | EveryLayer | Gate | VirtualNodes


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Write labels as one-hot; unknown ones are uniform.

    Args:
        labels: (...) int64, -1 = unknown.
        classes: number of classes.

    Returns:
        (..., classes) float32.
    """
    known = torch.nn.functional.one_hot(labels.clamp(min=0), classes).float()
    return torch.where((labels >= 0)[..., None], known, 1 / classes)


class LabelledInput(nn.Module):
    """Writes labels beside the features of the nodes.

    Args:
        injection: `NodeFeatures` or `Embedding`.
        classes: number of classes.
    """

    def __init__(self, injection: NodeFeatures | Embedding, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.embedding = nn.Linear(classes, injection.width, bias=False) if isinstance(injection, Embedding) else None
        self.width = injection.width if isinstance(injection, Embedding) else classes

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Write the labels.

        Args:
            x: (1, nodes, features) float32.
            labels: (streams, nodes) int64, -1 = unknown.

        Returns:
            (streams, nodes, features + width) float32.
        """
        written = one_hot(labels, self.classes)
        if self.embedding is not None:
            written = self.embedding(written)
        return torch.cat([x.expand(len(labels), -1, -1), written], 2)


class LabelledOutput(nn.Module):
    """Changes what a convolution gives, by the label.

    Args:
        injection: `EveryLayer` or `Gate`.
        classes: number of classes.
        width: features that the convolution gives.
    """

    def __init__(self, injection: EveryLayer | Gate, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.shift = nn.Linear(classes, width, bias=False)
        self.scale = nn.Linear(classes, width, bias=False) if isinstance(injection, Gate) else None
        for part in self.children():
            # Classes must differ from the start, or the scores of all are the same.
            nn.init.normal_(part.weight, std=0.5)  # type: ignore[arg-type]  # each child is a Linear

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Change it.

        Args:
            z: (streams or 1, nodes, width) float32.
            labels: (streams, nodes) int64, -1 = unknown.

        Returns:
            (streams, nodes, width) float32.
        """
        written = one_hot(labels, self.classes)
        if self.scale is not None:
            z = z * (1 + self.scale(written))
        changed: Tensor = z + self.shift(written)
        return changed


def joined_to_class_nodes(
    x: Tensor, topology: Topology, labels: Tensor, class_nodes: Tensor, level: str
) -> tuple[Tensor, Topology]:
    """Add the virtual nodes of classes.

    Args:
        x: (1, nodes, features) float32.
        topology: of the nodes.
        labels: (streams, nodes) int64, -1 = joined to none.
        class_nodes: (classes, features) float32, the vectors of the classes.
        level: ``"node"``: one virtual node for each class; ``"graph"``: one for each graph.

    Returns:
        (streams, nodes + virtual nodes, features) float32, and their topology.
    """
    streams, nodes = labels.shape
    if level == "graph":
        held_for = labels.new_zeros(streams, topology.num_graphs)
        held_for[:, topology.graph] = labels
        virtual, count = class_nodes[held_for], topology.num_graphs
        goal = topology.graph[None].expand(streams, -1)
        graph = torch.cat([topology.graph, torch.arange(count, device=x.device)])
    else:
        if topology.num_graphs > 1:
            raise ValueError("Class nodes at node level are for one graph; they would join the graphs of a batch.")
        virtual, count = class_nodes[None].expand(streams, -1, -1), len(class_nodes)
        goal = labels
        graph = torch.cat([topology.graph, topology.graph.new_zeros(count)])
    size = nodes + count
    stream, node = (labels >= 0).nonzero(as_tuple=True)
    start = stream * size
    ends = torch.stack([start + node, start + nodes + goal[stream, node]])
    shift = torch.arange(streams, device=x.device) * size
    plain = (topology.edge_index[:, None, :] + shift[None, :, None]).reshape(2, -1)
    joined = Topology(
        edge_index=torch.cat([plain, ends, ends.flip(0)], 1),
        graph=graph,
        num_graphs=topology.num_graphs,
        num_real=nodes,
        streams=streams,
    )
    return torch.cat([x.expand(streams, -1, -1), virtual], 1), joined

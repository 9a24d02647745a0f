"""Label injection: how a hypothesis about the labels enters a network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supa.checks import check_int
from supa_gff.topology import Topology


@dataclass(frozen=True)
class NodeFeatures:
    """The label as one-hot, appended to the features of each node; unknown: uniform (arXiv 2403.11004, eq. 4)."""


@dataclass(frozen=True)
class Embedding:
    """A learned vector for each class, appended to the features of each node.

    Args:
        embedding_dim: length of the vectors.
    """

    embedding_dim: int = 16

    def __post_init__(self) -> None:
        check_int(1, 10**6, "embedding_dim", self.embedding_dim)


@dataclass(frozen=True)
class EveryLayer:
    """A learned projection of the label, added to the output of each convolution (arXiv 2604.13081)."""


@dataclass(frozen=True)
class Gate:
    """Each class scales and shifts the output z of a convolution, before the activation: z (1 + gamma_c) + beta_c."""


@dataclass(frozen=True)
class VirtualNodes:
    """Virtual nodes with a fixed random vector for each class, joined to its nodes (arXiv 2403.11004, eq. 5).

    At node level there is one for each class; at graph level each graph has one, of its hypothetical class.

    Args:
        positive_features: whether later layers see the activations of the positive hypothesis under every hypothesis,
            as published, so that hypotheses differ by their edges alone.
    """

    positive_features: bool = True


Injection = NodeFeatures | Embedding | EveryLayer | Gate | VirtualNodes


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Encode labels as one-hot; unknown ones are uniform.

    Args:
        labels: (...) int64, -1 = unknown.
        classes: number of classes.

    Returns:
        (..., classes) float32.
    """
    known = torch.nn.functional.one_hot(labels.clamp(min=0), classes).float()
    return torch.where((labels >= 0)[..., None], known, 1 / classes)


class LabelledInput(nn.Module):
    """Appends labels to the features of the nodes.

    Args:
        injection: `NodeFeatures` or `Embedding`.
        classes: number of classes.
    """

    def __init__(self, injection: NodeFeatures | Embedding, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.embedding = (
            nn.Linear(classes, injection.embedding_dim, bias=False) if isinstance(injection, Embedding) else None
        )
        self.channels = injection.embedding_dim if isinstance(injection, Embedding) else classes

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Append the labels.

        Args:
            x: (1, nodes, channels) float32.
            labels: (hypotheses, nodes) int64, -1 = unknown.

        Returns:
            (hypotheses, nodes, channels + label channels) float32.
        """
        written = one_hot(labels, self.classes)
        if self.embedding is not None:
            written = self.embedding(written)
        return torch.cat([x.expand(len(labels), -1, -1), written], 2)


class LabelledOutput(nn.Module):
    """Changes the output of a convolution by the label.

    Args:
        injection: `EveryLayer` or `Gate`.
        classes: number of classes.
        channels: output channels of the convolution.
    """

    def __init__(self, injection: EveryLayer | Gate, classes: int, channels: int) -> None:
        super().__init__()
        self.classes = classes
        self.shift = nn.Linear(classes, channels, bias=False)
        self.scale = nn.Linear(classes, channels, bias=False) if isinstance(injection, Gate) else None
        for part in self.children():
            # Classes must differ from the start, or their scores would all be the same.
            nn.init.normal_(part.weight, std=0.5)  # type: ignore[arg-type]  # each child is a Linear

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Change the output.

        Args:
            z: (hypotheses or 1, nodes, channels) float32.
            labels: (hypotheses, nodes) int64, -1 = unknown.

        Returns:
            (hypotheses, nodes, channels) float32.
        """
        written = one_hot(labels, self.classes)
        if self.scale is not None:
            z = z * (1 + self.scale(written))
        changed: Tensor = z + self.shift(written)
        return changed


def join_class_nodes(
    x: Tensor, topology: Topology, labels: Tensor, class_nodes: Tensor, level: str
) -> tuple[Tensor, Topology]:
    """Add the virtual nodes of classes to a batch.

    Args:
        x: (1, nodes, channels) float32.
        topology: edges and graphs of the nodes.
        labels: (hypotheses, nodes) int64, -1 = not joined.
        class_nodes: (classes, channels) float32, the vectors of the classes.
        level: ``"node"``: one virtual node for each class; ``"graph"``: one for each graph.

    Returns:
        (hypotheses, nodes + virtual nodes, channels) float32, and their topology.
    """
    hypotheses, nodes = labels.shape
    if level == "graph":
        classes = labels.new_zeros(hypotheses, topology.num_graphs)
        classes[:, topology.graph] = labels
        virtual, count = class_nodes[classes], topology.num_graphs
        goal = topology.graph[None].expand(hypotheses, -1)
        graph = torch.cat([topology.graph, torch.arange(count, device=x.device)])
    else:
        if topology.num_graphs > 1:
            raise ValueError("Class nodes at node level are for one graph; they would join the graphs of a batch.")
        virtual, count = class_nodes[None].expand(hypotheses, -1, -1), len(class_nodes)
        goal = labels
        graph = torch.cat([topology.graph, topology.graph.new_zeros(count)])
    size = nodes + count
    hypothesis, node = (labels >= 0).nonzero(as_tuple=True)
    start = hypothesis * size
    ends = torch.stack([start + node, start + nodes + goal[hypothesis, node]])
    shift = torch.arange(hypotheses, device=x.device) * size
    plain = (topology.edge_index[:, None, :] + shift[None, :, None]).reshape(2, -1)
    joined = Topology(
        edge_index=torch.cat([plain, ends, ends.flip(0)], 1),
        graph=graph,
        num_graphs=topology.num_graphs,
        num_real=nodes,
        hypotheses=hypotheses,
    )
    return torch.cat([x.expand(hypotheses, -1, -1), virtual], 1), joined

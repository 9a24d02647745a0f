"""Label injection: how candidate labels enter a label-conditioned network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supa.checks import check_int
from supa_gff.topology import Topology


@dataclass(frozen=True)
class NodeFeatures:
    """Append the one-hot label to the features of each node.

    An unknown label is encoded as the uniform distribution over the classes.

    Example:
        >>> from supa_gff import Network, label_injection, preset
        >>> method = preset("gff").replace(label=label_injection.NodeFeatures())
        >>> Network(method, in_channels=3, out_channels=2).layer(0).conv  # 3 features, 2 label channels
        GCNConv(5, 64)

    Source:
        ForwardGNN (arXiv 2403.11004), eq. 4.
    """


@dataclass(frozen=True)
class Embedding:
    """Append a learned embedding of the label to the features of each node.

    Args:
        embedding_dim: Length of the embedding vectors.

    Example:
        >>> from supa_gff import Network, label_injection, preset
        >>> method = preset("gff").replace(label=label_injection.Embedding(8))
        >>> Network(method, in_channels=3, out_channels=2).layer(0).conv  # 3 features, 8 label channels
        GCNConv(11, 64)
    """

    embedding_dim: int = 16

    def __post_init__(self) -> None:
        check_int(1, 10**6, "embedding_dim", self.embedding_dim)


@dataclass(frozen=True)
class EveryLayer:
    """Add a learned projection of the label to the output of each convolution (arXiv 2604.13081).

    Example:
        >>> from supa_gff import Network, label_injection, preset
        >>> method = preset("gff").replace(label=label_injection.EveryLayer())
        >>> Network(method, in_channels=3, out_channels=2).layer(0).conv  # the label is not among its inputs
        GCNConv(3, 64)
    """


@dataclass(frozen=True)
class Gate:
    """Scale and shift the output z of each convolution by learned vectors of the class: z (1 + gamma_c) + beta_c.

    Example:
        >>> from supa_gff import Network, label_injection, preset
        >>> method = preset("gff").replace(label=label_injection.Gate())
        >>> Network(method, in_channels=3, out_channels=2).layer(0).conv  # the label is not among its inputs
        GCNConv(3, 64)
    """


@dataclass(frozen=True)
class VirtualNodes:
    """Connect virtual nodes, which have a fixed random vector for each class, to the nodes with that label.

    At node level there is one virtual node for each class. At graph level each graph has one virtual node, which
    represents its candidate class.

    Args:
        positive_features: Whether, in training, the activations of the positive hypothesis are the input of the next
            layer under every hypothesis, as published. Hypotheses then differ in their edges only.

    Example:
        >>> from supa_gff import Network, label_injection, preset
        >>> method = preset("gff", "node").replace(label=label_injection.VirtualNodes(positive_features=False))
        >>> Network(method, in_channels=3, out_channels=2, level="node").class_nodes.shape  # one vector for each class
        torch.Size([2, 3])

    Source:
        ForwardGNN (arXiv 2403.11004), eq. 5.
    """

    positive_features: bool = True


Injection = NodeFeatures | Embedding | EveryLayer | Gate | VirtualNodes


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Encode labels as one-hot vectors, and unknown labels as the uniform distribution.

    Args:
        labels: (...) int64 labels, -1 for unknown ones.
        classes: Number of classes.

    Returns:
        (..., classes) float32 rows that sum to one.
    """
    known = torch.nn.functional.one_hot(labels.clamp(min=0), classes).float()
    return torch.where((labels >= 0)[..., None], known, 1 / classes)


class LabelledInput(nn.Module):
    """Append labels to the features of the nodes.

    Args:
        injection: `NodeFeatures` or `Embedding`.
        classes: Number of classes.
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
            x: (1, nodes, channels) float32 features.
            labels: (hypotheses, nodes) int64 labels, -1 for unknown ones.

        Returns:
            (hypotheses, nodes, channels + label channels) float32.
        """
        written = one_hot(labels, self.classes)
        if self.embedding is not None:
            written = self.embedding(written)
        return torch.cat([x.expand(len(labels), -1, -1), written], 2)


class LabelledOutput(nn.Module):
    """Shift, or scale and shift, the output of a convolution by the label.

    Args:
        injection: `EveryLayer` or `Gate`.
        classes: Number of classes.
        channels: Number of output channels of the convolution.
    """

    def __init__(self, injection: EveryLayer | Gate, classes: int, channels: int) -> None:
        super().__init__()
        self.classes = classes
        self.shift = nn.Linear(classes, channels, bias=False)
        self.scale = nn.Linear(classes, channels, bias=False) if isinstance(injection, Gate) else None
        for part in self.children():
            # With equal initial weights, all classes would have the same score.
            nn.init.normal_(part.weight, std=0.5)  # type: ignore[arg-type]  # each child is a Linear

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Apply the label to the output of the convolution.

        Args:
            z: (hypotheses or 1, nodes, channels) float32 output of the convolution.
            labels: (hypotheses, nodes) int64 labels, -1 for unknown ones.

        Returns:
            (hypotheses, nodes, channels) float32.
        """
        written = one_hot(labels, self.classes).to(z.dtype)
        if self.scale is not None:
            z = z * (1 + self.scale(written))
        changed: Tensor = z + self.shift(written)
        return changed


def join_class_nodes(
    x: Tensor, topology: Topology, labels: Tensor, class_nodes: Tensor, level: str
) -> tuple[Tensor, Topology]:
    """Add the virtual nodes of the classes to a batch, and connect them to the nodes with these labels.

    Args:
        x: (1, nodes, channels) float32 features.
        topology: Edges and graphs of the nodes.
        labels: (hypotheses, nodes) int64 labels, -1 for nodes without a virtual node.
        class_nodes: (classes, channels) float32 features of the virtual nodes.
        level: ``"node"``: one virtual node for each class; ``"graph"``: one for each graph.

    Returns:
        (hypotheses, nodes + virtual nodes, channels) float32 features, and the topology with the virtual nodes.

    Raises:
        ValueError: If the batch has several graphs at node level.
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
            raise ValueError(
                "Class nodes at node level require a batch of one graph, since they would connect several graphs."
            )
        virtual, count = class_nodes[None].expand(hypotheses, -1, -1), len(class_nodes)
        goal = labels
        graph = torch.cat([topology.graph, topology.graph.new_zeros(count)])
    size = nodes + count
    hypothesis, node = (labels >= 0).nonzero(as_tuple=True)
    start = hypothesis * size
    ends = torch.stack([start + node, start + nodes + goal[hypothesis, node]])
    shift = torch.arange(hypotheses, device=x.device) * size
    plain = (topology.edge_index[:, None, :] + shift[None, :, None]).reshape(2, -1)
    edge_attr = topology.edge_attr
    if edge_attr is not None:  # the edges of virtual nodes have features of zero
        virtual_edges = edge_attr.new_zeros(2 * ends.shape[1], edge_attr.shape[1])
        edge_attr = torch.cat([edge_attr.repeat(hypotheses, 1), virtual_edges])
    joined = Topology(
        edge_index=torch.cat([plain, ends, ends.flip(0)], 1),
        graph=graph,
        num_graphs=topology.num_graphs,
        num_real=nodes,
        hypotheses=hypotheses,
        edge_attr=edge_attr,
    )
    return torch.cat([x.expand(hypotheses, -1, -1), virtual], 1), joined

"""One layer of a network: normalisation, convolution, activation function, and score."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_gff.batch import Batch, Level
from supa_gff.convolutions import aggregate, aggregates, convolve, make_convolution, transform
from supa_gff.heads import make_scorer
from supa_gff.label_injection import Embedding as LabelEmbedding
from supa_gff.label_injection import EveryLayer, Gate, LabelledInput, LabelledOutput, NodeFeatures
from supa_gff.method import Method
from supa_gff.topology import Topology

_INNER_NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class Layer(nn.Module):
    """Layer of a network with its own scorer.

    Args:
        method: How the network is built, scored and trained.
        index: Index of the layer, from 0.
        in_channels: Number of input channels, without injected labels.
        out_channels: Number of classes; 1 for regression and for links.
        level: What is predicted.
        deg: (largest degree + 1,) int64 histogram of the in-degrees. Required by PNA only.
        edge_channels: Number of features per edge that the convolutions use.
    """

    def __init__(
        self,
        method: Method,
        index: int,
        in_channels: int,
        out_channels: int,
        level: Level,
        deg: Tensor | None = None,
        edge_channels: int = 0,
    ) -> None:
        super().__init__()
        channels = method.hidden_channels
        norm = _INNER_NORMS.get(method.normalisation)
        label = method.label
        # A residual connection adds the input without the injected label.
        self.residual = method.residual and in_channels == channels
        self.labelled_input = None
        if index == 0 and isinstance(label, NodeFeatures | LabelEmbedding):
            self.labelled_input = LabelledInput(label, out_channels)
            in_channels += self.labelled_input.channels
        self.labelled_output = None
        if isinstance(label, EveryLayer | Gate):
            self.labelled_output = LabelledOutput(label, out_channels, channels)
        self.conv = make_convolution(
            method.conv, in_channels, channels, norm=norm, deg=deg, edge_channels=edge_channels
        )
        self.norm = _output_norm(method.normalisation, channels)
        self.dropout, self.edge_dropout = method.dropout, method.edge_dropout
        self.scorer = make_scorer(
            method.score, channels, out_channels, level=level, conv=method.conv, norm=norm, deg=deg,
            edge_channels=edge_channels,
        )  # fmt: skip
        self.length = method.normalisation == "length"
        if not method.train_convolution:
            self.requires_grad_(False)
            self.scorer.requires_grad_(True)

    @property
    def prepares(self) -> bool:
        """Whether the result of `prepare` can be cached, because nothing in it is trained or random."""
        learned = self.labelled_input is not None and self.labelled_input.embedding is not None
        return aggregates(self.conv) and not self.residual and not learned and not self.is_random

    @property
    def is_random(self) -> bool:
        """Whether the activations depend on random numbers in training."""
        return self.dropout > 0 or self.edge_dropout > 0

    @property
    def by_node(self) -> bool:
        """Whether the activations and scores of a node depend only on its own row of the result of `prepare`."""
        across_nodes = [part for part in self.conv.modules() if isinstance(part, nn.BatchNorm1d)]
        per_node = self.norm is None or isinstance(self.norm, nn.LayerNorm)
        return self.prepares and per_node and not across_nodes and getattr(self.scorer, "conv", None) is None

    def prepare(self, x: Tensor, topology: Topology, labels: Tensor | None) -> Tensor:
        """Compute the part of the layer that precedes its trained weights.

        Args:
            x: (hypotheses or 1, nodes, channels) float32 input.
            topology: Edges and graphs of the nodes.
            labels: (hypotheses, nodes) int64 labels, -1 for unknown ones. None without label injection.

        Returns:
            (hypotheses or 1, nodes, channels) float32 input of `activate`.
        """
        if self.labelled_input is not None and labels is not None:
            x = self.labelled_input(x, labels)
        x = self._dropped(self.scaled(x))
        if not self.prepares:
            # The convolution is not split here, since it may reduce the number of channels before it aggregates.
            return x
        edges = topology.edges(len(x))
        return aggregate(self.conv, x.flatten(0, 1), edges).view(*x.shape[:2], -1)

    def scaled(self, x: Tensor) -> Tensor:
        """Divide the input of each node by its length, if the method normalises it.

        Args:
            x: (..., nodes, channels) float32 input, with injected labels.

        Returns:
            Input of the same shape.
        """
        # Only the direction is used. Otherwise a layer could reuse the goodness of the layer below.
        return x / (x.norm(dim=-1, keepdim=True) + 1e-8) if self.length else x

    def activate(self, prepared: Tensor, x: Tensor, topology: Topology, labels: Tensor | None) -> Tensor:
        """Compute the trained part of the layer.

        Args:
            prepared: Result of `prepare`.
            x: Input of `prepare`. Used by residual connections only.
            topology: Edges and graphs of the nodes.
            labels: Labels; see `prepare`.

        Returns:
            (hypotheses, nodes, hidden_channels) float32 activations.
        """
        flat = prepared.flatten(0, 1)
        z = transform(self.conv, flat) if self.prepares else convolve(self.conv, flat, topology, len(prepared))
        z = z.view(*prepared.shape[:2], -1)
        if self.labelled_output is not None and labels is not None:
            z = self.labelled_output(self._normalised(z, topology), labels)
        else:
            z = self._normalised(z, topology)
        h: Tensor = z.relu()
        return h + x if self.residual else h

    def forward(
        self, x: Tensor, topology: Topology, labels: Tensor | None = None, prepared: Tensor | None = None
    ) -> Tensor:
        """Compute the activations of the layer.

        Args:
            x: (hypotheses or 1, nodes, channels) float32 input.
            topology: Edges and graphs of the nodes.
            labels: (hypotheses, nodes) int64 labels, -1 for unknown ones. None without label injection.
            prepared: Result of `prepare`. None: it is computed.

        Returns:
            (hypotheses, nodes, hidden_channels) float32 activations.
        """
        if self.training and self.edge_dropout > 0:
            topology = topology.thinned(self.edge_dropout)
        if prepared is None:
            prepared = self.prepare(x, topology, labels)
        return self.activate(prepared, x, topology, labels)

    def score(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Compute the scores of a batch from the activations of this layer; see `Scorer`."""
        scores: Tensor = self.scorer(h, topology, batch)
        return scores

    def _dropped(self, x: Tensor) -> Tensor:
        if self.dropout == 0 or not self.training:
            return x
        if x.is_cuda or x.requires_grad:
            return functional.dropout(x, self.dropout)
        # Random numbers are slow on a CPU, and bags of words are mostly zeros, so dropout is drawn for nonzero entries
        # only.
        places = x.nonzero(as_tuple=True)
        dropped = torch.zeros_like(x)
        dropped[places] = functional.dropout(x[places], self.dropout)
        return dropped

    def _normalised(self, z: Tensor, topology: Topology) -> Tensor:
        if self.norm is None:
            return z
        flat = z.flatten(0, 1)
        norm: Any = self.norm
        if isinstance(norm, nn.BatchNorm1d | nn.LayerNorm):
            flat = norm(flat)
        else:
            flat = norm(flat, topology.graphs(len(z)), len(z) * topology.num_graphs)
        normalised: Tensor = flat.view(z.shape)
        return normalised


def _output_norm(normalisation: str, channels: int) -> nn.Module | None:
    if normalisation == "batch":
        return nn.BatchNorm1d(channels)
    if normalisation == "layer":
        return nn.LayerNorm(channels)
    if normalisation == "graph":
        from torch_geometric.nn import GraphNorm

        graph_norm = GraphNorm(channels)
        assert isinstance(graph_norm, nn.Module)
        return graph_norm
    return None

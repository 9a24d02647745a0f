"""One layer: normalisation, message passing, activation, and the score that it is trained on."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_gff.convolutions import aggregate, aggregates, make_convolution, transform
from supa_gff.data import Batch, Level
from supa_gff.heads import make_scorer
from supa_gff.label_injection import Embedding as LabelEmbedding
from supa_gff.label_injection import EveryLayer, Gate, LabelledInput, LabelledOutput, NodeFeatures
from supa_gff.method import Method
from supa_gff.topology import Topology

_INNER_NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class Layer(nn.Module):
    """A layer of a network, with a scorer of its own.

    Args:
        method: how it is built and trained.
        index: its number from 0.
        in_features: features of a node that come in.
        outputs: classes; 1 for values.
        level: what is predicted.
        degrees: histogram of the nodes' degrees, which some convolutions need.
    """

    def __init__(
        self,
        method: Method,
        index: int,
        in_features: int,
        outputs: int,
        level: Level,
        degrees: Tensor | None = None,
    ) -> None:
        super().__init__()
        width = method.width
        norm = _INNER_NORMS.get(method.normalisation)
        label = method.label
        # What is added to the activations is what comes in, without the label beside it.
        self.residual = method.residual and in_features == width
        self.labelled_input = None
        if index == 0 and isinstance(label, NodeFeatures | LabelEmbedding):
            self.labelled_input = LabelledInput(label, outputs)
            in_features += self.labelled_input.width
        self.labelled_output = None
        if isinstance(label, EveryLayer | Gate):
            self.labelled_output = LabelledOutput(label, outputs, width)
        self.conv = make_convolution(method.conv, in_features, width, norm=norm, degrees=degrees)
        self.norm = _output_norm(method.normalisation, width)
        self.dropout = method.dropout
        self.scorer = make_scorer(
            method.score, width, outputs, level=level, conv=method.conv, norm=norm, degrees=degrees
        )
        self.length = method.normalisation == "length"
        if not method.train_convolution:
            self.requires_grad_(False)
            self.scorer.requires_grad_(True)

    @property
    def prepares(self) -> bool:
        """Whether `prepare` has no trained part, so that its result can be made once and kept."""
        learned = self.labelled_input is not None and self.labelled_input.embedding is not None
        return aggregates(self.conv) and not self.residual and not learned and self.dropout == 0

    @property
    def by_node(self) -> bool:
        """Whether, after `prepare`, a node's activations and scores depend on what is prepared of that node alone."""
        among_nodes = [part for part in self.conv.modules() if isinstance(part, nn.BatchNorm1d)]
        by_itself = self.norm is None or isinstance(self.norm, nn.LayerNorm)
        return self.prepares and by_itself and not among_nodes and getattr(self.scorer, "conv", None) is None

    def prepare(self, x: Tensor, topology: Topology, labels: Tensor | None) -> Tensor:
        """Do what comes before the trained part of the layer.

        Args:
            x: (streams or 1, nodes, features) float32.
            topology: of the nodes.
            labels: (streams, nodes) int64, -1 = unknown; None without label injection.

        Returns:
            (streams or 1, nodes, features) float32, for `activate`.
        """
        if self.labelled_input is not None and labels is not None:
            x = self.labelled_input(x, labels)
        if self.length:
            # Only the direction goes on, so that a layer cannot live off the goodness of the one below.
            x = x / (x.norm(dim=2, keepdim=True) + 1e-8)
        x = self._dropped(x)
        if not self.prepares:
            # A convolution that transforms first and aggregates fewer features then is faster.
            return x
        edges = topology.edges(len(x))
        return aggregate(self.conv, x.flatten(0, 1), edges).view(*x.shape[:2], -1)

    def activate(self, prepared: Tensor, x: Tensor, topology: Topology, labels: Tensor | None) -> Tensor:
        """Do the trained part of the layer.

        Args:
            prepared: from `prepare`.
            x: what `prepare` was given; read only with residuals.
            topology: of the nodes.
            labels: see `prepare`.

        Returns:
            (streams, nodes, width) float32 activations.
        """
        flat = prepared.flatten(0, 1)
        z = transform(self.conv, flat) if self.prepares else self.conv(flat, topology.edges(len(prepared)))
        z = z.view(*prepared.shape[:2], -1)
        if self.labelled_output is not None and labels is not None:
            z = self.labelled_output(self._normalised(z, topology), labels)
        else:
            z = self._normalised(z, topology)
        h: Tensor = z.relu()
        return h + x if self.residual else h

    def forward(self, x: Tensor, topology: Topology, labels: Tensor | None = None) -> Tensor:
        """Give the activations of the layer.

        Args:
            x: (streams or 1, nodes, features) float32.
            topology: of the nodes.
            labels: (streams, nodes) int64, -1 = unknown; None without label injection.

        Returns:
            (streams, nodes, width) float32.
        """
        return self.activate(self.prepare(x, topology, labels), x, topology, labels)

    def score(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch by activations of this layer; see `Scorer`."""
        scores: Tensor = self.scorer(h, topology, batch)
        return scores

    def _dropped(self, x: Tensor) -> Tensor:
        if self.dropout == 0 or not self.training:
            return x
        if x.is_cuda or x.requires_grad:
            return functional.dropout(x, self.dropout)
        # A processor draws slowly, and bags of words are nearly all zero: nothing is drawn for zeros.
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


def _output_norm(normalisation: str, width: int) -> nn.Module | None:
    if normalisation == "batch":
        return nn.BatchNorm1d(width)
    if normalisation == "layer":
        return nn.LayerNorm(width)
    if normalisation == "graph":
        from torch_geometric.nn import GraphNorm

        made = GraphNorm(width)
        assert isinstance(made, nn.Module)
        return made
    return None

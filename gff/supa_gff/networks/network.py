"""Graph networks whose layers score what is predicted, each on its own."""

from collections.abc import Iterable, Iterator
from typing import Any, get_args

import torch
from torch import Tensor, nn

from supa.checks import check_int, counted
from supa_gff.checks import one_of
from supa_gff.data import Batch, GraphSet, Level
from supa_gff.heads import PairProduct, Prototypes
from supa_gff.label_injection import VirtualNodes, join_class_nodes
from supa_gff.losses import SquaredError, Threshold
from supa_gff.method import Method
from supa_gff.networks import top_down
from supa_gff.networks.ensemble import Aggregation, aggregate
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.layer import Layer
from supa_gff.topology import Topology


class Network(nn.Module):
    """A graph network whose layers each have a score of their own.

    A network predicts; an update rule (``supa_gff.update_rule``) trains it.

    Args:
        method: how the network is built, scored and trained.
        in_channels: number of features of a node.
        out_channels: number of classes; 1 for values and for links.
        level: what is predicted.
        deg: (largest degree + 1,) int64 histogram of the nodes' in-degrees, as of PyTorch Geometric's ``PNAConv``;
            needed by PNA only.
        seed: seed of the first weights; PyTorch's global random state is neither used nor changed.

    Raises:
        ValueError: the method cannot do the task, or a number is out of its limits.
    """

    layer_mask: Tensor
    """(layers,) bool, the layers whose scores make the prediction."""

    class_nodes: Tensor | None
    """(classes, in_channels) float32 features of the virtual nodes of classes."""

    def __init__(
        self,
        method: Method,
        in_channels: int,
        out_channels: int,
        level: Level = "graph",
        deg: Tensor | None = None,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_int(1, 10**9, "in_channels", in_channels)
        check_int(1, 10**6, "out_channels", out_channels)
        check_int(0, 2**63 - 1, "seed", seed)
        _check_task(method, out_channels, level)
        self.method, self.level, self.in_channels, self.out_channels = method, level, in_channels, out_channels
        make_layer = Layer if method.top_down is None else top_down.make_layer
        widths = [in_channels, *[method.hidden_channels] * (method.layers - 1)]
        # Initialisations draw from PyTorch's global generator and take no other.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.layers = nn.ModuleList(
                make_layer(method, index, width, out_channels, level, deg) for index, width in enumerate(widths)
            )
            virtual = isinstance(method.label, VirtualNodes)
            self.register_buffer("class_nodes", torch.randn(out_channels, in_channels) if virtual else None)
        self.register_buffer("layer_mask", torch.ones(method.layers, dtype=torch.bool))
        if method.layers_used == "last":
            self.set_layer_mask(method.layers - 1, method.layers)

    @classmethod
    def for_graphs(cls, method: Method, graphs: GraphSet, *, seed: int = 0) -> "Network":
        """Make the network that fits a set of graphs.

        Args:
            method: how the network is built, scored and trained.
            graphs: the set.
            seed: seed of the first weights.

        Returns:
            The network, on the device of the set.
        """
        out_channels = 1 if graphs.level == "link" else graphs.num_outputs
        network = cls(method, graphs.num_features, out_channels, graphs.level, graphs.deg.cpu(), seed=seed)
        return network.to(graphs.device)

    def layer(self, index: int) -> Layer:
        """Return a layer.

        Args:
            index: its number from 0.

        Returns:
            The layer.
        """
        module = self.layers[index]
        assert isinstance(module, Layer)
        return module

    def set_layer_mask(self, first: int, end: int) -> None:
        """Choose the layers whose scores make the prediction.

        Args:
            first: number of the first of them.
            end: one past the last.
        """
        self.layer_mask[:] = False
        self.layer_mask[first:end] = True

    def inputs(self, batch: Batch, labels: Tensor | None) -> HypothesisBatch:
        """Return the input of the first layer, class nodes included.

        Args:
            batch: the batch.
            labels: (hypotheses, nodes) int64 labels of the nodes, -1 = unknown; None without label injection.

        Returns:
            The batch under these hypotheses.

        Raises:
            ValueError: the nodes have another number of features, or class nodes have no known labels to be joined by.
        """
        if batch.x.shape[1] != self.in_channels:
            raise ValueError(
                f"The nodes have {counted(batch.x.shape[1], 'feature')}, but the network was made for "
                f"{self.in_channels:,}."
            )
        topology = Topology(batch.edge_index, batch.graph, batch.num_graphs, batch.num_nodes)
        x = batch.x[None]
        if self.class_nodes is None:
            return HypothesisBatch(x, topology, labels)
        if labels is None:
            if batch.known_labels is None:
                raise ValueError(
                    "Class nodes are joined to nodes whose labels are known: the batch needs known_labels."
                )
            labels = batch.known_labels[None]
        x, topology = join_class_nodes(x, topology, labels, self.class_nodes, self.level)
        return HypothesisBatch(x, topology, None)

    def detach_to_next(self, inputs: HypothesisBatch, h: Tensor, *, positive_first: bool = False) -> HypothesisBatch:
        """Return the input of the next layer, without gradient.

        Args:
            inputs: the input of the layer.
            h: (hypotheses, nodes, channels) float32 activations of the layer.
            positive_first: whether the first hypothesis is the positive one, as in training.

        Returns:
            The input of the next layer.
        """
        h = h.detach()
        label = self.method.label
        # At inference there is no positive hypothesis, so each keeps its own features.
        share = positive_first and self.method.label_conditioned
        if share and isinstance(label, VirtualNodes) and label.positive_features:
            h = h[:1].expand(len(h), -1, -1)
        return HypothesisBatch(h, inputs.topology, inputs.labels)

    def node_labels(self, batch: Batch, candidates: Tensor) -> Tensor:
        """Spread candidate labels of the units over the nodes.

        Args:
            batch: the batch.
            candidates: (units, candidates) int64.

        Returns:
            (candidates, nodes) int64, -1 = unknown.
        """
        if self.level == "graph":
            return candidates.t()[:, batch.graph]
        if batch.units is None:
            return candidates.t().contiguous()
        unknown = batch.x.new_full((batch.num_nodes,), -1, dtype=torch.int64)
        labels = (unknown if batch.known_labels is None else batch.known_labels).repeat(candidates.shape[1], 1)
        labels[:, batch.units] = candidates.t()
        return labels

    def layer_scores(self, data: Any) -> Tensor:
        """Score all classes by each layer.

        Args:
            data: a ``Batch``, or PyTorch Geometric's ``Data`` or ``Batch``.

        Returns:
            (layers, units, out_channels) float32.
        """
        batch = Batch.of(data, self.level, targets=False)
        was_training = self.training
        self.eval()
        with torch.no_grad():
            scores = self._layer_scores(batch)
        self.train(was_training)
        return scores

    def scores_of(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """Score all classes by each layer, batch by batch.

        Args:
            batches: the batches.

        Returns:
            (layers, units, out_channels) float32 scores, and the (units,) targets.
        """
        parts = [(self.layer_scores(batch), batch.target) for batch in batches]
        return torch.cat([scores for scores, _ in parts], 1), torch.cat([target for _, target in parts])

    def forward(self, data: Any) -> Tensor:
        """Score all classes by the layers of ``layer_mask`` together.

        Args:
            data: a ``Batch``, or PyTorch Geometric's ``Data`` or ``Batch``.

        Returns:
            (units, out_channels) float32 scores of the classes, or values.
        """
        return self.aggregate(self.layer_scores(data))

    def aggregate(self, scores: Tensor) -> Tensor:
        """Combine the scores of the layers of ``layer_mask``.

        Args:
            scores: (layers, units, out_channels) float32, of all layers or of the first ones; if ``layer_mask`` has
                none of these, the last of them is used.

        Returns:
            (units, out_channels) float32.
        """
        chosen = scores[self.layer_mask[: len(scores)]]
        if len(chosen) == 0:
            chosen = scores[-1:]
        if self.level == "link" and self.aggregation == "probabilities":
            theta = self.method.loss.theta if isinstance(self.method.loss, Threshold) else 0.0
            return (chosen - theta).sigmoid().sum(0)
        return aggregate(chosen, self.aggregation)

    @property
    def aggregation(self) -> Aggregation:
        """How the scores of several layers are combined; values are averaged if each layer learns them alone."""
        each_alone = self.method.schedule != "backprop" and not self.method.collaboration
        if isinstance(self.method.loss, SquaredError) and each_alone:
            return "mean"
        return self.method.aggregate

    def predict(self, data: Any) -> Tensor:
        """Predict classes, values or scores of links.

        Args:
            data: a ``Batch``, or PyTorch Geometric's ``Data`` or ``Batch``; targets are not used. At node level, nodes
                of ``train_mask`` are predicted, and their labels are shown to class nodes: to predict other nodes,
                give ``GraphSet.batch(test, known=train)``.

        Returns:
            (units,) int64 classes; float32 values; for links float32 scores.
        """
        scores: Tensor = self(data)
        return scores[:, 0] if self.out_channels == 1 else scores.argmax(1)

    def _layer_scores(self, batch: Batch) -> Tensor:
        """Score all classes by each layer; see `layer_scores`."""
        if self.method.top_down is not None:
            layers = [self.layer(index) for index in range(self.method.layers)]
            forward_pass = top_down.TopDownPass(self.method, layers, self.out_channels)
            return forward_pass.layer_scores(self.inputs(batch, None), batch)
        if not self.method.label_conditioned:
            return torch.stack(list(self._bottom_up(batch, None)))
        every = torch.arange(self.out_channels, device=batch.x.device).expand(batch.num_units, -1)
        # Sequential hypotheses pass all layers one after another, so that only the activations of one are in memory.
        parts = [every] if self.method.hypotheses == "parallel" else torch.split(every, 1, 1)
        passes = [torch.stack(list(self._bottom_up(batch, self.node_labels(batch, part)))) for part in parts]
        return torch.cat(passes, 2)

    def _bottom_up(self, batch: Batch, labels: Tensor | None) -> Iterator[Tensor]:
        """Yield the (units, hypotheses or out_channels) scores of each layer."""
        inputs = self.inputs(batch, labels)
        for index in range(self.method.layers):
            module = self.layer(index)
            h = module(inputs.x, inputs.topology, inputs.labels)
            yield module.score(h, inputs.topology, batch)
            inputs = self.detach_to_next(inputs, h)


def _check_task(method: Method, out_channels: int, level: Level) -> None:
    one_of(get_args(Level), "level", level)
    regression = isinstance(method.loss, SquaredError)
    if (level == "link") != isinstance(method.score, PairProduct):
        raise ValueError(
            "score=PairProduct() is for level 'link', and the other scores are not: choose the score by the level."
        )
    if level == "link":
        return
    if isinstance(method.score, Prototypes) and level != "node":
        raise ValueError("Prototypes are for node level: class nodes are joined to the nodes whose labels are known.")
    if regression and out_channels != 1:
        raise ValueError(f"SquaredError() predicts one value, but {out_channels:,} outputs were asked for.")
    if not regression and out_channels < 2:
        raise ValueError(
            "There is only one class, so there is nothing to learn; give a set with two or more classes, or "
            "loss=SquaredError() for values."
        )

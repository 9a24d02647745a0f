"""Layers that compute their own scores, and their predictions."""

from collections.abc import Iterable, Iterator
from typing import Any, Self, get_args

import torch
from torch import Tensor, nn

from supa.checks import check_int, counted
from supa_gff.batch import Batch, Level
from supa_gff.checks import check_indices, one_of
from supa_gff.disk.graph import DiskGraph
from supa_gff.graph_set import GraphSet
from supa_gff.heads import PairProduct, Prototypes
from supa_gff.label_injection import VirtualNodes, join_class_nodes
from supa_gff.losses import Threshold
from supa_gff.method import Method
from supa_gff.names import TargetKind
from supa_gff.networks import top_down
from supa_gff.networks.ensemble import Aggregation, aggregate
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.layer import Layer


class ScoreNetwork(nn.Module):
    """Network without its training; see `Network` for the arguments."""

    layer_mask: Tensor
    """(layers,) bool, True for the layers whose scores are combined into the prediction."""

    class_nodes: Tensor | None
    """(classes, in_channels) float32 features of the virtual nodes of classes."""

    target_mean: Tensor | None
    """(targets,) float32 mean that is subtracted from regression targets. None: the targets are not values."""

    target_std: Tensor | None
    """(targets,) float32 standard deviation by which regression targets are divided."""

    class_weights: Tensor | None
    """(classes,) float32 weights of the classes in the loss. None: all weights are 1."""

    def __init__(
        self,
        method: Method,
        in_channels: int,
        out_channels: int,
        level: Level = "graph",
        deg: Tensor | None = None,
        *,
        edge_channels: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_int(1, 10**9, "in_channels", in_channels)
        check_int(1, 10**6, "out_channels", out_channels)
        check_int(0, 10**6, "edge_channels", edge_channels)
        check_int(0, 2**63 - 1, "seed", seed)
        _check_task(method, out_channels, level)
        self.method, self.level, self.in_channels, self.out_channels = method, level, in_channels, out_channels
        self.edge_channels, self.seed = edge_channels, seed
        make_layer = Layer if method.top_down is None else top_down.make_layer
        widths = [in_channels, *[method.hidden_channels] * (method.layers - 1)]
        # The initialisation functions of PyTorch always use the global generator.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.layers = nn.ModuleList(
                make_layer(method, index, width, out_channels, level, deg, edge_channels)
                for index, width in enumerate(widths)
            )
            virtual = isinstance(method.label, VirtualNodes)
            self.register_buffer("class_nodes", torch.randn(out_channels, in_channels) if virtual else None)
        regression = self.target_kind == "regression" and level != "link"
        self.register_buffer("target_mean", torch.zeros(out_channels) if regression else None)
        self.register_buffer("target_std", torch.ones(out_channels) if regression else None)
        weights = None if method.class_weights is None else torch.tensor(method.class_weights)
        self.register_buffer("class_weights", weights, persistent=False)  # the method has them
        self.register_buffer("layer_mask", torch.ones(method.layers, dtype=torch.bool))
        if method.layers_used == "last":
            self.set_layer_mask(method.layers - 1, method.layers)

    @classmethod
    def for_graphs(
        cls, method: Method, graphs: GraphSet | DiskGraph, *, train: Tensor | None = None, seed: int = 0
    ) -> Self:
        """Return a new network with the numbers of inputs and outputs of a set of graphs.

        Args:
            method: How the network is built, scored and trained.
            graphs: Set of graphs, or a graph on disk.
            train: (count,) int64 indices of the training graphs, or of the training nodes of a single graph. The layers
                of a regression network are then trained on targets with mean 0 and standard deviation 1 over these
                items; predictions have the unit of the targets. None: the layers are trained on the targets themselves.
            seed: Random seed of the initial weights.

        Returns:
            The network, on the device of the set.

        Raises:
            ValueError: If the method does not support the level or the kind of the targets, or all training targets
                are equal.
        """
        check_kind(method, graphs)
        out_channels = 1 if graphs.level == "link" else graphs.num_outputs
        network = cls(
            method, graphs.num_features, out_channels, graphs.level, graphs.deg.cpu(),
            edge_channels=graphs.num_edge_features, seed=seed,
        )  # fmt: skip
        network = network.to(graphs.device)
        if train is not None:
            items = graphs.num_items if isinstance(graphs, GraphSet) else graphs.num_nodes
            check_indices("train", train, items)
        if train is not None and network.target_mean is not None and network.target_std is not None:
            std, mean = torch.std_mean(graphs.targets_of(train.to(graphs.device)).double(), 0, correction=0)
            if not bool((std > 0).all()):
                raise ValueError(
                    f"All training items have the same target, {float(mean[std <= 0][0]):g}, so there is nothing to "
                    "learn. Check the targets and the training part."
                )
            network.target_mean.copy_(mean)
            network.target_std.copy_(std)
        return network

    @property
    def target_kind(self) -> TargetKind:
        """Kind of the targets, which the loss of the method determines."""
        return self.method.target_kind

    def standardised(self, target: Tensor) -> Tensor:
        """Convert regression targets to the scale of the layers.

        Args:
            target: (units,) or (units, targets) values in their own unit.

        Returns:
            (units, targets) float32 values.
        """
        assert self.target_mean is not None
        assert self.target_std is not None
        return (target.float().view(len(target), -1) - self.target_mean) / self.target_std

    def values(self, scores: Tensor) -> Tensor:
        """Convert predictions from the scale of the layers to the unit of the regression targets.

        Args:
            scores: (..., targets) float32 scores of layers.

        Returns:
            (..., targets) float32 values.
        """
        assert self.target_mean is not None
        assert self.target_std is not None
        return scores * self.target_std + self.target_mean

    def layer(self, index: int) -> Layer:
        """Return a layer.

        Args:
            index: Index of the layer, from 0.

        Returns:
            The layer.
        """
        module = self.layers[index]
        assert isinstance(module, Layer)
        return module

    def set_layer_mask(self, first: int, end: int) -> None:
        """Choose the consecutive layers whose scores are combined into the prediction.

        Args:
            first: Index of the first layer to use, from 0.
            end: Index of the last layer to use plus one.
        """
        self.layer_mask[:] = False
        self.layer_mask[first:end] = True

    def inputs(self, batch: Batch, labels: Tensor | None) -> HypothesisBatch:
        """Return the input of the first layer, including class nodes.

        Args:
            batch: Batch of graphs.
            labels: (hypotheses, nodes) int64 labels of the nodes, -1 for unknown ones. None without label injection.

        Returns:
            The input of the first layer under these hypotheses.

        Raises:
            ValueError: If a number of features is wrong, or the network has class nodes and no labels are known.
        """
        if batch.x.shape[1] != self.in_channels:
            raise ValueError(
                f"The network expects {counted(self.in_channels, 'feature')} per node, got {batch.x.shape[1]:,}."
            )
        topology = batch.topology(self._edge_attr(batch))
        x = batch.x[None]
        if self.class_nodes is None:
            return HypothesisBatch(x, topology, labels)
        if labels is None:
            if batch.known_labels is None:
                raise ValueError("The batch has no known_labels, which connect the class nodes to the nodes.")
            labels = batch.known_labels[None]
        x, topology = join_class_nodes(x, topology, labels, self.class_nodes, self.level)
        return HypothesisBatch(x, topology, None)

    def _edge_attr(self, batch: Batch) -> Tensor | None:
        """Return the checked features of the edges of a batch, or None if the convolutions use none."""
        if not self.edge_channels:
            return None
        wanted = (batch.edge_index.shape[1], self.edge_channels)
        found = None if batch.edge_attr is None else tuple(batch.edge_attr.shape)
        if found != wanted:
            raise ValueError(f"The network needs features of edges, edge_attr, of shape {wanted}, got {found}.")
        return batch.edge_attr

    def detach_to_next(self, inputs: HypothesisBatch, h: Tensor, *, positive_first: bool = False) -> HypothesisBatch:
        """Return the input of the next layer, detached from the gradient graph.

        Args:
            inputs: Input of the layer.
            h: (hypotheses, nodes, channels) float32 activations of the layer.
            positive_first: Whether the first hypothesis is the positive one, as in training.

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
        """Return the node labels for the candidate labels of the units.

        Args:
            batch: Batch of graphs.
            candidates: (units, candidates) int64 candidate labels.

        Returns:
            (candidates, nodes) int64 labels, -1 for unknown ones.
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
        """Compute the scores of each layer.

        Args:
            data: A `supa_gff.Batch`, or a ``Data`` or ``Batch`` of PyTorch Geometric.

        Returns:
            (layers, units, out_channels) float32 scores of classes or labels. For regression: values on the scale of
            the layers, which `values` converts to the unit of the targets.
        """
        batch = Batch.of(data, self.level, targets=False)
        was_training = self.training
        self.eval()
        with torch.no_grad():
            scores = self._layer_scores(batch)
        self.train(was_training)
        return scores

    def scores_of(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """Compute the scores of each layer for several batches.

        Args:
            batches: Batches of graphs.

        Returns:
            (layers, units, out_channels) float32 scores, and the targets.
        """
        parts = [(self.layer_scores(batch), batch.target) for batch in batches]
        return torch.cat([scores for scores, _ in parts], 1), torch.cat([target for _, target in parts])

    def forward(self, data: Any) -> Tensor:
        """Compute the combined scores of the layers that ``layer_mask`` selects.

        Args:
            data: A `supa_gff.Batch`, or a ``Data`` or ``Batch`` of PyTorch Geometric.

        Returns:
            (units, out_channels) float32 scores of classes or labels, or predicted values. The sigmoid of the score of
            a label is its probability.
        """
        return self.aggregate(self.layer_scores(data))

    def aggregate(self, scores: Tensor) -> Tensor:
        """Combine the scores of the layers that ``layer_mask`` selects.

        Args:
            scores: (layers, units, out_channels) float32 scores of all layers, or of the first ones. If ``layer_mask``
                selects none of them, the last one is used.

        Returns:
            (units, out_channels) float32 combined scores, or predicted values in the unit of the targets.
        """
        chosen = scores[self.layer_mask[: len(scores)]]
        if len(chosen) == 0:
            chosen = scores[-1:]
        if self.level == "link" and self.aggregation == "probabilities":
            theta = self.method.loss.theta if isinstance(self.method.loss, Threshold) else 0.0
            return (chosen - theta).sigmoid().sum(0)
        combined = aggregate(chosen, self.aggregation)
        return combined if self.target_mean is None else self.values(combined)

    @property
    def aggregation(self) -> Aggregation:
        """How the scores of several layers are combined. Separately trained values and label scores are averaged."""
        each_alone = self.method.schedule != "backprop" and not self.method.collaboration
        if self.target_kind != "classification" and each_alone:
            return "mean"
        return self.method.aggregate

    def predict(self, data: Any) -> Tensor:
        """Predict classes, regression values, labels or link scores.

        Args:
            data: A `supa_gff.Batch`, or a ``Data`` or ``Batch`` of PyTorch Geometric. Targets are not used. At node
                level, the nodes of ``train_mask`` are predicted and class nodes are connected to them. To predict other
                nodes, use ``GraphSet.batch(test, known=train)``.

        Returns:
            (units,) int64 classes; (units,) float32 values, or (units, targets) if there are several targets; (units,
            labels) bool, True for labels with a probability above one half; for links (units,) float32 scores.
        """
        scores: Tensor = self(data)
        if self.level == "link":
            return scores[:, 0]
        if self.target_kind == "multi-label":
            return scores > 0
        if self.target_kind == "regression":
            return scores[:, 0] if self.out_channels == 1 else scores
        return scores.argmax(1)

    def _layer_scores(self, batch: Batch) -> Tensor:
        """Compute the scores of each layer; see `layer_scores`."""
        if self.method.top_down is not None:
            layers = [self.layer(index) for index in range(self.method.layers)]
            forward_pass = top_down.TopDownPass(self.method, layers, self.out_channels)
            return forward_pass.layer_scores(self.inputs(batch, None), batch)
        if not self.method.label_conditioned:
            return torch.stack(list(self._bottom_up(batch, None)))
        every = torch.arange(self.out_channels, device=batch.x.device).expand(batch.num_units, -1)
        # With sequential hypotheses, only the activations of one hypothesis are in memory.
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


def check_fits(network: ScoreNetwork, graphs: GraphSet | DiskGraph) -> None:
    """Check that a network has the inputs, outputs and targets of graphs.

    Args:
        network: The network.
        graphs: Graphs.

    Raises:
        ValueError: If it has not.
    """
    check_kind(network.method, graphs)
    if network.edge_channels != graphs.num_edge_features:
        raise ValueError(
            f"The network has {counted(network.edge_channels, 'feature')} per edge, but the graphs have "
            f"{graphs.num_edge_features:,}. Use Network.for_graphs."
        )
    expected = (graphs.level, graphs.num_features, graphs.num_outputs)
    if (network.level, network.in_channels, network.out_channels) != expected:
        raise ValueError(
            f"The network has {counted(network.in_channels, 'feature')}, {counted(network.out_channels, 'output')} "
            f"and {network.level} level, but the graphs have {counted(graphs.num_features, 'feature')}, "
            f"{counted(graphs.num_outputs, 'output')} and {graphs.level} level. Use Network.for_graphs."
        )


def check_kind(method: Method, graphs: GraphSet | DiskGraph) -> None:
    """Check that the loss of a method fits the kind of the targets.

    Args:
        method: The method.
        graphs: Set of graphs.

    Raises:
        ValueError: If the loss is for another kind of targets, or the graphs are something else.
    """
    if not isinstance(graphs, GraphSet | DiskGraph):
        raise ValueError(
            f"A {type(graphs).__name__} was given as graphs, but they must be a GraphSet or DiskGraph. GraphSet.of "
            "converts a list of Data."
        )
    if graphs.level == "link" or method.target_kind == graphs.target_kind:
        return
    fitting = {
        "classification": "a loss for classes, such as Softmax()",
        "regression": "loss=SquaredError() and score=Head(...)",
        "multi-label": "loss=BinaryCrossEntropy() and score=Head(...)",
    }
    raise ValueError(
        f"The targets of the graphs are for {graphs.target_kind}, but loss={type(method.loss).__name__}() is for "
        f"{method.target_kind}; use {fitting[graphs.target_kind]}. GraphSet.of(..., target_kind=) sets the kind."
    )


def _check_task(method: Method, out_channels: int, level: Level) -> None:
    one_of(get_args(Level), "level", level)
    if (level == "link") != isinstance(method.score, PairProduct):
        raise ValueError("Level 'link' requires score=PairProduct(), and other levels require another score.")
    if level == "link":
        return
    if method.accumulation > 1 and level != "graph":
        raise ValueError("accumulation splits a batch by its graphs, which requires level 'graph'; use 1.")
    if isinstance(method.score, Prototypes) and level != "node":
        raise ValueError(
            "score=Prototypes() requires level 'node', where class nodes are connected to the nodes with known labels."
        )
    if method.target_kind == "classification" and out_channels < 2:
        raise ValueError(
            "out_channels must be at least 2, the number of classes, got 1. Use loss=SquaredError() for regression."
        )
    if method.class_weights is not None and len(method.class_weights) != out_channels:
        noun = ("label", "labels") if method.target_kind == "multi-label" else ("class", "classes")
        raise ValueError(
            f"class_weights must have one weight for each of the {counted(out_channels, *noun)}, got "
            f"{len(method.class_weights)}."
        )

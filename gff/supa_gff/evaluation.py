"""Metrics of a network and of each of its layers on the parts of a split."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from supa_gff.graph_set import GraphSet
from supa_gff.networks.network import Network
from supa_gff.networks.score_network import check_kind
from supa_gff.splits.standard import Split
from supa_gff.training.scoring import all_metrics, layer_metrics, mean_known, metric_name, output_metrics
from supa_learning.metrics import confusion_matrix, majority_class

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of a network on one part of a split. `evaluate` computes it.

    ``layers``, ``network`` and ``majority`` are values of the main metric: accuracy from 0 to 1 for classes; root mean
    squared error in the unit of the targets for regression; area under the ROC curve from 0 to 1 for multi-label
    targets. With several targets or labels it is the mean over them, without those for which it is not defined.

    Args:
        layers: Main metric of each layer alone.
        network: Main metric of the combined layers.
        majority: Main metric of the best constant prediction from the training part: its most frequent class, the mean
            of its targets, or equal scores for all units.
        confusion: (classes, classes) int64 counts by true class (row) and predicted class (column). None unless the
            targets are classes.
        metric: Name of the main metric: ``"accuracy"``, ``"rms_error"`` or ``"auc"``.
        outputs: Metrics of the combined layers for each regression target (``"rms_error"``, ``"mae"``, ``"r2"``) or
            each label (``"auc"``, ``"f1"``). NaN where a metric is not defined. Empty for classes.

    Example:
        >>> import torch
        >>> from supa_gff import Evaluation
        >>> confusion = torch.tensor([[5, 1], [2, 2]])
        >>> evaluation = Evaluation(layers=(0.6, 0.7), network=0.7, majority=0.6, confusion=confusion)
        >>> evaluation.network > evaluation.majority
        True
        >>> evaluation.confusion.diag() / evaluation.confusion.sum(1)  # recall of each class
        tensor([0.8333, 0.5000])
    """

    layers: tuple[float, ...]
    network: float
    majority: float
    confusion: Tensor | None
    metric: str = "accuracy"
    outputs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric of ``outputs`` over the targets or labels for which it is defined."""
        return {name: mean_known(values) for name, values in self.outputs.items()}


def evaluate(network: Network, graphs: GraphSet, split: Split) -> dict[str, Evaluation]:
    """Evaluate a network on each part of a split.

    Args:
        network: Network to evaluate, on the device of the set.
        graphs: Set of graphs, at graph or node level.
        split: Training, validation and test indices.

    Returns:
        The `Evaluation` of each part, with the keys ``"train"``, ``"valid"`` and ``"test"``.

    Raises:
        ValueError: If the network predicts links, or the targets are of another kind.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, Network, Split, evaluate, preset
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.ones(2, 3), edge_index=edges, y=torch.tensor([k % 2])) for k in range(12)]
        >>> dataset = GraphSet.of(graphs)
        >>> split = Split("by hand", torch.arange(6), torch.arange(6, 9), torch.arange(9, 12))
        >>> network = Network.for_graphs(preset("mono-forward").replace(layers=2), dataset)
        >>> results = evaluate(network, dataset, split)
        >>> list(results), len(results["test"].layers), results["train"].majority
        (['train', 'valid', 'test'], 2, 0.5)
    """
    train = split.train.to(graphs.device)
    known = train if graphs.transductive else None
    baseline = constant_prediction(network, graphs.targets_of(train))
    return {
        part: evaluate_part(network, graphs, getattr(split, part).to(graphs.device), baseline, known) for part in PARTS
    }


def constant_prediction(network: Network, target: Tensor) -> Tensor:
    """Return the best constant prediction for targets.

    Args:
        network: Network whose kind of targets determines the prediction.
        target: Targets of the training units.

    Returns:
        (out_channels,) float32 scores, or values for regression.
    """
    if network.target_kind == "regression":
        return target.view(len(target), -1).double().mean(0).float()
    constant = torch.zeros(network.out_channels, device=target.device)
    if network.target_kind == "classification":
        constant[majority_class(target)] = 1
    return constant


def evaluate_part(
    network: Network, graphs: GraphSet, indices: Tensor, baseline: Tensor, known: Tensor | None = None
) -> Evaluation:
    """Evaluate a network on some items.

    Args:
        network: Network to evaluate, on the device of the set.
        graphs: Set of graphs, at graph or node level.
        indices: (count,) int64 indices of graphs, or of the nodes of a single graph.
        baseline: Result of `constant_prediction` for the training units.
        known: (known,) int64 indices of nodes whose labels the network may use.

    Returns:
        The evaluation.

    Raises:
        ValueError: If the network predicts links, or the targets are of another kind.
    """
    if network.level == "link":
        raise ValueError("The network scores pairs of nodes; use network.predict and supa_learning.metrics.roc_auc.")
    check_kind(network.method, graphs)
    scores, target = network.scores_of(graphs.batches(indices, 4 * network.method.batch_size, known=known))
    together, name = network.aggregate(scores), metric_name(network)
    constant = baseline.to(together.device).expand(len(target), -1)
    is_classification = network.target_kind == "classification"
    return Evaluation(
        layers=tuple(layer_metrics(network, part, target)[name] for part in scores),
        network=all_metrics(network, together, target)[name],
        majority=all_metrics(network, constant, target)[name],
        confusion=confusion_matrix(target, together.argmax(1), network.out_channels) if is_classification else None,
        metric=name,
        outputs={} if is_classification else output_metrics(network, together, target),
    )

"""Splits of benchmarks and of a user's own graphs into training, validation and test parts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from supa.checks import check_int, counted
from supa_datasets import GraphBenchmark
from supa_gff.graph_set import GraphSet
from supa_learning.folds import SPLIT_SEED, Fold, shuffled_folds, stratified_folds


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test indices of a set of graphs.

    Args:
        words: Description of the split.
        train: (count,) int64 training indices: of graphs, or of the nodes of a single graph.
        valid: (count,) int64 validation indices.
        test: (count,) int64 test indices.

    Example:
        >>> import torch
        >>> from supa_gff import Split
        >>> order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
        >>> split = Split("random 80/10/10", order[:80], order[80:90], order[90:])
        >>> split.words, len(split.train)
        ('random 80/10/10', 80)
    """

    words: str
    train: Tensor
    valid: Tensor
    test: Tensor


def standard_split(benchmark: GraphBenchmark, *, fold: int = 0, folds: int = 10, seed: int = 0) -> Split:
    """Return the standard split of a benchmark.

    Graphs are split into stratified folds, which are the same for all seeds. One fold is the test part, and a tenth of
    the other graphs is the validation part. Nodes are split by the masks of the benchmark; each column of masks is one
    fold. Without masks, the nodes are split into 60 % training, 20 % validation and 20 % test, stratified and different
    for each seed.

    Args:
        benchmark: Benchmark from `supa_datasets.load_benchmark`.
        fold: Index of the test fold, from 0.
        folds: Number of folds.
        seed: Random seed of the split of nodes without masks.

    Returns:
        The split.

    Raises:
        ValueError: If the fold does not exist, a part of the split is empty, or the training part has only one class.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_datasets import GraphBenchmark
        >>> from supa_gff import standard_split
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = tuple(Data(x=torch.ones(2, 3), edge_index=edges, y=torch.tensor([k % 2])) for k in range(100))
        >>> benchmark = GraphBenchmark("own", "graph", graphs, num_features=3, num_classes=2, from_degrees=False)
        >>> split = standard_split(benchmark, fold=3)
        >>> split.words, len(split.train), len(split.valid), len(split.test)
        ('fold 3 of 10', 81, 9, 10)
    """
    return _split(benchmark.name, GraphSet.of_benchmark(benchmark), fold, folds, seed)


def split_items(graphs: GraphSet, *, fold: int = 0, folds: int = 10, seed: int = 0) -> Split:
    """Split graphs, or the nodes of a single graph, as `standard_split` splits a benchmark.

    Folds are stratified by class. Regression and multi-label targets are split at random. Several graphs at node level
    are split by graph.

    Args:
        graphs: Set of graphs, at graph or node level.
        fold: Index of the test fold, from 0.
        folds: Number of folds.
        seed: Random seed of the split of nodes without masks.

    Returns:
        The split, on the CPU.

    Raises:
        ValueError: If the fold does not exist, a part of the split is empty, or the training part has only one class.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, split_items
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.ones(2, 3), edge_index=edges, y=torch.tensor([0.1 * k])) for k in range(100)]
        >>> split = split_items(GraphSet.of(graphs), fold=3)
        >>> split.words, len(split.train), len(split.valid), len(split.test)
        ('fold 3 of 10', 81, 9, 10)
    """
    if graphs.level == "link":
        raise ValueError("The pairs of nodes at link level are split by split_links.")
    return _split("The data", graphs.to("cpu"), fold, folds, seed)


def _split(name: str, graphs: GraphSet, fold: int, folds: int, seed: int) -> Split:
    check_int(2, 10**6, "folds", folds)
    check_int(0, folds - 1, "fold", fold, f"({counted(folds, 'fold')}, counted from 0)")
    if graphs.transductive:
        split = _node_split(name, graphs, fold, seed)
    else:
        split = _of_fold(f"fold {fold} of {folds}", _folds(graphs, folds, SPLIT_SEED, 0.1)[fold])
    masked = graphs.transductive and graphs.masks is not None
    for part, mask in (("train", "train_mask"), ("valid", "val_mask"), ("test", "test_mask")):
        if len(getattr(split, part)) == 0:
            advice = f"{mask} contains no node" if masked else "use fewer folds"
            raise ValueError(f"{name}: {split.words} leaves nothing to {_PURPOSE[part]}; {advice}.")
        shared = 0 if part == "train" else int(torch.isin(getattr(split, part), split.train).sum())
        if shared:
            raise ValueError(
                f"{name}: train_mask and {mask} share {counted(shared, 'node')}, so scores of {split.words} would be "
                "too high; remove these from train_mask."
            )
    classes = graphs.target_kind == "classification"
    if classes and torch.bincount(graphs.targets_of(split.train)).count_nonzero() < 2:
        raise ValueError(f"{name}: the training part of {split.words} has only one class.")
    return split


_PURPOSE = {"train": "train on", "valid": "validate on", "test": "test on"}


def _node_split(name: str, graphs: GraphSet, fold: int, seed: int) -> Split:
    masks = graphs.masks
    several = masks is not None and masks[0].dim() == 2
    if fold and not several:
        raise ValueError(f"{name} has only one split of its nodes, got fold {fold}; omit --fold (or fold=).")
    if masks is None:
        return _of_fold(f"random 60/20/20 split with seed {seed}", _folds(graphs, 5, seed, 0.25)[0])
    if several:
        count = masks[0].shape[1]
        check_int(0, count - 1, "fold", fold, f"({counted(count, 'split')}, counted from 0)")
    parts = [(mask[:, fold] if several else mask).nonzero().view(-1) for mask in masks]
    return Split(f"split {fold} of the dataset" if several else "the split of the dataset", *parts)


def _folds(graphs: GraphSet, folds: int, seed: int, valid_share: float) -> tuple[Fold, ...]:
    if graphs.target_kind == "classification" and (graphs.level == "graph" or graphs.transductive):
        return stratified_folds(graphs.target.numpy(), folds=folds, seed=seed, valid_share=valid_share)
    return shuffled_folds(graphs.num_items, folds=folds, seed=seed, valid_share=valid_share)


def _of_fold(words: str, fold: Fold) -> Split:
    return Split(words, *(torch.from_numpy(part) for part in (fold.train, fold.valid, fold.test)))

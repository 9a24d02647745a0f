"""The standard split of a benchmark into training, validation and test."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from supa.checks import check_int, counted
from supa_datasets import GraphBenchmark
from supa_learning.folds import SPLIT_SEED, Fold, stratified_folds


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint parts of a benchmark.

    Args:
        words: description of the split.
        train: (count,) int64 training indices, of graphs or of nodes of a single graph.
        valid: (count,) int64 validation indices.
        test: (count,) int64 test indices.
    """

    words: str
    train: Tensor
    valid: Tensor
    test: Tensor


def standard_split(benchmark: GraphBenchmark, *, fold: int = 0, folds: int = 10, seed: int = 0) -> Split:
    """Split a benchmark in the usual way.

    Graphs: one of the stratified folds, the same for all seeds; a tenth of the rest is for validation. Nodes: the masks
    of the benchmark, if it has some (with several columns, one for each fold); otherwise 60 % training, 20 % validation
    and 20 % test, stratified, different for each seed.

    Args:
        benchmark: the benchmark.
        fold: number of the fold, from 0.
        folds: number of folds.
        seed: random seed of a split of nodes.

    Returns:
        The split.

    Raises:
        ValueError: there is no such fold, a part of the split is empty, or the training part has a single class.
    """
    check_int(2, 10**6, "folds", folds)
    check_int(0, folds - 1, "fold", fold, f"(the {counted(folds, 'fold')} are counted from 0)")
    if benchmark.task == "graph":
        target = torch.cat([graph.y.view(-1) for graph in benchmark.graphs])
        chosen = stratified_folds(target.numpy(), folds=folds, seed=SPLIT_SEED)[fold]
        split = _of_fold(f"fold {fold} of {folds}", chosen)
    else:
        target = benchmark.graphs[0].y
        split = _node_split(benchmark, fold, seed)
    for name in ("train", "valid", "test"):
        if len(getattr(split, name)) == 0:
            raise ValueError(
                f"{benchmark.name}: in {split.words} there is nothing to {_PURPOSE[name]}; ask for fewer folds."
            )
    if torch.bincount(target[split.train]).count_nonzero() < 2:
        raise ValueError(f"{benchmark.name}: in {split.words} there is one class only to learn from.")
    return split


_PURPOSE = {"train": "train on", "valid": "validate on", "test": "test on"}


def _node_split(benchmark: GraphBenchmark, fold: int, seed: int) -> Split:
    data: Any = benchmark.graphs[0]
    masks: list[Any] = [getattr(data, f"{name}_mask", None) for name in ("train", "val", "test")]
    several = masks[0] is not None and masks[0].dim() == 2
    if fold and not several:
        raise ValueError(
            f"{benchmark.name}: its nodes have one split, but fold {fold} was asked for; leave --fold (fold=) out."
        )
    if any(mask is None for mask in masks):
        return _of_fold(
            f"60/20/20 of seed {seed}", stratified_folds(data.y.numpy(), folds=5, seed=seed, valid_share=0.25)[0]
        )
    if several:
        count = masks[0].shape[1]
        check_int(0, count - 1, "fold", fold, f"(the set has {counted(count, 'split')} of its own)")
        masks = [mask[:, fold] for mask in masks]
    parts = [mask.nonzero().view(-1) for mask in masks]
    return Split(f"the set's own split {fold}" if several else "the set's own split", *parts)


def _of_fold(words: str, fold: Fold) -> Split:
    return Split(words, *(torch.from_numpy(part) for part in (fold.train, fold.valid, fold.test)))

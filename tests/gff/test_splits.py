"""Tests of the standard split: folds of graphs, masks of nodes, and random splits of nodes."""

import pytest

from supa_datasets import GraphBenchmark

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

from torch_geometric.data import Data  # noqa: E402

from supa_gff import standard_split  # noqa: E402
from supa_learning import stratified_folds  # noqa: E402

LABELS = torch.arange(40) % 2
EDGES = torch.zeros(2, 0, dtype=torch.long)
GRAPHS = GraphBenchmark(
    "graphs", "graph", tuple(Data(x=torch.ones(2, 1), edge_index=EDGES, y=y.view(1)) for y in LABELS), 1, 2, False
)


def _nodes(**masks):
    data = Data(x=torch.ones(40, 1), edge_index=EDGES, y=LABELS, **masks)
    return GraphBenchmark("nodes", "node", (data,), 1, 2, False)


def _masks(*ends):
    """Return masks with one column per end: training nodes before it, then five validation nodes, then test nodes."""
    node, end = torch.arange(40)[:, None], torch.tensor(ends)
    masks = {"train": node < end, "val": (node >= end) & (node < end + 5), "test": node >= end + 5}
    return {f"{name}_mask": mask for name, mask in masks.items()}


def _parts(split):
    return [part.tolist() for part in (split.train, split.valid, split.test)]


def test_folds_of_graphs_do_not_depend_on_seed():
    expected = stratified_folds(LABELS.numpy(), folds=5, seed=0, valid_share=0.1)
    for fold, one in enumerate(expected):
        split = standard_split(GRAPHS, fold=fold, folds=5, seed=fold)
        assert _parts(split) == [part.tolist() for part in (one.train, one.valid, one.test)]
        assert split.words == f"fold {fold} of 5"
    assert [len(part) for part in _parts(standard_split(GRAPHS, folds=2))] == [18, 2, 20]
    first = stratified_folds(LABELS.numpy(), folds=10, seed=0)[0]
    assert _parts(standard_split(GRAPHS)) == [part.tolist() for part in (first.train, first.valid, first.test)]


def test_nodes_without_masks_are_split_by_seed():
    splits = [standard_split(_nodes(), seed=seed) for seed in (0, 1)]
    for split in splits:
        assert [len(part) for part in _parts(split)] == [24, 8, 8]
        assert sorted(torch.cat([split.train, split.valid, split.test]).tolist()) == list(range(40))
        assert [int(LABELS[part].sum()) for part in (split.train, split.valid, split.test)] == [12, 4, 4]
    assert _parts(splits[0]) != _parts(splits[1])
    assert _parts(standard_split(_nodes())) == _parts(splits[0])
    expected = stratified_folds(LABELS.numpy(), folds=5, seed=1, valid_share=0.25)[0]
    assert _parts(splits[1])[2] == expected.test.tolist()
    masks = _masks(10)
    del masks["val_mask"]
    assert _parts(standard_split(_nodes(**masks), seed=1)) == _parts(splits[1])


def test_nodes_with_masks_use_masks():
    split = standard_split(_nodes(**{name: mask[:, 0] for name, mask in _masks(10).items()}), seed=3)
    assert _parts(split) == [list(range(10)), list(range(10, 15)), list(range(15, 40))]
    several = _nodes(**_masks(10, 20))
    for fold, end in enumerate((10, 20)):
        split = standard_split(several, fold=fold)
        assert _parts(split) == [list(range(end)), list(range(end, end + 5)), list(range(end + 5, 40))]
        assert split.words == f"split {fold} of the dataset"


@pytest.mark.parametrize(
    ("benchmark", "arguments", "message"),
    [
        (GRAPHS, {"folds": 1}, "folds: 1 was given"),
        (GRAPHS, {"fold": 5, "folds": 5}, r"from 0 to 4 \(5 folds, counted from 0\)"),
        (GRAPHS, {"fold": -1}, "fold: -1 was given"),
        (_nodes(), {"fold": 1}, "has only one split of its nodes, got fold 1"),
        (_nodes(**_masks(10, 20)), {"fold": 2}, r"from 0 to 1 \(2 splits, counted from 0\)"),
        (_nodes(**_masks(35)), {}, "nodes: split 0 of the dataset leaves nothing to test on"),
        (_nodes(**_masks(40)), {}, "leaves nothing to validate on"),
        (_nodes(**_masks(0)), {}, "leaves nothing to train on; train_mask contains no node"),
        (_nodes(**_masks(10) | {"test_mask": torch.ones(40, 1) > 0}), {}, "train_mask and test_mask share 10 nodes"),
        (_nodes(**_masks(10) | {"val_mask": torch.ones(40, 1) > 0}), {}, "train_mask and val_mask share 10 nodes"),
        (_nodes(**_masks(1)), {}, "has only one class"),
    ],
)
def test_invalid_splits_raise(benchmark, arguments, message):
    with pytest.raises(ValueError, match=message):
        standard_split(benchmark, **arguments)

"""Worker processes: batches do not depend on their number, and a killed worker is an error."""

import os
import pickle
import signal

import pytest
import torch
from torch.utils.data import DataLoader

from supa_datasets import GraphDataset, ImageDataset, PointDataset, SequenceDataset, ShowerFile

pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

KINDS = {
    "points": lambda f: PointDataset(f / "trees.h5", normalisation="fit", targets=["primary", "attempt"]),
    "padded": lambda f: PointDataset([f / "trees.h5", f / "hits.h5"], form="padded", targets=["source"]),
    "graphs": lambda f: GraphDataset(f / "trees.h5", targets=["num_primaries"]),
    "sequences": lambda f: SequenceDataset(f / "trees.h5", order="trajectories"),
    "images": lambda f: ImageDataset(ShowerFile(f / "hits.h5"), targets=["attempt"]),
    "in memory": lambda f: PointDataset(ShowerFile(f / "hits.h5")[:]),
}


def _loader(dataset, workers, context=None):
    if isinstance(dataset, GraphDataset):
        from torch_geometric.loader import DataLoader as GraphLoader

        return GraphLoader(dataset, batch_sampler=dataset.batches(64, shuffle=True), num_workers=workers)
    return DataLoader(
        dataset,
        batch_sampler=dataset.batches(64, shuffle=True, seed=4),
        collate_fn=dataset.collate,
        num_workers=workers,
        multiprocessing_context=context if workers else None,
    )


def _same(one, other):
    one, other = (batch if isinstance(batch, dict) else batch.to_dict() for batch in (one, other))
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k]) if isinstance(one[k], torch.Tensor) else one[k] == other[k] for k in one
    )


@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create 4 worker processes"
)  # on machines with fewer processors
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_batches_do_not_depend_on_the_workers(folder, make):
    dataset = make(folder)
    alone = list(_loader(dataset, 0))
    assert len(alone) == len(dataset.batches(64))
    for workers in (1, 4):
        batches = list(_loader(make(folder), workers))
        assert len(batches) == len(alone)
        assert all(_same(a, b) for a, b in zip(alone, batches, strict=True))


def test_batches_of_spawned_workers_are_the_same(folder):
    """Spawned workers inherit nothing: the dataset is pickled and the file is opened again."""
    dataset = KINDS["points"](folder)
    assert all(_same(a, b) for a, b in zip(_loader(dataset, 0), _loader(dataset, 1, context="spawn"), strict=True))


def test_a_pickled_dataset_is_small(folder):
    dataset = KINDS["points"](folder)
    assert len(pickle.dumps(dataset)) < 20_000
    assert _same(pickle.loads(pickle.dumps(dataset))[3], dataset[3])


class _Dying(PointDataset):
    def __getitems__(self, numbers):
        if torch.utils.data.get_worker_info() is not None and 0 in numbers:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitems__(numbers)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_worker_is_an_error(folder):
    dataset = _Dying(folder / "hits.h5")
    with pytest.raises(RuntimeError, match=r"exited unexpectedly|killed by signal"):
        list(DataLoader(dataset, batch_size=50, collate_fn=dataset.collate, num_workers=2, timeout=60))

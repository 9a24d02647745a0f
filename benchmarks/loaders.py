"""Measure the loaders: random showers from a file and from memory, and each kind of dataset.

    python benchmarks/loaders.py [--showers 100000] [--batch 256] [--seconds 3] [--json out.json]

Rates are showers per second over random batches of a shuffled epoch. Repetitions from file and memory alternate, so
that a busy machine slows both down alike. The file is in the system's cache; the speed of a cold disk is not measured.
"""

import argparse
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from measuring import best_and_median, give, machine

import supa
import supa_datasets
from supa.checks import counted
from supa_datasets import GraphDataset, ImageDataset, Nearest, PointDataset, SequenceDataset, Within


def batches(showers: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield random batches, one epoch after the other."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(showers)
        yield from (order[k : k + size] for k in range(0, showers - size + 1, size))


def own_memory() -> float:
    """Return the memory of this process in MB, without the pages of files."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024 / 1e6


def rate(take: Callable[[np.ndarray], Any], showers: int, size: int, duration: float, seed: int) -> float:
    """Return showers per second over random batches."""
    start, done = time.perf_counter(), 0
    for numbers in batches(showers, size, seed):
        take(numbers)
        done += len(numbers)
        if (passed := time.perf_counter() - start) > duration:
            return done / passed
    raise AssertionError


def loader_rate(dataset: Any, size: int, workers: int, duration: float, *, pyg: bool = False) -> float:
    """Return showers per second of a DataLoader, without the start of its workers."""
    from torch.utils.data import DataLoader
    from torch_geometric.loader import DataLoader as GraphLoader

    if pyg:
        loader: Any = GraphLoader(dataset, batch_size=size, shuffle=True, num_workers=workers)
    else:
        loader = DataLoader(dataset, size, shuffle=True, collate_fn=dataset.collate, num_workers=workers)
    batches = iter(loader)
    for _ in range(2 * workers + 1):
        next(batches)
    start, done = time.perf_counter(), 0
    for _ in batches:
        done += size
        if time.perf_counter() - start > duration:
            break
    return done / (time.perf_counter() - start)


def training_rate(dataset: GraphDataset, size: int, duration: float) -> float:
    """Return showers per second of training a small network on a batch in memory."""
    from torch_geometric.nn import GIN, global_add_pool

    network = torch.nn.ModuleList([GIN(4, 64, num_layers=3), torch.nn.Linear(64, 1)])
    optimiser = torch.optim.Adam(network.parameters())
    batch = dataset.collate(dataset.__getitems__(range(size)))
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < duration:
        optimiser.zero_grad()
        pooled = global_add_pool(network[0](batch.x, batch.edge_index), batch.batch)
        network[1](pooled).square().mean().backward()
        optimiser.step()
        done += size
    return done / (time.perf_counter() - start)


def datasets(path: Path, tree: Path) -> dict[str, Any]:
    """Return one dataset of each kind."""
    return {
        "points, packed": PointDataset(path, normalisation="fit"),
        "points, padded": PointDataset(path, normalisation="fit", form="padded"),
        "graphs, 8 nearest": GraphDataset(path, edges=Nearest(8)),
        "graphs, within 3": GraphDataset(path, edges=Within(3.0)),
        "sequences by depth": SequenceDataset(path),
        "sequences along the tree": SequenceDataset(tree, order="tree"),
        "trajectories": SequenceDataset(tree, order="trajectories"),
        "images, CaloGAN's cells": ImageDataset(path),
    }


def measure(showers: int, size: int, duration: float, repeat: int, folder: Path) -> dict[str, Any]:
    """Return all measurements."""
    path, tree = folder / "a.h5", folder / "tree.h5"
    with supa_datasets.ShowerWriter(path, supa.simulate(0).run) as writer:
        for chunk in supa.stream(showers):
            writer.append(chunk)
    supa_datasets.save(supa.simulate(20_000, record="particles"), tree)
    before = own_memory()
    dataset = PointDataset(path, normalisation="fit")
    taken = 0.0
    for numbers, _ in zip(batches(showers, size, 0), range(showers // size), strict=False):
        dataset.collate(dataset.__getitems__(numbers))
        taken = max(taken, own_memory() - before)
    with supa_datasets.ShowerFile(path) as file:
        for numbers in (np.arange(256), np.arange(256)[::-1]):
            file[numbers]
        memory = file[:]
        ratios, rates = [], {"file": [], "memory": []}
        for k in range(repeat):
            rates["file"].append(rate(lambda n: file[n], showers, size, duration, 2 * k))
            rates["memory"].append(rate(lambda n: memory[n], showers, size, duration, 2 * k + 1))
            ratios.append(rates["file"][-1] / rates["memory"][-1])
    results = {}
    for name, dataset in datasets(path, tree).items():
        results[name] = {
            counted(workers, "worker"): max(loader_rate(dataset, size, workers, duration) for _ in range(2))
            for workers in (0, 2)
        }
    graphs = datasets(path, tree)["graphs, 8 nearest"]
    results["graphs, 8 nearest, PyG's DataLoader"] = {
        counted(workers, "worker"): max(loader_rate(graphs, size, workers, duration, pyg=True) for _ in range(2))
        for workers in (0, 2)
    }
    results["training three GIN layers of width 64 on graphs in memory, one thread"] = {
        "0 workers": training_rate(graphs, size, duration)
    }
    return {
        "machine": machine(),
        "versions": {
            "supa": supa.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "h5py": h5py.__version__,
            "torch": torch.__version__,
        },
        "date": time.strftime("%Y-%m-%d"),
        "showers": showers,
        "batch": size,
        "file size in MB": path.stat().st_size / 1e6,
        "random batches from the file, showers/s": best_and_median(rates["file"]),
        "random batches from memory, showers/s": best_and_median(rates["memory"]),
        "file over memory, for each repetition": best_and_median(ratios),
        "DataLoader, showers/s": results,
        "MB of memory of PointDataset over an epoch": taken,
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--showers", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of each measurement of a rate")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="folder for the files")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    torch.set_num_threads(1)  # as in a worker; on small batches, several threads only wait for each other
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = measure(arguments.showers, arguments.batch, arguments.seconds, arguments.repeat, Path(folder))
    give(results, arguments.json)


if __name__ == "__main__":
    main()

"""Time the loaders: random showers out of a file against out of memory, and each kind of dataset.

    python benchmarks/loaders.py [--showers 100000] [--batch 256] [--seconds 3] [--json out.json]

Every rate is in showers a second, over random batches of a shuffled epoch. What is compared alternates, so that a busy
machine slows all of it alike. The file is read before (it lies in the system's cache): what a cold disk allows is
another matter.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import supa
import supa_datasets
from supa_datasets import GraphDataset, ImageDataset, Nearest, PointDataset, SequenceDataset, Within


def batches(showers: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Give random batches, epoch behind epoch."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(showers)
        yield from (order[k : k + size] for k in range(0, showers - size + 1, size))


def rate(take: Callable[[np.ndarray], Any], showers: int, size: int, duration: float, seed: int) -> float:
    """Measure showers a second of random batches."""
    start, done = time.perf_counter(), 0
    for numbers in batches(showers, size, seed):
        take(numbers)
        done += len(numbers)
        if (passed := time.perf_counter() - start) > duration:
            return done / passed
    raise AssertionError


def loader_rate(dataset: Any, size: int, workers: int, duration: float) -> float:
    """Measure showers a second of a DataLoader with worker processes, without their start."""
    from torch.utils.data import DataLoader
    from torch_geometric.loader import DataLoader as GraphLoader

    sampler = dataset.batches(size, shuffle=True)
    if isinstance(dataset, GraphDataset):
        loader: Any = GraphLoader(dataset, batch_sampler=sampler, num_workers=workers)
    else:
        loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=dataset.collate, num_workers=workers)
    batches = iter(loader)
    for _ in range(2 * workers + 1):
        next(batches)
    start, done = time.perf_counter(), 0
    for _ in batches:
        done += size
        if time.perf_counter() - start > duration:
            break
    return done / (time.perf_counter() - start)


def datasets(path: Path, tree: Path) -> dict[str, Any]:
    """Make one of each kind."""
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
    """Take all measurements."""
    path, tree = folder / "a.h5", folder / "tree.h5"
    with supa_datasets.ShowerWriter(path, supa.simulate(0).run) as writer:
        for chunk in supa.stream(showers):
            writer.append(chunk)
    supa_datasets.save(supa.simulate(20_000, record="particles"), tree)
    with supa_datasets.ShowerFile(path) as file:
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
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
            f"{workers} workers": max(loader_rate(dataset, size, workers, duration) for _ in range(2))
            for workers in (0, 2)
        }
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {platform.system()}",
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
        "random batches from the file, showers/s": _best_and_median(rates["file"]),
        "random batches from memory, showers/s": _best_and_median(rates["memory"]),
        "file over memory, repetition by repetition": _best_and_median(ratios),
        "DataLoader, showers/s": results,
        "MB of memory before and after": [
            size * (1 if sys.platform == "darwin" else 1024) / 1e6
            for size in (start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        ],
    }


def _best_and_median(values: list[float]) -> dict[str, float]:
    return {"best": max(values), "median": statistics.median(values)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--showers", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each rate is measured")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the files are written")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = measure(arguments.showers, arguments.batch, arguments.seconds, arguments.repeat, Path(folder))
    text = json.dumps(results, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()

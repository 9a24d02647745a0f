"""Measure how much slower a training is if its showers are simulated while it runs.

    python benchmarks/shower_stream.py [--batch 256] [--steps 100] [--repeat 9] [--json out.json]

The same training loop takes its batches from

- one batch, again and again: the time of the network alone;
- a dataset in memory: shuffled showers of a `PointDataset` or `ImageDataset`;
- a `ShowerStream`, in the process of the training or in one worker.

The repetitions of all of them alternate, so that other work on the machine affects them alike. The process of the
training uses one thread. All numbers are medians of the repetitions; a ratio is taken within each repetition.
"""

import argparse
import itertools
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import give, machine
from torch import Tensor, nn
from torch.utils.data import DataLoader

import supa
from supa.checks import counted
from supa_datasets import ImageDataset, PointDataset, ShowerStream

SHOWERS_IN_MEMORY = 20_000
CONFIG = supa.preset("standard").replace(incident_energy="log:1:100")

Feed = Callable[[], Iterator[Any]]


class PointNetwork(nn.Module):
    """Two layers for each hit, a sum over the hits, and two layers for each shower."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.hits = nn.Sequential(nn.Linear(4, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU())
        self.shower = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 1))

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """Return one number for each shower."""
        hits = self.hits(batch["points"])
        counts = batch["offset"].diff()
        shower = torch.repeat_interleave(torch.arange(len(counts)), counts)
        pooled = hits.new_zeros(len(counts), hits.shape[1]).index_add(0, shower, hits)
        result: Tensor = self.shower(pooled / 72)
        return result[:, 0]


class ImageNetwork(nn.Module):
    """Three layers on the cells of all images."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LazyLinear(channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 1)
        )

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """Return one number for each shower."""
        cells = torch.cat([batch[f"layer_{layer}"].flatten(1) for layer in range(3)], dim=1)
        result: Tensor = self.layers(cells)
        return result[:, 0]


def feeds(form: str, size: int) -> dict[str, Feed]:
    """Return functions that start an endless iteration over batches, by the name of their origin."""
    kind = {"points": PointDataset, "images": ImageDataset}[form]
    options: dict[str, Any] = {"normalisation": "fit", "targets": ["incident_energy"]}
    memory: Any = kind(supa.simulate(SHOWERS_IN_MEMORY, CONFIG, seed=2), **options)
    stream = ShowerStream(CONFIG, size, seed=1, form=form, **options)
    loader = DataLoader(memory, size, shuffle=True, drop_last=True, collate_fn=memory.collate)
    single = next(iter(loader))
    return {
        "one batch": lambda: itertools.repeat(single),
        "memory": lambda: itertools.chain.from_iterable(itertools.repeat(loader)),
        "stream": lambda: iter(stream),
        "stream, one worker": lambda: iter(DataLoader(stream, batch_size=None, num_workers=1)),
    }


def times_per_step(network: nn.Module, optimiser: torch.optim.Optimizer, feed: Feed, steps: int) -> tuple[float, float]:
    """Train for some steps, and return the mean time and the mean CPU time of one in ms.

    The start of the iteration is not measured. The CPU time is that of this process, without a worker.
    """
    batches = feed()
    for step, batch in enumerate(batches, start=-3):
        if step == 0:
            start, cpu_start = time.perf_counter(), time.process_time()
        if step == steps:
            break
        optimiser.zero_grad()
        target = batch["incident_energy"].log()
        (network(batch) - target).square().mean().backward()
        optimiser.step()
    return 1e3 * (time.perf_counter() - start) / steps, 1e3 * (time.process_time() - cpu_start) / steps


def measure(form: str, size: int, steps: int, repeat: int) -> dict[str, Any]:
    """Return the times of a step with each origin of the batches, and their ratios to those with the memory."""
    torch.manual_seed(0)
    network: nn.Module = {"points": PointNetwork, "images": ImageNetwork}[form]()
    origins = feeds(form, size)
    network(next(origins["one batch"]()))
    optimiser = torch.optim.Adam(network.parameters())
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in origins}
    for _ in range(repeat):
        for name, feed in origins.items():
            times[name].append(times_per_step(network, optimiser, feed, steps))
    medians = {name: np.median(values, axis=0).tolist() for name, values in times.items()}
    ratios = {name: np.median(np.divide(values, times["memory"]), axis=0).tolist() for name, values in times.items()}
    return {
        name: {
            "ms per step": medians[name][0],
            "CPU ms per step": medians[name][1],
            "ratio to memory, ms": ratios[name][0],
            "ratio to memory, CPU ms": ratios[name][1],
        }
        for name in origins
    }


def mixing(size: int, steps: int, repeat: int) -> dict[str, float]:
    """Return the time in ms of a batch of points without a training, from lists of equal configs."""
    streams = {number: iter(ShowerStream([CONFIG] * number, size, seed=1)) for number in (1, 2, 8)}
    times: dict[int, list[float]] = {number: [] for number in streams}
    for _ in range(repeat):
        for number, batches in streams.items():
            start = time.perf_counter()
            for _ in itertools.islice(batches, steps):
                pass
            times[number].append(1e3 * (time.perf_counter() - start) / steps)
    return {counted(number, "config"): float(np.median(values)) for number, values in times.items()}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    torch.set_num_threads(1)
    results = {
        "machine": machine(),
        "versions": {"supa": supa.__version__, "python": platform.python_version(), "torch": torch.__version__},
        "date": time.strftime("%Y-%m-%d"),
        "batch": arguments.batch,
        "ms per batch without training": mixing(arguments.batch, arguments.steps, arguments.repeat),
        **{form: measure(form, arguments.batch, arguments.steps, arguments.repeat) for form in ("points", "images")},
    }
    give(results, arguments.json)


if __name__ == "__main__":
    main()

"""Time the sampling of a generator in two processes, with and without pairs of layers side by side.

    torchrun --nproc-per-node 2 benchmarks/generator_tensor_parallel.py transformer.ckpt [--batch-sizes 1 100 4096]
                                                                        [--seconds 5] [--json results.json]

Each process has a GPU. Pairs of layers need half of the sums over the processes. The script prints the showers per
second of four samplers: on one GPU and on two, of the generator as given and with all pairs of layers from the first
one on. On one GPU only the first process works. The heads and hidden features of the generator must be even numbers,
which is so for a Transformer.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from generator_sampling import rate
from measuring import give, gpu_facts, note
from torch import distributed

from supa import ShowerConfig
from supa_learning import Processes
from supa_learning.processes import torchrun_processes
from supa_mamba import GeneratorCheckpoint, ShowerGenerator, sample_showers, tensor_parallel

SEED = 11


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 100, 4096])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    checkpoint = GeneratorCheckpoint.load(given.checkpoint)
    config = checkpoint.shower_configs[0]
    with torchrun_processes("cuda") as processes:
        as_given = checkpoint.model().to(processes.device)
        depth = len(as_given.stack.layers)
        models = {"as given": as_given, "pairs": as_given.parallel_pairs(0, depth // 2 * 2)}
        results: dict[str, Any] = gpu_facts() | {"processes": processes.count, "showers per second": {}}
        for name, model in models.items():
            for size in given.batch_sizes:
                label = f"{name}, batch size {size}"
                found = measured(model, config, size, given.seconds, processes)
                results["showers per second"][label] = found
                if processes.rank == 0:
                    note(f"{label}: {found}")
        if processes.rank == 0:
            give(results, given.json)


def measured(
    model: ShowerGenerator, config: ShowerConfig, size: int, seconds: float, processes: Processes
) -> dict[str, float]:
    """Return the showers per second on one GPU and on all of them."""

    def sample(count: int) -> None:
        sample_showers(model, config, count, seed=SEED, batch_size=size)

    if processes.rank == 0:
        alone = rate(sample, size, seconds)["showers_per_second"]
    distributed.barrier()
    whole, model.stack = model.stack, tensor_parallel(model.stack, processes)
    # All processes must sample as many showers, so the first one chooses their number.
    count = torch.tensor([int(seconds * alone) if processes.rank == 0 else 0], device=processes.device)
    processes.broadcast_(count)
    sample(max(2, size))  # compiles
    start = time.perf_counter()
    sample(int(count))
    together = int(count) / (time.perf_counter() - start)
    model.stack = whole
    return {"one GPU": round(alone, 1), "together": round(together, 1)} if processes.rank == 0 else {}


if __name__ == "__main__":
    main()

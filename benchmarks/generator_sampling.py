"""Time the sampling of showers on a CPU.

    python benchmarks/generator_sampling.py small.ckpt [other.ckpt ...] [--batch-sizes 1 100 1024] [--threads 1 2]
                                            [--seconds 10] [--json results.json]

For each checkpoint of ``supa mamba train-generator``, the script prints showers per second and milliseconds per shower,
beside those of the reference without a state, which computes the whole sequence again for each hit. All of them make
the same showers. A number of showers is chosen such that a measurement takes about the given time; compilation is not
part of it.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import give, note, torch_facts

from supa_mamba import GeneratorCheckpoint, sample_showers
from supa_mamba.generator.sampling.naive import naive_sample

SEED = 1


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 100, 1024])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = torch_facts() | {"checkpoints": {}}
    for path in given.checkpoints:
        results["checkpoints"][path.name] = measured(path, given)
    give(results, given.json)


def measured(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return the rates of a checkpoint."""
    checkpoint = GeneratorCheckpoint.load(path)
    model, config = checkpoint.model(), checkpoint.shower_configs[0]
    rows: dict[str, Any] = {
        "model": checkpoint.config.generator.to_dict(),
        "parameters": sum(weights.numel() for weights in model.parameters()),
    }

    def sample(count: int, batch_size: int) -> None:
        sample_showers(model, config, count, seed=SEED, batch_size=batch_size)

    def sample_without_state(count: int) -> None:
        for index in range(count):
            naive_sample(model, config, SEED, index)

    for threads in given.threads:
        torch.set_num_threads(threads)
        for batch_size in given.batch_sizes:
            name = f"batch size {batch_size}, threads {threads}"
            rows[name] = rate(partial(sample, batch_size=batch_size), batch_size, given.seconds)
            note(f"{path.name}: {name}: {rows[name]}")
        name = f"without a state, threads {threads}"
        rows[name] = rate(sample_without_state, 1, given.seconds)
        note(f"{path.name}: {name}: {rows[name]}")
    return rows


def rate(run: Any, first: int, seconds: float) -> dict[str, float]:
    """Return the rate of a function of a number of showers, called for about the given time."""
    run(2)  # compiles
    count, taken = first, 0.0
    while True:
        start = time.perf_counter()
        run(count)
        taken = time.perf_counter() - start
        if taken > seconds / 2:
            break
        count = max(count + 1, int(np.clip(0.9 * seconds / max(taken, 1e-3), 1.5, 20) * count))
    return {
        "showers": count,
        "showers_per_second": round(count / taken, 1),
        "ms_per_shower": round(1e3 * taken / count, 3),
    }


if __name__ == "__main__":
    main()

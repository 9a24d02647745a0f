"""Time the sampling of showers on a CPU or a GPU.

    python benchmarks/generator_sampling.py small.ckpt [other.ckpt ...] [--device cuda] [--batch-sizes 1 100 1024]
                                            [--threads 1 2] [--seconds 10] [--json results.json]

For each checkpoint of ``supa mamba train-generator``, the script prints showers per second and milliseconds per shower,
beside those of a sampler without a state, which computes the whole sequences again for each hit. On a CPU this is the
reference for one shower at a time; on a GPU it is a batch of showers, all of which run to the largest number of hits of
the batch. A number of showers is chosen such that a measurement takes about the given time; compilation is not part of
it.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import give, gpu_facts, note, torch_facts
from torch import Tensor

from supa import ShowerConfig
from supa_mamba import GeneratorCheckpoint, ShowerGenerator, sample_showers
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import Previous
from supa_mamba.generator.sampling.choices import after_hits, before_first_hits, choose_hits, choose_profiles
from supa_mamba.generator.sampling.naive import naive_sample
from supa_mamba.generator.sampling.uniforms import PER_HIT, PER_SLICE

SEED = 1
BATCH_SIZES = {"cpu": [1, 100, 1024], "cuda": [1, 100, 1024, 4096, 10_000]}
PADDED = 512  # showers of the sampler without a state on a GPU


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch-sizes", nargs="+", type=int)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="on a CPU")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = (gpu_facts() if given.device == "cuda" else torch_facts()) | {"checkpoints": {}}
    for path in given.checkpoints:
        results["checkpoints"][path.name] = measured(path, given)
    give(results, given.json)


def measured(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return the rates of a checkpoint."""
    checkpoint = GeneratorCheckpoint.load(path)
    model, config = checkpoint.model().to(given.device), checkpoint.shower_configs[0]
    rows: dict[str, Any] = {
        "model": checkpoint.config.generator.to_dict(),
        "parameters": sum(weights.numel() for weights in model.parameters()),
    }

    def sample(count: int, batch_size: int) -> None:
        sample_showers(model, config, count, seed=SEED, batch_size=batch_size)

    def add(name: str, run: Callable[[int], Any], first: int) -> None:
        rows[name] = rate(run, first, given.seconds)
        note(f"{path.name}: {name}: {rows[name]}")

    if given.device == "cuda":
        for batch_size in given.batch_sizes or BATCH_SIZES["cuda"]:
            add(f"batch size {batch_size}", partial(sample, batch_size=batch_size), batch_size)
        add(f"without a state, batch size {PADDED}", lambda count: sample_to_the_end(model, config, count), PADDED)
        return rows
    for threads in given.threads:
        torch.set_num_threads(threads)
        for batch_size in given.batch_sizes or BATCH_SIZES["cpu"]:
            add(f"batch size {batch_size}, threads {threads}", partial(sample, batch_size=batch_size), batch_size)
        add(
            f"without a state, threads {threads}",
            lambda count: [naive_sample(model, config, SEED, index) for index in range(count)],
            1,
        )
    return rows


@torch.no_grad()
def sample_to_the_end(model: ShowerGenerator, config: ShowerConfig, count: int) -> None:
    """Sample batches of showers without a state, each up to the last hit of its longest shower."""
    device = model.inputs.weight.device
    incident = torch.full((PADDED,), config.spectrum.values[0], dtype=torch.float64, device=device)
    condition = model.coding.conditions(config, incident)
    deposit = torch.full((PADDED,), 1 << SHARE_BITS, device=device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(PADDED, *shape, dtype=torch.float64, device=device)

    for _ in range(0, count, PADDED):
        profile = choose_profiles(model, condition, deposit, uniform(model.coding.num_slices, PER_SLICE))
        before, rest = before_first_hits(*profile, condition)
        total = profile[0].sum(1)
        known: list[Previous] = []
        for length in range(1, int(total.max()) + 1):
            known.append(before)
            # Rows of a shower are neighbours.
            rows = Previous(*(torch.stack(columns, 1).flatten(0, 1) for columns in zip(*known, strict=True)))
            offset = torch.arange(0, PADDED * length + 1, length, device=device)
            hidden: Tensor = model.hidden(rows, offset, max_length=length)[length - 1 :: length]
            energy, logit, position = choose_hits(model, hidden, before, rest, uniform(PER_HIT))
            after, of_next = after_hits(before, energy, position, logit, rest, *profile)
            # The last hit of a shower that is finished is computed again.
            goes_on = length < total
            rest = torch.where(goes_on, of_next, rest)
            before = Previous(
                *(torch.where(goes_on.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(after, before, strict=True))
            )
    if device.type == "cuda":
        torch.cuda.synchronize()


def rate(run: Callable[[int], Any], first: int, seconds: float) -> dict[str, float]:
    """Return the rate of a function of a number of showers, called for about the given time."""
    run(min(first, 2))  # compiles
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

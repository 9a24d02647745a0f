"""Measure the training steps of the generators of showers.

    python benchmarks/generator_training.py [--device cuda] [--showers standard] [--presets small base]
                                            [--models mamba2 transformer] [--steps 200] [--json results.json]

For each preset and model, the script trains on a stream, as `supa mamba train-generator --stream` does, and prints the
time of a step, the rate of showers, the time to validate 10,000 showers and, on a GPU, the peak memory. The first steps
compile kernels and capture CUDA graphs; they are not measured. The time of a step is the mean over all others, because
steps with a new shape of the batch capture a graph.
"""

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import torch
from measuring import give, gpu_facts, note, torch_facts

from supa_learning import Processes
from supa_mamba import GENERATOR_PRESETS, stream_generator_task

WARM_UP = 50  # steps
VALIDATION = 10_000  # showers


def measure(showers: str, preset: str, model: str, steps: int, processes: Processes) -> dict[str, Any]:
    """Train for some steps, and return the times and the nats of the last steps."""
    config = GENERATOR_PRESETS[preset]
    config = config.replace(generator=config.generator.replace(model=model))
    warm_up = min(WARM_UP, steps)
    task = stream_generator_task(
        showers, config, batches_per_epoch=warm_up + steps, validation_showers=VALIDATION, processes=processes
    )
    on_gpu = processes.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with task.session():
        batches = task.batches(0, 0, 0)
        for batch in itertools.islice(batches, warm_up):
            task.update(batch, config.learning_rate)
        elapsed, _ = _timed(lambda: [task.update(batch, config.learning_rate) for batch in batches], on_gpu)
        validation = []
        for _ in range(2):  # the first one compiles
            with torch.no_grad():
                validation.append(_timed(lambda: task.validate(task.validation_batches()), on_gpu))
    result = {
        "parameters": sum(weights.numel() for weights in task.model.parameters()),
        "batch": config.batch_size,
        "precision": config.precision,
        "ms per step": 1e3 * elapsed / steps,
        "showers per second": steps * config.batch_size / elapsed,
        "seconds of a validation": validation[1][0],
        "validation nats per hit": validation[1][1].figures["generator"]["nats_per_hit"],
    }
    return result | ({"peak memory, GB": torch.cuda.max_memory_allocated() / 1e9} if on_gpu else {})


def _timed(function: Any, on_gpu: bool) -> tuple[float, Any]:
    """Return the seconds of a call, and its result."""
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = function()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument("--showers", default="standard", help="preset of the showers")
    parser.add_argument("--presets", nargs="+", default=["small"])
    parser.add_argument("--models", nargs="+", default=["mamba2"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    processes = Processes(device=torch.device(arguments.device))
    facts = gpu_facts() if arguments.device == "cuda" else torch_facts()
    results: dict[str, Any] = {**facts, "threads": arguments.threads}
    for preset, model in itertools.product(arguments.presets, arguments.models):
        name = f"{preset}, {model}, {arguments.showers}"
        results[name] = measure(arguments.showers, preset, model, arguments.steps, processes)
        note(f"{name}: {results[name]}")
    give(results, arguments.json)


if __name__ == "__main__":
    main()

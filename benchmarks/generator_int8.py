"""Measure generators whose layers multiply by integers of 8 bits: what is lost, and the rates of sampling.

    python benchmarks/generator_int8.py pre-norm.ckpt outlier-protected.ckpt [--device cuda] [--showers 10000]
                                        [--batch-sizes 1 100 1024] [--threads 1] [--seconds 5] [--rounds 3]
                                        [--json results.json]

For each checkpoint of ``supa mamba train-generator``, in float32 and with each kind of ``supa_mamba.int8_generator``,
the script prints

- the nats per hit of showers that it simulates,
- the largest pull of a mean of sampled showers against its exact expectation, and the area under the ROC curve of
  boosted trees that distinguish them from true ones, beside those of other true showers,
- the showers per second of the sampler, the best of some rounds in which all kinds take turns.

It also prints the kurtosis of the residual after each layer, which ``block="outlier-protected"`` is meant to lower.
"""

import argparse
import math
from pathlib import Path
from typing import Any, get_args

import torch
from generator_parallel_pairs import BATCH, nats
from generator_sampling import rate
from measuring import best_and_median, give, gpu_facts, note, torch_facts

import supa
from supa.distances import classifier_auc
from supa_mamba import ActivationMonitor, GeneratorCheckpoint, ShowerGenerator, int8_generator, sample_showers
from supa_mamba.generator.sample_comparison import observables_of
from supa_mamba.modules.int8 import Int8

SEED = 11
BATCH_SIZES = {"cpu": [1, 100, 1024], "cuda": [1, 100, 4096]}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--showers", type=int, default=10_000, help="for the likelihood and the comparison")
    parser.add_argument("--batch-sizes", nargs="*", type=int, help="none: no rates")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    results = (gpu_facts() if given.device == "cuda" else torch_facts()) | {"settings": vars(given) | {"json": None}}
    results["settings"]["checkpoints"] = [path.name for path in given.checkpoints]
    results["checkpoints"] = {path.name: measured(path, given) for path in given.checkpoints}
    give(results, given.json)


def measured(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a checkpoint."""
    checkpoint = GeneratorCheckpoint.load(path)
    model, config = checkpoint.model().to(given.device), checkpoint.shower_configs[0]
    true, other = (supa.simulate(given.showers, config, seed=SEED + number) for number in (1, 2))
    result: dict[str, Any] = {"model": checkpoint.config.generator.to_dict(), "kurtosis": kurtosis(model, true)}
    result["true showers"] = quality(true, other)
    models: dict[str, ShowerGenerator] = {"float32": model}
    models |= {kind: int8_generator(model, kind) for kind in get_args(Int8)}
    for name, chosen in models.items():
        sample = sample_showers(chosen, config, given.showers, seed=SEED)
        result[name] = {"nats per hit": nats(chosen, true)} | quality(true, sample)
        note(f"{path.name}: {name}: {result[name]}")
    for size in BATCH_SIZES[given.device] if given.batch_sizes is None else given.batch_sizes:
        rates: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(given.rounds):
            for name, chosen in models.items():

                def draw(count: int, chosen: ShowerGenerator = chosen, size: int = size) -> None:
                    sample_showers(chosen, config, count, seed=SEED, batch_size=size)

                rates[name].append(rate(draw, size, given.seconds)["showers_per_second"])
        for name, of_rounds in rates.items():
            result[name][f"showers per second, batch size {size}"] = best_and_median(of_rounds)["best"]
        note(f"{path.name}: batch size {size}: {rates}")
    return result


def quality(true: supa.Showers, sample: supa.Showers) -> dict[str, float]:
    """Compare a sample with true showers."""
    compared = supa.compare(true, sample, repeats=19, multivariate=False)
    found: dict[str, float] = {}
    pulls = [abs(pull.generated_pull) for pull in compared.pulls if math.isfinite(pull.generated_pull)]
    if pulls:  # the means have closed forms
        found["largest pull"] = round(max(pulls), 2)
    trees = classifier_auc(*observables_of(compared), seed=SEED)
    return found | {"AUC": round(trees.auc, 4), "error of the AUC": round(trees.equal_error, 4)}


@torch.no_grad()
def kurtosis(model: ShowerGenerator, showers: supa.Showers) -> list[float]:
    """Return the kurtosis of the residual after each layer."""
    blocks = {str(number): block for number, block in enumerate(model.stack.layers)}
    with ActivationMonitor(blocks) as monitor:
        model(model.coding.encode(showers[:BATCH]).to(model.inputs.weight.device))
    return [round(of_layer["kurtosis"], 2) for of_layer in monitor.figures().values()]


if __name__ == "__main__":
    main()

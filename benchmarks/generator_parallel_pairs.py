"""Measure generators with pairs of layers side by side: likelihood by the choice of the pairs, and rates of sampling.

    python benchmarks/generator_parallel_pairs.py base.ckpt [other.ckpt ...] [--device cuda] [--showers 2000]
                                                  [--steps 500] [--batch-sizes 1 100 4096] [--seconds 10]
                                                  [--figures high] [--json results.json]

For each checkpoint of ``supa mamba train-generator`` the script prints the nats per hit of showers that it simulates:
as given; with each choice of disjoint pairs of layers; and without one layer of each pair, of both the one whose loss
alone costs less. For the best choice of each number of pairs it also prints both after a training of some ``--steps``
on further simulated showers, with a tenth of the learning rate of the checkpoint, the showers per second of the
samplers, and with ``--figures`` the areas of classifiers that distinguish as many samples from simulated showers. The
fair baseline for wide layers is a generator of half the depth and twice the width that was trained in the same way:
pass its checkpoint, too.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from generator_quality import figures
from generator_sampling import rate
from measuring import give, gpu_facts, note, torch_facts

import supa
from supa_learning import Processes, Trainer
from supa_mamba import GeneratorCheckpoint, ShowerGenerator, sample_showers, stream_generator_task
from supa_mamba.generator.sampling.speculation.drafts import without_layers

SEED, TRAINING_SEED = 11, 12
BATCH = 250  # showers
BATCH_SIZES = {"cpu": [1, 100], "cuda": [1, 16, 256, 4096]}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--showers", type=int, default=2000, help="for the likelihood")
    parser.add_argument("--steps", type=int, default=0, help="of the training of the best choices")
    parser.add_argument("--batch-sizes", nargs="*", type=int, help="none: no rates")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--figures", nargs="+", choices=["high", "low", "hits"], default=[], help="classifiers")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = (gpu_facts() if given.device == "cuda" else torch_facts()) | {"checkpoints": {}}
    for path in given.checkpoints:
        results["checkpoints"][path.name] = measured(path, given)
    give(results, given.json)


def measured(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a checkpoint."""
    checkpoint = GeneratorCheckpoint.load(path)
    model, config = checkpoint.model().to(given.device), checkpoint.shower_configs[0]
    showers = supa.simulate(given.showers, config, seed=SEED)
    depth = len(model.stack.layers)
    result: dict[str, Any] = {"model": checkpoint.config.generator.to_dict(), "as given": nats(model, showers)}
    alone = [nats(without(model, {number}), showers) for number in range(depth)]
    result["without layer"] = alone
    choices: dict[int, dict[tuple[int, ...], dict[str, float]]] = {}
    for pairs in disjoint_pairs(depth):
        try:
            wide = paired(model, pairs)
        except ValueError:  # the layers differ in kind
            continue
        dropped = {min((number, number + 1), key=alone.__getitem__) for number in pairs}
        row = {"side by side": nats(wide, showers), "without a layer of each": nats(without(model, dropped), showers)}
        choices.setdefault(len(pairs), {})[pairs] = row
        note(f"{path.name}: pairs {pairs}: {row}")
    result["pairs"] = {str(list(pairs)): row for of_number in choices.values() for pairs, row in of_number.items()}
    models: dict[str, ShowerGenerator] = {"as given": model}
    for number, of_number in choices.items():
        pairs = min(of_number, key=lambda chosen: of_number[chosen]["side by side"])
        dropped = {min((first, first + 1), key=alone.__getitem__) for first in pairs}
        models[f"{number} side by side: {list(pairs)}"] = paired(model, pairs)
        models[f"{number} without a layer of each: {sorted(dropped)}"] = without(model, dropped)
    result["best"] = {}
    for name, chosen in models.items():
        row = result["best"][name] = {"nats per hit": nats(chosen, showers)}
        if given.steps and len(chosen.stack.layers) == chosen.config.n_layer - len(chosen.config.paired_layers):
            chosen = trained(checkpoint, chosen, given)
            row["nats per hit, trained"] = nats(chosen, showers)
        for size in BATCH_SIZES[given.device] if given.batch_sizes is None else given.batch_sizes:

            def sample(count: int, chosen: ShowerGenerator = chosen, size: int = size) -> None:
                sample_showers(chosen, config, count, seed=SEED, batch_size=size)

            row[f"showers per second, batch size {size}"] = rate(sample, size, given.seconds)["showers_per_second"]
        if given.figures:
            row |= figures(showers, sample_showers(chosen, config, given.showers, seed=SEED + 2), given)
        note(f"{path.name}: {name}: {row}")
    return result


def disjoint_pairs(depth: int, first: int = 0) -> Iterator[tuple[int, ...]]:
    """Return all choices of at least one pair of neighbours without common layers, by the first layers of the pairs."""
    for number in range(first, depth - 1):
        yield (number,)
        for others in disjoint_pairs(depth, number + 2):
            yield (number, *others)


def paired(model: ShowerGenerator, pairs: tuple[int, ...]) -> ShowerGenerator:
    """Return a generator with pairs of layers side by side."""
    for number in pairs:
        model = model.parallel_pairs(number, number + 2)
    return model


def without(model: ShowerGenerator, dropped: set[int]) -> ShowerGenerator:
    """Return a generator without some of its layers."""
    depth = len(model.stack.layers)
    smaller = without_layers(model, [number for number in range(depth) if number not in dropped])
    if model.config.model in ("mamba", "mamba2", "transformer") and not model.config.mamba_layers:
        smaller.config = model.config.replace(n_layer=depth - len(dropped))  # of layers of one kind
    return smaller


@torch.no_grad()
def nats(model: ShowerGenerator, showers: supa.Showers) -> float:
    """Return the nats per hit."""
    device, total = model.inputs.weight.device, 0.0
    for begin in range(0, len(showers), BATCH):
        total -= float(model(model.coding.encode(showers[begin : begin + BATCH]).to(device)).total())
    return round(total / len(showers.x), 4)


def trained(checkpoint: GeneratorCheckpoint, model: ShowerGenerator, given: argparse.Namespace) -> ShowerGenerator:
    """Return a generator after a short training."""
    config = checkpoint.config.replace(
        generator=model.config,
        epochs=1,
        learning_rate=0.1 * checkpoint.config.learning_rate,
        ema=0.99,
        seed=TRAINING_SEED,
    )
    task = stream_generator_task(
        checkpoint.shower_configs,
        config,
        batches_per_epoch=given.steps,
        validation_showers=BATCH,
        initial=model,
        processes=Processes(device=torch.device(given.device)),
    )
    Trainer(task).run()
    assert isinstance(task.model, ShowerGenerator)
    return task.model


if __name__ == "__main__":
    main()

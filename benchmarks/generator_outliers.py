"""Train generators with pre-norm and outlier-protected layers, and measure their outlier features during the training.

    python benchmarks/generator_outliers.py [--preset small] [--models transformer mamba2 mamba] [--n-layer 6]
                                            [--epochs 8] [--batches-per-epoch 100] [--stream critical] [--device cuda]
                                            [--blocks pre-norm outlier-protected] [--learning-rate 4e-3]
                                            [--seeds 0 1] [--checkpoints FOLDER] [--json results.json]
                                            [--image kurtosis.png]

For each model and each kind of block the script trains a generator on simulated showers, and prints after each epoch
the nats per hit of the validation showers, and the statistics of ``supa_mamba.activation_statistics`` of the residual
after each layer: kurtosis, maximum over median, mean cosine between hits, and root mean square. The JSON file is
written after each training, and the image shows the kurtosis and the nats per hit against the number of steps.
Checkpoints, such as transformer-pre-norm-0.ckpt, are for ``generator_int8.py`` and ``supa mamba sample``.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from measuring import give, gpu_facts, note, torch_facts

from supa.plotting.style import COLOURS, hide_frame
from supa_learning import Callback, Epoch, Processes, Trainer
from supa_mamba import (
    GENERATOR_PRESETS,
    GeneratorCheckpoint,
    GeneratorConfig,
    stack_activations,
    stream_generator_task,
)
from supa_mamba.generator.task import GeneratorTask

BLOCKS = ("pre-norm", "outlier-protected")


class Record(Callback):
    """Keep the figures of each epoch."""

    def __init__(self) -> None:
        self.nats: list[float] = []
        self.activations: list[dict[str, list[float]]] = []

    def on_epoch(self, trainer: Trainer[Any], epoch: Epoch) -> None:
        """Measure the layers."""
        self.nats.append(round(epoch.valid["generator"]["nats_per_hit"], 4))
        layers = list(stack_activations(trainer).values())
        self.activations.append({name: [round(of[name], 3) for of in layers] for name in layers[0]})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="small", choices=list(GENERATOR_PRESETS))
    parser.add_argument("--models", nargs="+", default=["transformer", "mamba2", "mamba"])
    parser.add_argument("--blocks", nargs="+", choices=BLOCKS, default=BLOCKS)
    parser.add_argument("--learning-rate", type=float, help="by default that of the preset")
    parser.add_argument("--n-layer", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batches-per-epoch", type=int, default=100)
    parser.add_argument("--stream", default="critical")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--checkpoints", type=Path, help="folder for the trained generators")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--image", type=Path)
    given = parser.parse_args()
    settings = {name: value for name, value in vars(given).items() if name not in ("checkpoints", "json", "image")}
    if given.checkpoints:
        given.checkpoints.mkdir(parents=True, exist_ok=True)
    results = (gpu_facts() if given.device == "cuda" else torch_facts()) | {"settings": settings, "trainings": []}
    for model in given.models:
        for seed in given.seeds:
            for block in given.blocks:
                results["trainings"].append(trained(model, block, seed, given))
                if given.json:
                    given.json.write_text(json.dumps(results, indent=2) + "\n")
    if given.image:
        plot(results).savefig(given.image, dpi=110)
    give(results, given.json)


def trained(model: Any, block: Any, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a training."""
    preset = GENERATOR_PRESETS[given.preset]
    if given.learning_rate:
        preset = preset.replace(learning_rate=given.learning_rate)
    sizes: GeneratorConfig = preset.generator.replace(model=model, n_layer=given.n_layer, block=block)
    config = preset.replace(generator=sizes, epochs=given.epochs, patience=given.epochs, seed=seed)
    task = stream_generator_task(
        given.stream,
        config,
        batches_per_epoch=given.batches_per_epoch,
        validation_showers=2000,
        processes=Processes(device=torch.device(given.device)),
    )
    record, start = Record(), time.perf_counter()
    trainer: Trainer[GeneratorTask] = Trainer(task, callbacks=[record])
    trainer.run()
    found: dict[str, Any] = {"model": model, "block": block, "seed": seed, "nats per hit": record.nats}
    found |= {"seconds": round(time.perf_counter() - start, 1), "after each epoch": record.activations}
    if given.checkpoints:
        GeneratorCheckpoint.of(trainer).save(given.checkpoints / f"{model}-{block}-{seed}.ckpt")
    note(f"{model}, {block}, seed {seed}: {record.nats[-1]} nats per hit, {record.activations[-1]}")
    return found


def plot(results: dict[str, Any]) -> Figure:
    """Draw the kurtosis, averaged over the layers, and the nats per hit, with a column for each model."""
    models, steps = results["settings"]["models"], results["settings"]["batches_per_epoch"]
    figure = Figure(figsize=(4 * len(models), 5.5), layout="constrained")
    panels = figure.subplots(2, len(models), sharex=True, sharey="row", squeeze=False)
    for model, (above, below) in zip(models, panels.T, strict=True):
        for training in results["trainings"]:
            if training["model"] != model:
                continue
            layers = [epoch["kurtosis"] for epoch in training["after each epoch"]]
            x = [steps * (number + 1) for number in range(len(layers))]
            colour = COLOURS[BLOCKS.index(training["block"])]
            label = training["block"] if training["seed"] == results["settings"]["seeds"][0] else None
            above.plot(x, [sum(of) / len(of) for of in layers], color=colour, label=label)
            above.fill_between(x, [min(of) for of in layers], [max(of) for of in layers], color=colour, alpha=0.2, lw=0)
            below.plot(x, training["nats per hit"], color=colour)
        for axes in (above, below):
            hide_frame(axes)
        above.set_title(model)
        below.set_xlabel("steps of training")
    panels[0, 0].set_ylabel("kurtosis of the residual\n(mean and range of the layers)")
    panels[1, 0].set_ylabel("nats per hit, validation")
    panels[0, 0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()

"""Train encoders of showers for all tasks, and compare them with baselines that count hits.

    python benchmarks/mamba_showers.py [--showers 100000] [--tasks preset] [--epochs 20] [--device cuda] [--json FILE]

80 % of the showers are used for training, 10 % for the choice of the best epoch, and 10 % for the test. All showers are
packed in the memory of the device. For a quick run on a CPU:

    python benchmarks/mamba_showers.py --showers 1000 --epochs 4 --batch 32 --width 32 --layers 2

To train on two GPUs, start the script with torchrun. Process 0 prints its own peak memory.

    torchrun --nproc-per-node 2 benchmarks/mamba_showers.py --tasks incident_energy --epochs 3 [--without-graphs]
"""

import argparse
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import give, machine

import supa
from supa_datasets.loaders.tasks import SHOWER_TASKS
from supa_learning import Callback, Epoch, Processes, Trainer, torchrun_processes
from supa_mamba.config import TrainingConfig
from supa_mamba.evaluation import evaluate
from supa_mamba.training import training_task

RECOGNISED = ("standard", "reference", "symmetric", "critical", "two-primaries")
"""Presets to classify. They have similar sizes, and differ in more than their readout layers."""


def simulated(task: str, count: int) -> Any:
    """Simulate the showers of a task."""
    if task == "num_primaries":
        return supa.simulate(count, supa.preset("two-primaries").replace(num_primaries="poisson:2"), seed=1)
    if task == "preset":
        return [supa.simulate(count // len(RECOGNISED), name, seed=1) for name in RECOGNISED]
    if task == "incident_energy":
        return supa.simulate(count, "critical", seed=1, record="particles")  # for the Bayes-optimal estimate
    return supa.simulate(count, "two-primaries", seed=1)


class Printer(Callback):
    """Print the figures of each epoch."""

    def on_epoch(self, _trainer: Trainer[Any], epoch: Epoch) -> None:
        """Print the figures of an epoch."""
        print(f"  epoch {epoch.epoch}  {epoch.train}  {epoch.valid}  {epoch.seconds:.1f} s", flush=True)


def measured(target: str, arguments: argparse.Namespace, processes: Processes) -> dict[str, Any]:
    """Train one encoder, and evaluate it in process 0."""
    began = time.perf_counter()
    showers = simulated(target, arguments.showers)
    simulating = time.perf_counter() - began
    config = TrainingConfig(
        target=target,
        d_model=arguments.width,
        n_layer=arguments.layers,
        epochs=arguments.epochs,
        patience=arguments.epochs,
        batch_size=arguments.batch,
        learning_rate=arguments.learning_rate,
        precision=arguments.precision,
    )
    callbacks = []
    if processes.rank == 0:
        print(f"{target}: simulated in {simulating:.1f} s", flush=True)
        callbacks.append(Printer())
    began = time.perf_counter()
    task = training_task(showers, config, processes=processes, cuda_graphs=not arguments.without_graphs)
    trainer = Trainer(task, callbacks=callbacks)
    trainer.run()
    whole = time.perf_counter() - began
    if processes.rank > 0:
        return {}
    seconds = [epoch.seconds for epoch in trainer.state.history]
    evaluation = evaluate(task.encoder, task.encoding, task.baseline, showers, device=str(processes.device))
    facts: dict[str, Any] = {
        **evaluation.figures(),
        "train_showers": len(task.train),
        "best_epoch": trainer.state.best_epoch,
        "epochs": len(seconds),
        "seconds": whole,
        "seconds_of_epochs": sum(seconds),
        # The median excludes the first epoch, which includes compilation.
        "showers_per_second": len(task.train) / float(np.median(seconds)),
        "parameters": sum(p.numel() for p in task.encoder.parameters()),
        "config": config.to_dict(),
        "history": [vars(epoch) for epoch in trainer.state.history],
    }
    if arguments.device == "cuda":
        facts["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        # This includes memory that PyTorch keeps, for graphs and for later use.
        facts["peak_reserved_memory_gb"] = torch.cuda.max_memory_reserved() / 1e9
    if target == "incident_energy":
        facts["by_energy"] = evaluation.by_energy(8)
    return facts


def main() -> None:
    """Run the selected tasks and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--showers", type=int, default=100_000)
    parser.add_argument("--tasks", nargs="+", choices=tuple(SHOWER_TASKS), default=tuple(SHOWER_TASKS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--without-graphs", action="store_true", help="launch each kernel from Python")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with torchrun_processes(arguments.device) as processes:
        results: dict[str, Any] = {
            "machine": machine(),
            "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
            "processes": processes.count,
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        }
        for task in arguments.tasks:
            results[task] = measured(task, arguments, processes)
            if processes.rank == 0:
                give(results, arguments.json)


if __name__ == "__main__":
    main()

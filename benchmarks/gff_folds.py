"""Measure how long a cross-validation of graph networks takes, with all folds in one program or one after another.

    python benchmarks/gff_folds.py --root FOLDER [--dataset NCI1] [--method best] [--folds 10] [--seeds 1]
        [--device cuda] [--single 2] [--no-graphs] [--json FILE]

FOLDER contains the raw files of the benchmark (see ``supa_datasets.load_benchmark``). The folds are first trained
together. Then ``--single`` of them are trained one after another by the usual trainer, and their time is extrapolated
to all of them. ``--no-graphs`` trains the folds together without CUDA graphs.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from measuring import give, machine, note

import supa
from supa_datasets import load_benchmark
from supa_gff import GraphSet, Network, preset, train
from supa_gff.bench.resources import Meter
from supa_gff.stacked.training import Member, step_parts, train_together
from supa_learning.folds import SPLIT_SEED, stratified_folds
from supa_learning.graph_baselines import targets_of
from supa_learning.metrics import accuracy


def members_of(graphs: GraphSet, folds: Any, method: str, seeds: int, epochs: int | None) -> list[Member]:
    """Return new networks for all folds and seeds."""
    settings = preset(method) if epochs is None else preset(method).replace(epochs=epochs)
    return [
        Member(
            Network.for_graphs(settings, graphs, seed=seed),
            torch.from_numpy(fold.train).to(graphs.device),
            torch.from_numpy(fold.valid).to(graphs.device),
            seed,
        )
        for seed in range(seeds)
        for fold in folds
    ]


def main() -> None:
    """Measure both ways and print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--dataset", default="NCI1")
    parser.add_argument("--method", default="best")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--single", type=int, default=2)
    parser.add_argument("--no-graphs", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    benchmark = load_benchmark(options.dataset, root=options.root)
    graphs = GraphSet.of_benchmark(benchmark).to(options.device)
    folds = stratified_folds(targets_of(benchmark), folds=options.folds, seed=SPLIT_SEED, valid_share=0.1)

    # Members with equal numbers of batches are trained together. Stratified folds differ by a graph or two.
    members = members_of(graphs, folds, options.method, options.seeds, options.epochs)
    groups: dict[tuple[int, ...], list[Member]] = {}
    for member in members:
        groups.setdefault(step_parts(len(member.train), member.network.method), []).append(member)
    with Meter() as together:
        for group in groups.values():
            train_together(group, graphs, capture=not options.no_graphs)
    accuracies = []
    for member, fold in zip(members, folds * options.seeds, strict=True):
        scores, target = member.network.scores_of(graphs.batches(torch.from_numpy(fold.test).to(graphs.device), 256))
        accuracies.append(100 * accuracy(member.network.aggregate(scores), target))
    note(f"together: {together.cost.wall_seconds:.1f} s, accuracy {statistics.fmean(accuracies):.1f}")

    seconds = []
    for member in members_of(graphs, folds, options.method, 1, options.epochs)[: options.single]:
        before = time.perf_counter()
        train(member.network, graphs, member.train, member.valid, seed=member.seed)
        seconds.append(time.perf_counter() - before)
        note(f"one: {seconds[-1]:.1f} s")
    results = {
        "machine": machine(),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "versions": {"supa": supa.__version__, "torch": torch.__version__},
        "date": time.strftime("%Y-%m-%d"),
        **{name: getattr(options, name) for name in ("dataset", "method", "folds", "seeds", "epochs")},
        "together_seconds": together.cost.wall_seconds,
        "together_memory_mib": together.cost.peak_memory_bytes / 2**20,
        "together_joules": together.cost.energy_joules,
        "together_accuracy": statistics.fmean(accuracies),
        "single_seconds": seconds,
    }
    if seconds:
        results["all_single_seconds"] = statistics.fmean(seconds) * len(members)
        results["speed_up"] = results["all_single_seconds"] / together.cost.wall_seconds
    give(results, options.json)


if __name__ == "__main__":
    main()

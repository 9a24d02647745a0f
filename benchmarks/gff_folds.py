"""Measure how long a cross-validation of graph networks takes, with all folds in one program or one after another.

    python benchmarks/gff_folds.py --root FOLDER [--datasets NCI1 ...] [--method best] [--changes JSON] [--folds 10]
        [--seeds 1] [--device cuda] [--single 2] [--no-graphs] [--json FILE]

FOLDER contains the raw files of the benchmark (see ``supa_datasets.load_benchmark``). The folds are first trained
together. Then ``--single`` of them are trained one after another by the usual trainer, and their time is extrapolated
to all of them. ``--no-graphs`` trains the folds together without CUDA graphs. ``--changes`` replaces settings of the
method, such as '{"loss": {"part": "Softmax", "smoothing": 0.1}}'. Accuracies on the validation parts are for choices;
those on the test parts are for their confirmation.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import give, machine, note

import supa
from supa_datasets import load_benchmark
from supa_gff import GraphSet, Method, Network, preset, train
from supa_gff.bench.resources import Meter
from supa_gff.stacked.training import Member, step_parts, train_together
from supa_learning.folds import SPLIT_SEED, Fold, stratified_folds
from supa_learning.graph_baselines import targets_of
from supa_learning.metrics import accuracy


def members_of(graphs: GraphSet, folds: Sequence[Fold], method: Method, seeds: int) -> list[Member]:
    """Return new networks for all folds and seeds."""
    return [
        Member(
            Network.for_graphs(method, graphs, seed=seed),
            torch.from_numpy(fold.train).to(graphs.device),
            torch.from_numpy(fold.valid).to(graphs.device),
            seed,
        )
        for seed in range(seeds)
        for fold in folds
    ]


def measured(dataset: str, method: Method, options: argparse.Namespace) -> dict[str, Any]:
    """Train the folds of a dataset together, and some of them one after another."""
    benchmark = load_benchmark(dataset, root=options.root)
    graphs = GraphSet.of_benchmark(benchmark).to(options.device)
    folds = stratified_folds(targets_of(benchmark), folds=options.folds, seed=SPLIT_SEED, valid_share=0.1)
    # Members with equal numbers of batches are trained together. Stratified folds differ by a graph or two.
    members = members_of(graphs, folds, method, options.seeds)
    groups: dict[tuple[int, ...], list[Member]] = {}
    for member in members:
        groups.setdefault(step_parts(len(member.train), method), []).append(member)
    with Meter() as together:
        for group in groups.values():
            train_together(group, graphs, capture=not options.no_graphs)

    def mean_accuracy(part: str) -> float:
        found = []
        for member, fold in zip(members, folds * options.seeds, strict=True):
            indices = torch.from_numpy(getattr(fold, part)).to(graphs.device)
            scores, target = member.network.scores_of(graphs.batches(indices, 256))
            found.append(100 * accuracy(member.network.aggregate(scores), target))
        return statistics.fmean(found)

    results: dict[str, Any] = {
        "seconds": together.cost.wall_seconds,
        "memory_mib": together.cost.peak_memory_bytes / 2**20,
        "joules": together.cost.energy_joules,
        "valid_accuracy": mean_accuracy("valid"),
        "test_accuracy": mean_accuracy("test"),
    }
    note(f"{dataset}: {results}")
    seconds = []
    for member in members_of(graphs, folds, method, 1)[: options.single]:
        before = time.perf_counter()
        train(member.network, graphs, member.train, member.valid, seed=member.seed)
        seconds.append(time.perf_counter() - before)
        note(f"{dataset}, one fold alone: {seconds[-1]:.1f} s")
    if seconds:
        results["seconds_of_one_alone"] = seconds
        results["speed_up"] = statistics.fmean(seconds) * len(members) / together.cost.wall_seconds
    return results


def main() -> None:
    """Measure both ways and print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--datasets", nargs="+", default=["NCI1"])
    parser.add_argument("--method", default="best")
    parser.add_argument("--changes", type=json.loads, default={})
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--single", type=int, default=2)
    parser.add_argument("--no-graphs", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    method = Method.from_dict(preset(options.method).to_dict() | options.changes)
    results = {
        "machine": machine(),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "versions": {"supa": supa.__version__, "torch": torch.__version__},
        "date": time.strftime("%Y-%m-%d"),
        **{name: getattr(options, name) for name in ("method", "changes", "folds", "seeds")},
        "datasets": {dataset: measured(dataset, method, options) for dataset in options.datasets},
    }
    give(results, options.json)


if __name__ == "__main__":
    main()

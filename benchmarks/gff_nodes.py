"""Compare local training on nodes and links with backpropagation and with published results.

    python benchmarks/gff_nodes.py --root FOLDER [--datasets Cora ...] [--methods best ...] [--seeds 5] [--device cuda]
        [--json FILE]

FOLDER contains the raw files of the benchmarks (see ``supa_datasets.load_benchmark``) and, for the splits of ForwardGNN
(arXiv 2403.11004), forwardgnn-node-5splits.zip by its authors. Each run appends one line of JSON to FILE. The printed
table is Markdown. A greedy network is trained once with four layers; its first layers provide the results of the
shallower networks.
"""

import argparse
import io
import json
import statistics
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from measuring import machine

from supa_datasets import load_benchmark
from supa_gff import GraphSet, Network, Pairs, preset, split_links
from supa_gff import train as train_network
from supa_learning import metrics

FORWARDGNN = "forwardgnn-node-5splits.zip"


@dataclass(frozen=True)
class Case:
    """Method and dataset to run.

    Args:
        dataset: Name of the benchmark.
        method: Name of the preset.
        splits: ``"official"``: the five splits of ForwardGNN; ``"public"``: the splits of the dataset; ``"random"``:
            64/16/20 percent of the nodes; ``"links"``: 64/16/20 percent of the links.
        layers: Number of layers.
        published: Published results in percent, by number of layers.
    """

    dataset: str
    method: str
    splits: str
    layers: int
    published: dict[int, float] = field(default_factory=dict)


CORA_ML, PHOTO, CITESEER = "CitationFull-Cora_ML", "Amazon-Photo", "CitationFull-CiteSeer"

CASES = [
    Case(CORA_ML, "single-forward", "official", 4, {1: 87.75, 2: 87.95, 3: 88.15, 4: 88.48}),
    Case(PHOTO, "single-forward", "official", 4, {1: 93.67, 2: 93.73, 3: 93.48, 4: 93.48}),
    Case(CITESEER, "single-forward", "official", 4, {1: 92.60, 2: 94.18, 3: 94.33, 4: 94.66}),
    Case(CITESEER, "label-appending", "official", 2, {1: 95.39, 2: 95.86}),
    Case(CORA_ML, "label-appending", "official", 2, {1: 81.74, 2: 63.77}),
    Case(CITESEER, "top-to-input", "official", 2, {2: 94.78}),
    Case(CITESEER, "top-to-loss", "official", 2, {2: 94.11}),
    Case(CORA_ML, "link-cross-entropy", "links", 4, {1: 91.77, 2: 93.30, 4: 93.30}),
    Case(CORA_ML, "link-goodness", "links", 4, {1: 91.91, 2: 92.46, 4: 92.46}),
    Case(CORA_ML, "symba", "links", 4, {1: 87.68, 2: 87.52, 4: 87.52}),
    Case(CORA_ML, "backprop", "links", 2),
    *(
        Case(dataset, method, splits, 2)
        for dataset, splits in (
            ("Cora", "public"), (CORA_ML, "official"), (PHOTO, "official"), ("CiteSeer", "public"),
            ("PubMed", "public"), ("Coauthor-CS", "random"), ("Texas", "public"), ("Wisconsin", "public"),
            ("Cornell", "public"),
        )
        for method in ("backprop", "best")
    ),
]  # fmt: skip


def official_split(root: Path, dataset: str, number: int) -> list[torch.Tensor]:
    """Return the training, validation and test nodes of a split of ForwardGNN."""
    found = sorted(root.rglob(FORWARDGNN))
    if not found:
        raise SystemExit(f"{root} does not contain {FORWARDGNN}. Copy it there, or choose other --datasets.")
    with zipfile.ZipFile(found[0]) as archive:
        return [
            torch.load(io.BytesIO(archive.read(f"{dataset}/node-5splits/{part}-node-index-split{number}.pt"))).long()
            for part in ("train", "val", "test")
        ]


def node_splits(case: Case, root: Path, data: Any, runs: int) -> Iterator[list[torch.Tensor]]:
    """Yield the training, validation and test nodes of each run. A single public split is repeated."""
    for run in range(runs):
        if case.splits == "official":
            yield official_split(root, case.dataset, run)
        elif case.splits == "random":
            order = torch.randperm(data.num_nodes, generator=torch.Generator().manual_seed(run))
            train, valid = int(0.64 * len(order)), int(0.8 * len(order))
            yield [order[:train], order[train:valid], order[valid:]]
        else:
            masks = [data.train_mask, data.val_mask, data.test_mask]
            columns = [mask[:, run] if mask.dim() == 2 else mask for mask in masks]
            yield [column.nonzero().view(-1) for column in columns]


def run_nodes(case: Case, graphs: GraphSet, split: list[torch.Tensor], seed: int) -> list[dict[str, Any]]:
    """Train once on nodes and return the test accuracy by number of layers."""
    train, valid, test = (part.to(graphs.device) for part in split)
    method = preset(case.method, "node").replace(layers=case.layers)
    network = Network.for_graphs(method, graphs, seed=seed)
    train_network(network, graphs, train, valid, seed=seed)
    # As published: class nodes are connected to training nodes only; label injection also uses validation labels.
    known = torch.cat([train, valid]) if method.label_conditioned else train
    batch = graphs.batch(test, known)
    return by_layers(network, batch)


def run_links(case: Case, graphs: GraphSet, seed: int) -> list[dict[str, Any]]:
    """Train once on links and return the area under the ROC curve by number of layers."""
    split = split_links(graphs, seed=seed)
    method = preset(case.method, "link").replace(layers=case.layers)
    network = Network(method, graphs.num_features, 1, "link", seed=seed).to(graphs.device)
    train_network(network, Pairs(split.train, split.valid), seed=seed)
    return by_layers(network, split.test)


def by_layers(network: Network, batch: Any) -> list[dict[str, Any]]:
    """Return the test metric of a network and, after greedy training, of its first layers."""
    scores = network.layer_scores(batch)
    depths = range(1, len(scores) + 1) if network.method.schedule == "greedy" else [len(scores)]
    metric = metrics.accuracy if network.level == "node" else lambda s, t: metrics.roc_auc(s[:, 0], t)
    return [{"layers": depth, "test": metric(network.aggregate(scores[:depth]), batch.target)} for depth in depths]


def run_case(case: Case, root: Path, cache: Path | None, runs: int, device: str) -> Iterator[dict[str, Any]]:
    """Run a case and yield one record for each run and number of layers."""
    benchmark = load_benchmark(case.dataset, root=root, cache=cache)
    graphs = GraphSet.of_benchmark(benchmark).normalised_rows().to(device)
    splits = node_splits(case, root, benchmark.graphs[0], runs) if case.splits != "links" else iter([None] * runs)
    for run, split in enumerate(splits):
        seed = 10100 + 3 * run
        started = time.perf_counter()
        results = run_links(case, graphs, seed) if split is None else run_nodes(case, graphs, split, seed)
        seconds = time.perf_counter() - started
        for result in results:
            yield {
                "dataset": case.dataset,
                "method": case.method,
                "splits": case.splits,
                "run": run,
                "seconds": seconds,
                "published": case.published.get(result["layers"]),
                **result,
            }


def table(records: list[dict[str, Any]]) -> str:
    """Return a Markdown table with the mean and standard deviation over runs in percent."""
    lines = [
        "| data | splits | method | layers | runs | measured | published | s per run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        key = tuple(record[name] for name in ("dataset", "splits", "method", "layers"))
        groups.setdefault(key, []).append(record)
    for (dataset, splits, method, layers), group in groups.items():
        values = [100 * record["test"] for record in group]
        spread = f" ± {statistics.pstdev(values):.2f}" if len(values) > 1 else ""
        measured = f"{statistics.mean(values):.2f}{spread}"
        published = "" if group[0]["published"] is None else f"{group[0]['published']:.2f}"
        seconds = f"{statistics.mean(record['seconds'] for record in group):.0f}"
        cells = (dataset, splits, method, str(layers), str(len(values)), measured, published, seconds)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, required=True, help="folder of the raw files")
    parser.add_argument("--cache", type=Path, help="folder for unpacked files")
    parser.add_argument("--datasets", nargs="+", help="only these")
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument(
        "--seeds", type=int, default=5, help="number of runs (splits, or seeds for a dataset with one split)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="file to which each run appends one line")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    records = []
    for case in CASES:
        chosen_data = arguments.datasets is None or case.dataset in arguments.datasets
        if not chosen_data or not (arguments.methods is None or case.method in arguments.methods):
            continue
        for record in run_case(case, arguments.root, arguments.cache, arguments.seeds, arguments.device):
            on_gpu = arguments.device.startswith("cuda")
            record["machine"] = torch.cuda.get_device_name() if on_gpu else machine()
            records.append(record)
            if arguments.json:
                with arguments.json.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    print(table(records))


if __name__ == "__main__":
    main()

"""Train on a graph that does not fit in memory: greedy layers on kept inputs, beside neighbour sampling.

    python benchmarks/gff_out_of_core.py [--nodes 100000] [--edges 2000000] [--features 128] [--layers 8]
        [--device cuda] [--threads 2] [--parts graph local sampled pipeline] [--folder out_of_core]

The full size is --nodes 10000000 --edges 200000000. It needs 6 GiB of disk for the graph and 15 GiB for kept inputs.

The graph has a power-law degree distribution with exponent 2.5. An edge joins nodes of the same class with probability
--homophily, and any nodes otherwise. One node in ten is informative: its features are those of its class, with noise.
The features of all others are noise. Only others are in the training, validation and test parts, so a model without
edges predicts at chance level (one over the number of classes).

The parts run one after another, each in a process of its own:

graph: write the graph to the folder, in blocks.
local: greedy training of a GCN with a linear head in each layer, on kept inputs on disk. The epochs of a layer use no
    edges. Then the validation and test nodes are predicted, again in blocks.
sampled: backpropagation through the same kind of layers on neighbourhoods that are sampled for each batch, until the
    validation accuracy of "local" or the limit of epochs or seconds is reached. --sampled 3x10 has three layers and ten
    sampled neighbours of each node. NeighborLoader of PyTorch Geometric needs pyg-lib or torch-sparse; without them
    its NodeLoader is used with the sampler of neighbour_sampling.py, which reads the edges on disk.
pipeline: "local" with --turns passes over the layers, in one process and then in two that train in a pipeline (on a
    GPU each, if the device is cuda).

Memory is the largest anonymous memory of a process (RssAnon), which excludes the cache of the operating system and
includes the libraries: about 0.3 GiB for PyTorch. A part that was interrupted continues when the command is repeated,
and finished parts are not repeated. The results are in FOLDER/results.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from measuring import give, note, torch_facts
from neighbour_sampling import sampled_batch, sampled_loader
from torch import Tensor

from supa.arrays import IntArray
from supa_gff import DiskGraph, Method, Network, node_scores, train, update_rule, write_disk_graph
from supa_gff.heads import Head
from supa_learning import Callback, torchrun_processes

PARTS = ("graph", "local", "sampled", "pipeline")
MOST_TESTED = 100_000
NODES_PER_BLOCK, EDGES_PER_BLOCK = 100_000, 2_000_000


class Memory:
    """Largest anonymous memory of this process, read every 20 ms."""

    def __init__(self) -> None:
        self.peak, self._end = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def results(self) -> dict[str, float]:
        """Return the peaks in MiB: of the anonymous memory, and of the GPU if one was used."""
        self._end.set()
        self._thread.join()
        peaks = {"anonymous_mib": round(self.peak / 1024)}
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            peaks["gpu_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
        return peaks

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.peak = max(self.peak, int(line.split()[1]))


class Progress(Callback):
    """Print each epoch, and add up the time of all epochs."""

    def __init__(self) -> None:
        self.epochs_s, self._start = 0.0, time.perf_counter()

    def on_epoch(self, trainer: Any, epoch: Any) -> None:
        """Print an epoch."""
        self.epochs_s += epoch.seconds
        (layer,) = epoch.train
        note(
            f"  {time.perf_counter() - self._start:7.1f} s: {layer}, epoch {epoch.epoch}: {epoch.seconds:.2f} s, "
            f"validation accuracy {epoch.score:.4f}"
        )


def node_blocks(given: argparse.Namespace) -> Iterator[tuple[npt.NDArray[np.float32], IntArray]]:
    """Yield features and classes. The class of a node is its number modulo the number of classes."""
    centres = np.random.default_rng(1).standard_normal((given.classes, given.features), dtype=np.float32)
    for start in range(0, given.nodes, NODES_PER_BLOCK):
        node = np.arange(start, min(start + NODES_PER_BLOCK, given.nodes))
        x = np.random.default_rng((2, start)).standard_normal((len(node), given.features), dtype=np.float32)
        informative = group_of(node, given.classes) == 0
        x[informative] = given.signal * centres[node[informative] % given.classes] + x[informative]
        yield x, node % given.classes
        if start % 1_000_000 == 0:
            note(f"  nodes from {start:,}")


def edge_blocks(given: argparse.Namespace) -> Iterator[IntArray]:
    """Yield random edges in both directions."""
    nodes, classes = given.nodes, given.classes
    for start in range(0, given.edges // 2, EDGES_PER_BLOCK):
        count = min(EDGES_PER_BLOCK, given.edges // 2 - start)
        random = np.random.default_rng((3, start))
        # A density proportional to number ** (-2/3) gives degrees with the exponent 1 + 3/2.
        ends = (nodes * random.random((2, count), dtype=np.float64) ** 3).astype(np.int32)
        same = random.random(count, dtype=np.float32) < given.homophily
        moved = ends[1] - ends[1] % classes + ends[0] % classes
        ends[1] = np.where(same, np.where(moved < nodes, moved, moved - classes), ends[1])
        yield np.concatenate([ends, ends[::-1]], axis=1)
        if start % (10 * EDGES_PER_BLOCK) == 0:
            note(f"  edges from {2 * start:,}")


def group_of(node: IntArray, classes: int) -> IntArray:
    """Return the group of nodes: 0 is informative, 1 is for training, 2 for validation, 3 for the test."""
    return node // classes * 7919 % 10


def split(given: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor]:
    """Return the training, validation and test nodes: one tenth each, and at most 100,000 of the last two."""
    node = np.arange(given.nodes)
    group = group_of(node, given.classes)
    random = np.random.default_rng(4)
    parts = [node[group == 1]]
    for k in (2, 3):
        own = node[group == k]
        parts.append(np.sort(random.choice(own, min(MOST_TESTED, len(own)), replace=False)))
    train_nodes, valid_nodes, test_nodes = (torch.from_numpy(part) for part in parts)
    return train_nodes, valid_nodes, test_nodes


def method(given: argparse.Namespace, **changes: Any) -> Method:
    """Return the greedy GCN."""
    settings: dict[str, Any] = {
        "score": Head("linear"), "conv": "gcn", "schedule": "greedy", "normalisation": "layer",
        "layers": given.layers, "hidden_channels": given.hidden, "epochs": given.epochs, "patience": given.epochs,
        "batch_size": given.batch, "learning_rate": given.learning_rate, "lr_step_size": None,
        "layers_used": "chosen",
    }  # fmt: skip
    return Method(**settings | changes)


def accuracy(scores: Tensor, target: Tensor) -> float:
    """Return the fraction of correct predictions."""
    return float((scores.argmax(1).cpu() == target.cpu()).float().mean())


def write_graph(given: argparse.Namespace) -> dict[str, Any]:
    """Write the graph."""
    start = time.perf_counter()
    folder = given.folder / "graph"
    if folder.exists():
        shutil.rmtree(folder)
    graph = write_disk_graph(folder, node_blocks(given), edge_blocks(given), num_outputs=given.classes)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "largest_degree": len(graph.deg) - 1, "gib": size(folder)}


def size(folder: Path) -> float:
    """Return the size of the files of a folder in GiB."""
    return round(sum(path.stat().st_size for path in folder.iterdir()) / 2**30, 3)


def run_local(given: argparse.Namespace, device: str) -> dict[str, Any]:
    """Train on kept inputs, and predict the test nodes."""
    graph = DiskGraph(given.folder / "graph")
    train_nodes, valid_nodes, test_nodes = split(given)
    network = Network.for_graphs(method(given), graph).to(device)
    progress, start = Progress(), time.perf_counter()
    train(network, graph, train_nodes, valid_nodes, cache=given.folder / "local", callbacks=[progress])
    trained = time.perf_counter()
    note(f"  {trained - start:.1f} s: trained; predict the validation and test nodes")
    nodes = torch.cat([valid_nodes, test_nodes])
    scores = node_scores(network, graph, nodes, cache=given.folder / "local").to(device)
    predict_s = time.perf_counter() - trained
    target, tested = graph.targets_of(nodes), slice(len(valid_nodes), None)
    # The validation accuracy of the chosen layers. That of an epoch is the accuracy of all layers trained so far.
    chosen = network.aggregate(scores)
    return {
        "train_s": trained - start,
        "epochs_s": progress.epochs_s,
        "predict_s": predict_s,
        "validation": accuracy(chosen[: len(valid_nodes)], target[: len(valid_nodes)]),
        "accuracy": accuracy(chosen[tested], target[tested]),
        "of_layers": [round(accuracy(part[tested], target[tested]), 4) for part in scores],
    }


def run_turns(given: argparse.Namespace, device: str, processes: Any, name: str) -> dict[str, Any]:
    """Train with several passes over the layers, and save the weights."""
    graph = DiskGraph(given.folder / "graph")
    train_nodes, valid_nodes, _ = split(given)
    network = Network.for_graphs(method(given), graph).to(device)
    progress, start = Progress(), time.perf_counter()
    trainer = train(
        network, graph, train_nodes, valid_nodes, cache=given.folder / name, turns=given.turns, processes=processes,
        callbacks=[progress] if processes.rank == 0 else [],
    )  # fmt: skip
    seconds = time.perf_counter() - start
    if processes.rank == 0:
        torch.save(network.state_dict(), given.folder / f"{name}.pt")
    return {"train_s": seconds, "validation": max(epoch.score for epoch in trainer.state.history)}


def run_sampled(given: argparse.Namespace, device: str, layers: int, fanout: int, goal: float) -> dict[str, Any]:
    """Train by backpropagation on sampled neighbourhoods until the validation accuracy reaches a goal."""
    from torch_geometric import typing

    graph = DiskGraph(given.folder / "graph")
    parts = split(given)
    settings = method(given, schedule="backprop", layers=layers, layers_used="last")
    network = Network.for_graphs(settings, graph).to(device)
    rule = update_rule(network)
    start = time.perf_counter()
    fanouts = [fanout] * layers
    loaders = [sampled_loader(graph, part, fanouts, given.sampled_batch, k == 0) for k, part in enumerate(parts)]
    found: dict[str, Any] = {"validation": 0.0, "steps": 0, "epochs": 0}

    def tested(loader: Any) -> float:
        scores, target = network.scores_of(sampled_batch(data, device) for data in loader)
        return accuracy(network.aggregate(scores), target)

    def out_of_time() -> bool:
        return time.perf_counter() - start > given.sampled_seconds

    while found["epochs"] < given.sampled_epochs and found["validation"] < goal and not out_of_time():
        network.train()
        for data in loaders[0]:
            rule.step(sampled_batch(data, device))
            found["steps"] += 1
            if found["steps"] % 100 == 0:
                note(f"  {time.perf_counter() - start:7.1f} s: {found['steps']} of {len(loaders[0])} steps per epoch")
            if out_of_time():
                break
        found["epochs"] += 1
        found["validation"] = tested(loaders[1])
        note(f"  {time.perf_counter() - start:7.1f} s: validation accuracy {found['validation']:.4f}")
    has_sampler = typing.WITH_PYG_LIB or typing.WITH_TORCH_SPARSE
    return {
        "train_s": time.perf_counter() - start,
        "reached": found["validation"] >= goal,
        "goal": goal,
        **found,
        "steps_per_epoch": len(loaders[0]),
        "accuracy": tested(loaders[2]),
        "loader": "NeighborLoader" if has_sampler else "NodeLoader with the sampler of neighbour_sampling.py",
    }


@contextmanager
def measured(results: dict[str, Any]) -> Iterator[None]:
    """Add the peaks of the memory, and the time of the processors, to results."""
    memory = Memory()
    yield
    results |= {**memory.results(), "processor_s": time.process_time()}


def run_one(given: argparse.Namespace) -> None:
    """Run a part in this process, and write its results."""
    torch.set_num_threads(given.threads)
    results: dict[str, Any] = {}
    part, _, sizes = given.one.partition(":")
    with measured(results):
        if part == "graph":
            results |= write_graph(given)
        elif part == "local":
            results |= run_local(given, given.device)
        elif part == "sampled":
            goal = stored(given).get("local", {}).get("validation", 1.0)
            layers, fanout = map(int, sizes.split("x"))
            results |= run_sampled(given, given.device, layers, fanout, goal)
        else:
            with torchrun_processes(given.device) as processes:
                results |= run_turns(given, str(processes.device), processes, part)
                rank = processes.rank
            if rank > 0:
                note(f"  process {rank}: {json.dumps(results)}")
                return
    (given.folder / f"{given.one}.json").write_text(json.dumps(results))


def options(given: argparse.Namespace) -> dict[str, Any]:
    """Return the options that determine the results."""
    others = ("json", "one", "folder", "parts", "threads", "device", "sampled", "sampled_seconds")
    return {name: value for name, value in vars(given).items() if name not in others}


def same_options(given: argparse.Namespace) -> None:
    """Check that the results in the folder have the same options."""
    path = given.folder / "options.json"
    if path.exists() and json.loads(path.read_text()) != options(given):
        raise SystemExit(f"{path}: the results in this folder have other options; choose another --folder.")
    path.write_text(json.dumps(options(given)))


def stored(given: argparse.Namespace) -> dict[str, Any]:
    """Return the results so far."""
    path = given.folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def in_a_process(given: argparse.Namespace, name: str, processes: int = 1) -> None:
    """Run a part in new processes, unless it is finished, and store its results."""
    results = stored(given)
    if name in results:
        note(f"{name}: finished before")
        return
    note(f"{name}:")
    launcher = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    )
    threads = max(1, given.threads // processes)
    command = [sys.executable, *launcher, __file__, *sys.argv[1:], "--one", name, "--threads", str(threads)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    results[name] = json.loads((given.folder / f"{name}.json").read_text())
    note(f"  {json.dumps(results[name])}")
    (given.folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")


def difference(given: argparse.Namespace) -> float:
    """Return the largest difference of the weights with and without a pipeline."""
    one, two = (torch.load(given.folder / f"{name}.pt", map_location="cpu") for name in ("turns", "pipeline"))
    return max(float((one[key].double() - two[key].double()).abs().max()) for key in one)


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--edges", type=int, default=2_000_000, help="directed edges")
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--classes", type=int, default=16)
    parser.add_argument("--homophily", type=float, default=0.5)
    parser.add_argument("--signal", type=float, default=0.5)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=8, help="epochs of each layer")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--turns", type=int, default=4, help="passes over the layers, for the part pipeline")
    parser.add_argument("--sampled", nargs="+", default=["2x10", "3x10", "5x5"], help="layers x sampled neighbours")
    parser.add_argument("--sampled-batch", type=int, default=1024)
    parser.add_argument("--sampled-epochs", type=int, default=20)
    parser.add_argument("--sampled-seconds", type=float, default=400.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, default=Path("out_of_core"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.one:
        run_one(given)
        return
    same_options(given)
    for part in given.parts:
        if part == "sampled":
            for sizes in given.sampled:
                in_a_process(given, f"sampled:{sizes}")
        elif part == "pipeline":
            in_a_process(given, "turns")
            in_a_process(given, "pipeline", processes=2)
        else:
            in_a_process(given, part)
    results = stored(given)
    if "pipeline" in results:
        results["pipeline"]["speed_up"] = results["turns"]["train_s"] / results["pipeline"]["train_s"]
        results["pipeline"]["largest_difference"] = difference(given)
    device = torch.cuda.get_device_name() if given.device == "cuda" else "cpu"
    facts = {**torch_facts(), **options(given), "device": device, "threads": given.threads, "chance": 1 / given.classes}
    give({**facts, "results": results}, given.json)


if __name__ == "__main__":
    main()

"""Measure memory and time of training against the number of layers: local training and backpropagation.

    python benchmarks/gff_memory.py [--nodes 200000] [--degree 10] [--widths 64] [--depths 4 8 16 32 64] [--epochs 10]
        [--device cuda] [--json out.json] [--figure memory.png]

The task is to classify the nodes of one random graph, which are all labelled, by a GCN with layer normalisation and a
linear head in each layer. "greedy" trains one layer after another on cached inputs, and "joint" updates every layer in
each step. Both train each layer for as many epochs as backpropagation. "backprop, checkpointing" recomputes
activations in the backward pass.

Memory is the peak beyond the memory before the network is built: PyTorch's count on a GPU, and the peak of the resident
memory of a separate process on the CPU. The time of "greedy" includes the computation of the cached inputs.

To draw the figure again from a stored result: --results out.json --figure memory.png
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from measuring import give, machine

from supa.checks import counted
from supa.plotting.style import COLOURS, GRID, LINES, MARKERS, hide_frame
from supa_gff import GraphSet, Method, Network, training_task
from supa_gff.heads import Head
from supa_learning import Trainer

CLASSES = 8
METHODS = {
    "greedy": {"schedule": "greedy"},
    "joint": {"schedule": "joint"},
    "backprop": {"schedule": "backprop"},
    "backprop, checkpointing": {"schedule": "backprop", "checkpointing": True},
}


def graph(nodes: int, degree: int, width: int, device: str) -> GraphSet:
    """Return a random graph whose node features correlate with the classes."""
    random = torch.Generator().manual_seed(1)
    target = torch.randint(CLASSES, (nodes,), generator=random)
    x = torch.randn(nodes, width, generator=random)
    x[:, :CLASSES] += torch.nn.functional.one_hot(target, CLASSES)
    edges = torch.randint(nodes, (2, nodes * degree // 2), generator=random)
    edges = torch.cat([edges, edges.flip(0)], 1)
    return GraphSet(
        x=x,
        edge_index=edges,
        node_offset=torch.tensor([0, nodes]),
        edge_offset=torch.tensor([0, edges.shape[1]]),
        target=target,
        level="node",
        num_outputs=CLASSES,
    ).to(device)


def measure(method: str, depth: int, width: int, options: dict[str, Any]) -> dict[str, Any]:
    """Train once, after a short warm-up, and return the peak memory and the seconds per epoch of all layers."""
    device, epochs = options["device"], options["epochs"]
    graphs = graph(options["nodes"], options["degree"], width, device)
    nodes = torch.arange(len(graphs.x), device=device)
    settings = Method(
        score=Head("linear"), conv="gcn", normalisation="layer", layers=depth, hidden_channels=width, epochs=epochs,
        patience=epochs, validate_every=epochs, lr_step_size=None,
    ).replace(**METHODS[method])  # fmt: skip

    def train(settings: Method) -> float:
        network = Network.for_graphs(settings, graphs)
        trainer = Trainer(training_task(network, graphs, nodes, nodes[:1000]))
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        trainer.run()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    if device == "cuda":
        train(settings.replace(epochs=2, layers=min(depth, 4)))
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds = train(settings)
        peak = torch.cuda.max_memory_allocated() - before
    else:
        train(settings.replace(epochs=1, layers=1))
        before = resident()
        seconds = train(settings)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {
        "method": method,
        "depth": depth,
        "width": width,
        "peak_mib": peak / 2**20,
        "epoch_s": seconds / epochs,
    }


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def in_a_process(method: str, depth: int, width: int, options: dict[str, Any]) -> dict[str, Any]:
    """Measure in a new process, whose peak memory is not affected by previous runs."""
    given = json.dumps([method, depth, width, options])
    done = subprocess.run([sys.executable, __file__, "--one", given], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw memory and time against the number of layers."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    panels = (("peak_mib", 1 / 1024, "peak memory (GiB)"), ("epoch_s", 1e3, "time per epoch of all layers (ms)"))
    depths = sorted({row["depth"] for row in rows})
    for axes, (key, unit, label) in zip(figure.subplots(1, 2), panels, strict=True):
        for k, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
            own = [row for row in rows if row["method"] == method]
            # The memory of "greedy" and "joint" is nearly equal, so one is drawn as open circles.
            face = "none" if method == "joint" else COLOURS[k]
            axes.plot(
                [row["depth"] for row in own], [unit * row[key] for row in own], LINES[k], marker=MARKERS[k],
                color=COLOURS[k], markerfacecolor=face, markersize=9 if method == "joint" else 5, label=method,
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="number of layers", ylabel=label)
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.minorticks_off()
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        hide_frame(axes)
    figure.axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure every combination, or draw a stored result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=200_000)
    parser.add_argument("--degree", type=int, default=10)
    parser.add_argument("--widths", type=int, nargs="+", default=[64])
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path, help="figure of the first width")
    parser.add_argument("--results", type=Path, help="draw this stored result (--json) instead of measuring")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    if given.one:
        method, depth, width, options = json.loads(given.one)
        print(json.dumps(measure(method, depth, width, options)))
        return
    if given.results:
        rows = json.loads(given.results.read_text())["results"]
        draw([row for row in rows if row["width"] == rows[0]["width"]], given.figure)
        return
    options = {name: getattr(given, name) for name in ("nodes", "degree", "epochs", "device")}
    how = measure if given.device == "cuda" else in_a_process
    rows = []
    for width in given.widths:
        for depth in given.depths:
            for method in given.methods:
                row = how(method, depth, width, options)
                rows.append(row)
                measured = f"{row['peak_mib']:.0f} MiB, {row['epoch_s']:.4f} s per epoch"
                print(f"width {width}, {counted(depth, 'layer')}, {method}: {measured}", file=sys.stderr)
    if given.figure:
        draw([row for row in rows if row["width"] == given.widths[0]], given.figure)
    device = torch.cuda.get_device_name() if given.device == "cuda" else machine()
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    give({"machine": device, "versions": versions, **options, "results": rows}, given.json)


if __name__ == "__main__":
    main()

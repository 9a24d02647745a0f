"""Compare local training and backpropagation on showers, with trivial baselines.

    python benchmarks/gff_showers.py [--showers 20000] [--device cuda] [--epochs 15] [--batch 128] [--folder out]

The tasks are the number of primaries, the primary of each hit, the preset, and the incident energy. Both methods train
the same layers for the same number of epochs from the same seed. The epoch with the best validation score is evaluated
on the test showers. The folder receives results.json and the figures. A short run on a CPU:

    python benchmarks/gff_showers.py --showers 600 --epochs 6 --batch 16

To draw the scores of positive and negative labels again from a stored result: --results out/results.json
"""

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import machine
from torch import Tensor

import supa
from supa.plotting import plot_resolution
from supa_gff import Method, Network, preset, train
from supa_gff.heads import Head
from supa_gff.losses import SquaredError
from supa_gff.plot import plot_hit_classes, plot_scores
from supa_gff.showers import SHOWER_TASKS, ShowerGraphs, accuracy_up_to_order, shower_graphs
from supa_learning import Epoch, TrainingState

METHODS = ("best", "backprop")
GOODNESS = ("best-goodness", "gff")
"""Label-conditioned methods, which are trained on the presets for the figure of goodness."""

RECOGNISED = ("standard", "reference", "symmetric", "critical", "two-primaries")
"""Presets to distinguish. They have similar sizes, and differ in more than their readout layers."""


def simulated(task: str, count: int) -> Any:
    """Return the simulated showers of a task."""
    if task == "num_primaries":
        return supa.simulate(count, supa.preset("two-primaries").replace(num_primaries="poisson:2"), seed=1)
    if task == "preset":
        return [supa.simulate(count // len(RECOGNISED), name, seed=1) for name in RECOGNISED]
    return supa.simulate(count, "two-primaries" if task == "primary" else "critical", seed=1)


def method_of(name: str, task: str, arguments: argparse.Namespace) -> Method:
    """Return a method with the common architecture and number of epochs."""
    method = preset(name).replace(
        layers=3,
        hidden_channels=64,
        learning_rate=2e-3,
        epochs=arguments.epochs,
        patience=arguments.epochs,
        lr_step_size=max(1, arguments.epochs // 4),
        batch_size=arguments.batch,
    )
    if task == "incident_energy":
        return method.replace(score=Head("mlp"), loss=SquaredError())
    if task == "primary":
        # SAGE separates a hit from the mean of its neighbours. GIN adds all nine, which hides the hit itself.
        return method.replace(conv="sage", score=Head("mlp"))
    return method


def trained(task: str, name: str, data: ShowerGraphs, arguments: argparse.Namespace) -> tuple[Tensor, TrainingState]:
    """Train a method and return the predictions for the test showers and the state of the training."""
    network = Network.for_graphs(method_of(name, task, arguments), data.graphs)
    state = train(network, data.graphs, data.train, data.valid).state
    members = data.test.to(data.graphs.device)
    predicted = [network.predict(batch) for batch in data.graphs.batches(members, 4 * arguments.batch)]
    return torch.cat(predicted).cpu(), state


class Judge:
    """Targets and metrics of the test showers of a task."""

    def __init__(self, task: str, showers: Any, data: ShowerGraphs) -> None:
        self.task, self.showers, self.data = task, showers, data
        graphs = data.graphs
        self.hits = graphs.node_offset.diff()
        self.first_row = int(graphs.node_offset[data.test[0]])
        first = self.first_row if graphs.level == "node" else int(data.test[0])
        self.target = graphs.target[first:]
        self.shower = torch.repeat_interleave(torch.arange(len(data.test)), self.hits[data.test])

    def measured(self, predicted: Tensor) -> dict[str, float]:
        """Return the metrics of predictions."""
        if self.task == "incident_energy":
            return {"RMS error of ln E": float((predicted - self.target).double().square().mean().sqrt())}
        found = {"accuracy": float((predicted == self.target).double().mean())}
        if self.task == "primary":
            found["accuracy up to order"] = accuracy_up_to_order(predicted, self.target, self.shower)
        return found

    def references(self) -> dict[str, Tensor]:
        """Return the predictions of the baselines. For hits and energies, the last one uses the simulation."""
        train = self.data.graphs.target[: -len(self.target)]
        if self.task == "primary":
            x, position = self.data.graphs.x[self.first_row :], self.data.position[self.first_row :].numpy()
            number = self.data.number[self.data.test]
            axes = np.stack([self.showers.primaries[name].reshape(-1, 2) for name in ("x", "y")], 2)[number]
            steps = position[:, None, :2] - axes[self.shower.numpy()]
            nearest = torch.from_numpy(np.square(steps).sum(2).argmin(1))
            # The nearest axis is the index of a primary. Like the target, it is ordered along u.
            flipped = torch.from_numpy(self._flipped())[self.shower]
            return {
                "majority class": torch.full_like(self.target, int(train.bincount().argmax())),
                "side of the centre, u > 0": (x[:, 0] > 0).long(),
                "nearest true axis (uses the simulation)": torch.where(flipped, 1 - nearest, nearest),
            }
        if self.task == "incident_energy":
            sums = np.bincount(self.showers.hits.group_of_row(), self.showers.energy, len(self.showers))
            return {
                "mean value": train.mean().expand(len(self.target)),
                "number of hits": self._by_hits(train),
                "sum of the hit energies (uses the simulation)": torch.from_numpy(
                    np.log(sums[self.data.number[self.data.test]])
                ),
            }
        return {
            "majority class": torch.full_like(self.target, int(train.bincount().argmax())),
            "number of hits": self._by_hits(train),
        }

    def _flipped(self) -> np.ndarray:
        """Return for each test shower whether the simulator's primary 0 is class 1."""
        number = self.data.number[self.data.test]
        first = self.showers.offset[number]
        begin = self.data.graphs.node_offset[self.data.test].numpy() - self.first_row
        return np.asarray(self.showers.primary[first] != self.target.numpy()[begin])

    def _by_hits(self, train: Tensor) -> Tensor:
        """Predict the mean or the most frequent class of the training showers with a similar number of hits."""
        hits = self.hits.numpy()
        seen = hits[: -len(self.target)]
        edges = np.unique(np.quantile(seen, np.linspace(0, 1, 41)[1:-1]))
        place = torch.from_numpy(np.searchsorted(edges, hits, side="right"))
        shown, asked = place[: -len(self.target)], place[-len(self.target) :]
        if self.task == "incident_energy":
            total = torch.zeros(len(edges) + 1).index_add_(0, shown, train)
            return (total / torch.bincount(shown, minlength=len(edges) + 1).clamp(min=1))[asked]
        counts = torch.zeros(len(edges) + 1, len(self.data.classes)).index_put_(
            (shown, train), torch.ones(len(train)), accumulate=True
        )
        return counts.argmax(1)[asked]


def draw_hits(judge: Judge, predictions: dict[str, Tensor], path: Path) -> None:
    """Draw a test shower of typical size on which `best` has a typical accuracy."""
    right = torch.bincount(judge.shower[predictions["best"] == judge.target], minlength=len(judge.data.test))
    hits = judge.hits[judge.data.test]
    share = right / hits
    usual = (hits - hits.float().median()).abs() < 20
    chosen = int(torch.where(usual, (share - share.median()).abs(), torch.inf).argmin())
    rows = (judge.shower == chosen).numpy()
    places = np.flatnonzero(rows) + judge.first_row
    # u and v are rotated and scaled x and y. The rotation preserves the total variance, so its ratio is the scale.
    lengths, own = judge.data.position[places, :2], judge.data.graphs.x[places, :2]
    unit = float((lengths.var(0).sum() / own.var(0).sum()).sqrt())
    panels = {"true class": judge.target, **predictions}
    plot_hit_classes(
        judge.data.position[places, 2].numpy(),
        own[:, 0].numpy() * unit,
        {name: values.numpy()[rows] for name, values in panels.items()},
        ("primary at lower u", "primary at higher u"),
    ).savefig(path, dpi=100)


def run_task(task: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Simulate the showers of a task, train all methods, and draw the figures."""
    started = time.perf_counter()
    showers = simulated(task, arguments.showers)
    simulating = time.perf_counter() - started
    started = time.perf_counter()
    data = shower_graphs(showers, task)
    judge = Judge(task, showers, data)
    result: dict[str, Any] = {
        "graphs": len(data.graphs),
        "test graphs": len(data.test),
        "hits": len(data.graphs.x),
        "seconds to simulate": simulating,
        "seconds to make graphs": time.perf_counter() - started,
        "references": {name: judge.measured(values) for name, values in judge.references().items()},
        "methods": {},
    }
    on_device = replace(data, graphs=data.graphs.to(arguments.device))
    predictions, histories = {}, {}
    for name in (*METHODS, *(GOODNESS if task == "preset" else ())):
        predictions[name], state = trained(task, name, on_device, arguments)
        histories[name] = state.history
        result["methods"][name] = {
            **judge.measured(predictions[name]),
            "epochs": len(state.history),
            "seconds": sum(epoch.seconds for epoch in state.history),
            "history": [asdict(epoch) for epoch in state.history],
        }
        print(f"{task}, {name}: {judge.measured(predictions[name])}", flush=True)
    folder = arguments.folder
    if task == "preset":
        parted = {name: histories[name] for name in ("best", *GOODNESS)}
        plot_scores(parted).savefig(folder / "gff_showers_goodness.png", dpi=90)
    elif task == "primary":
        draw_hits(judge, predictions, folder / "gff_showers_hits.png")
    elif task == "incident_energy":
        estimators = {"number of hits": judge.references()["number of hits"], **predictions}
        energies = {name: values.double().exp().numpy() for name, values in estimators.items()}
        bins = min(8, len(judge.target) // 10)
        plot_resolution(judge.target.double().exp().numpy(), energies, bins).savefig(
            folder / "gff_showers_energy.png", dpi=90
        )
    return result


def table(results: dict[str, Any], device: str) -> str:
    """Return the results as a Markdown table."""
    lines = ["| task | by | measure | epochs | seconds | device |", "|---|---|---|---|---|---|"]
    for task, result in results.items():
        for name, row in result["references"].items():
            lines.append(f"| {task} | {name} | {measures(row)} | | | |")
        for name, row in result["methods"].items():
            lines.append(f"| {task} | `{name}` | {measures(row)} | {row['epochs']} | {row['seconds']:.1f} | {device} |")
    return "\n".join(lines)


def measures(row: dict[str, Any]) -> str:
    """Return the metrics of a row as text."""
    names = ("accuracy", "accuracy up to order", "RMS error of ln E")
    return ", ".join(f"{name} {row[name]:.4f}" for name in names if name in row)


def main() -> None:
    """Run the tasks, or draw a stored result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--showers", type=int, default=20_000, help="number of showers of each task")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=15, help="number of epochs (per layer for greedy training)")
    parser.add_argument("--batch", type=int, default=128, help="number of showers per batch")
    parser.add_argument("--tasks", nargs="+", choices=SHOWER_TASKS, default=SHOWER_TASKS)
    parser.add_argument("--folder", type=Path, default=Path("gff-showers"), help="folder for results and figures")
    parser.add_argument("--results", type=Path, help="draw this stored results.json instead of training")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.results:
        stored = json.loads(arguments.results.read_text())["tasks"]["preset"]["methods"]
        histories = {name: [Epoch(**epoch) for epoch in stored[name]["history"]] for name in ("best", *GOODNESS)}
        plot_scores(histories).savefig(arguments.folder / "gff_showers_goodness.png", dpi=90)
        return
    started = time.perf_counter()
    results = {task: run_task(task, arguments) for task in arguments.tasks}
    device = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else "CPU"
    print(table(results, device))
    everything = {
        "machine": machine(),
        "device": device,
        "versions": {
            "supa": supa.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "date": time.strftime("%Y-%m-%d"),
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
        "seconds in all": time.perf_counter() - started,
        "tasks": results,
    }
    (arguments.folder / "results.json").write_text(json.dumps(everything, indent=2) + "\n")
    print(f"{everything['seconds in all']:.0f} seconds in all")


if __name__ == "__main__":
    main()

"""Compare local training and backpropagation on streams of showers, each of which is used once.

    python benchmarks/gff_online.py [--scale 1] [--seeds 3] [--json out.json] [--figure online.png]

In each scenario, every method receives the same batches, predicts each batch before it trains on it (prequential
evaluation), and is evaluated on fixed showers that no method is trained on, one set for each phase of the stream:

- classes: the preset of a shower, one of five, from a stream that does not change;
- energy: the incident energy, first from 1 to 10 GeV, then from 10 to 100 GeV;
- new classes: the preset of a shower, first one of three presets, then one of two others.

The methods have the same layers and, for `best` and `backprop`, the same initial weights. The learning rate of each
method is the best of five on a separate stream of all phases mixed. No times are measured.

To draw the figure again from a stored result: --results out.json --figure online.png. A short run: --scale 0.05
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from measuring import note, torch_facts

import supa
from supa.plotting.style import COLOURS, GRID, hide_frame
from supa_datasets import ShowerStream
from supa_gff import Batch, GraphSet, Method, Network, ShowerGraphStream, encoded_showers, preset
from supa_gff.heads import Head
from supa_gff.names import TargetKind
from supa_gff.shower_encoding import graph_targets

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
BATCH = 32
TUNING_BATCHES = 80
TUNING_SEED, TEST_SEED = 1_000_000, 2_000_000
WINDOW = 30
"""Number of batches over which the figure averages the results before training."""

Parts = Mapping[str, Sequence[Any]]
"""Configs of each phase of a stream, by its name."""


@dataclass(frozen=True)
class Scenario:
    """Stream of showers and the methods that are trained on it.

    Args:
        task: What is predicted.
        phases: Configs of each phase, by its name.
        batches: Number of batches of a phase.
        methods: Names of the methods.
    """

    task: str
    phases: Parts
    batches: int
    methods: tuple[str, ...]

    @property
    def mixed(self) -> list[Any]:
        """Configs of all phases."""
        return [config for configs in self.phases.values() for config in configs]


CRITICAL = supa.preset("critical")
SCENARIOS = {
    "classes": Scenario(
        "preset",
        {"all presets": ("standard", "reference", "symmetric", "critical", "two-primaries")},
        batches=300,
        methods=("best", "mono-forward", "best-goodness", "backprop"),
    ),
    "energy": Scenario(
        "incident_energy",
        {
            "1 to 10 GeV": (CRITICAL.replace(incident_energy="log:1:10"),),
            "10 to 100 GeV": (CRITICAL.replace(incident_energy="log:10:100"),),
        },
        batches=200,
        methods=("best", "mono-forward", "backprop"),
    ),
    "new classes": Scenario(
        "preset",
        {"three presets": ("standard", "critical", "two-primaries"), "two others": ("reference", "symmetric")},
        batches=150,
        methods=("best", "mono-forward", "backprop"),
    ),
}


def method_of(name: str, task: str, learning_rate: float) -> Method:
    """Return a method with the common architecture."""
    kind: TargetKind = "regression" if task == "incident_energy" else "classification"
    method = preset(name, "graph", kind).replace(layers=3, hidden_channels=32, learning_rate=learning_rate)
    perceptron = isinstance(method.score, Head) and method.score.kind == "mlp"
    # Dropout in the heads makes predicted energies worse; see benchmarks/gff_showers.py.
    return method.replace(score=Head("mlp")) if kind == "regression" and perceptron else method


class Showers:
    """Streams of training showers of a scenario, and its test showers.

    Args:
        scenario: The scenario.
        seed: Random seed of the training showers.
        test_showers: Number of test showers of each phase.
    """

    def __init__(self, scenario: Scenario, seed: int, test_showers: int) -> None:
        self.mixed = ShowerGraphStream(scenario.mixed, scenario.task, seed=seed, validation_showers=1000)
        self._scenario, self._seed = scenario, seed
        self.tests = {
            name: encoded_showers(
                ShowerStream(configs, 1, seed=TEST_SEED, form="graphs").showers(test_showers), self.mixed.encoding
            )
            for name, configs in scenario.phases.items()
        }

    def network(self, name: str, learning_rate: float, seed: int) -> Network:
        """Return a new network. The scale of energies is that of the validation showers, of all phases mixed."""
        graphs = self.mixed.validation
        train = self.mixed.validation_indices if graphs.target_kind == "regression" else None
        method = method_of(name, self._scenario.task, learning_rate)
        return Network.for_graphs(method, graphs, train=train, seed=seed)

    def batches(self, phase: str) -> Iterator[Batch]:
        """Return the training batches of a phase."""
        encoding = self.mixed.encoding
        stream = ShowerStream(
            self._scenario.phases[phase],
            BATCH,
            seed=self._seed,
            first=1000,
            form="graphs",
            edges=encoding.edges,
            features=encoding.definition.features,
            normalisation=encoding.normalisation,
            targets=graph_targets(encoding.definition),
        )
        return map(self.mixed.convert, stream)


def right(network: Network, batch: Batch) -> float:
    """Return the accuracy of a network on a batch, or the mean squared error of ln E."""
    predicted = network.predict(batch)
    if network.target_kind == "regression":
        return float((predicted - batch.target).double().square().mean())
    return float((predicted == batch.target).double().mean())


def on_test(network: Network, graphs: GraphSet) -> float:
    """Return the result of a network on test showers."""
    return right(network, graphs.batch(torch.arange(len(graphs))))


def tuned(scenario: Scenario, count: int) -> dict[str, float]:
    """Return the learning rate of each method with the best mean result before training on a separate stream."""
    showers = Showers(scenario, TUNING_SEED, 1)
    found = {(name, rate): 0.0 for name in scenario.methods for rate in LEARNING_RATES}
    networks = {key: showers.network(*key, seed=0) for key in found}
    for batch in islice(map(showers.mixed.convert, showers.mixed.stream(BATCH)), count):
        for key, network in networks.items():
            found[key] += right(network, batch) / count
            network.partial_fit(batch)
    best = min if scenario.task == "incident_energy" else max
    return {name: best(LEARNING_RATES, key=lambda rate: found[name, rate]) for name in scenario.methods}


def run(scenario: Scenario, rates: Mapping[str, float], seed: int, test_showers: int) -> dict[str, Any]:
    """Train all methods on one stream, and return their results before each batch and on the test showers."""
    showers = Showers(scenario, seed, test_showers)
    networks = {name: showers.network(name, rates[name], seed) for name in scenario.methods}
    rows: dict[str, Any] = {name: {"before": [], "test": {part: [] for part in showers.tests}} for name in networks}
    seen = []
    for number, phase in enumerate(scenario.phases):
        for k, batch in enumerate(islice(showers.batches(phase), scenario.batches), 1):
            for name, network in networks.items():
                rows[name]["before"].append(round(right(network, batch), 4))
                network.partial_fit(batch)
            if k % (scenario.batches // 10) == 0:
                seen.append((number * scenario.batches + k) * BATCH)
                for name, network in networks.items():
                    for part, graphs in showers.tests.items():
                        rows[name]["test"][part].append(round(on_test(network, graphs), 4))
    return {"seed": seed, "tested after": seen, "methods": rows}


def shown(task: str, value: float) -> float:
    """Return the accuracy, or the RMS error of a mean squared error."""
    return math.sqrt(value) if task == "incident_energy" else value


def over_seeds(scenario: Scenario, values: Sequence[float]) -> str:
    """Return the mean and the standard deviation over seeds as text."""
    numbers = [shown(scenario.task, value) for value in values]
    spread = statistics.stdev(numbers) if len(numbers) > 1 else math.nan
    return f"{statistics.mean(numbers):.3f} ± {spread:.3f}"


def table(results: Mapping[str, Any]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| scenario | method | learning rate | before training | test showers of | at the change | at the end |"]
    lines.append("|---|---|---|---|---|---|---|")
    for title, result in results.items():
        scenario, runs = SCENARIOS[title], result["runs"]
        change = runs[0]["tested after"].index(runs[0]["tested after"][-1] // len(scenario.phases))
        for name, rate in result["learning rates"].items():
            rows = [one["methods"][name] for one in runs]
            before = over_seeds(scenario, [statistics.mean(row["before"]) for row in rows])
            for part in scenario.phases:
                at = [over_seeds(scenario, [row["test"][part][k] for row in rows]) for k in (change, -1)]
                first = "" if len(scenario.phases) == 1 else at[0]
                lines.append(f"| {title} | `{name}` | {rate:g} | {before} | {part} | {first} | {at[1]} |")
    return "\n".join(lines)


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the means over the last batches."""
    return [statistics.mean(values[max(0, k + 1 - WINDOW) : k + 1]) for k in range(len(values))]


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw the results before training without a change, and those on the test showers of each phase with one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.6, 4.1), layout="constrained")
    colours = dict(zip(SCENARIOS["classes"].methods, COLOURS, strict=False))
    for axes, (title, result) in zip(figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
        scenario, runs = SCENARIOS[title], result["runs"]
        for name in scenario.methods:
            rows = [one["methods"][name] for one in runs]
            if len(scenario.phases) == 1:
                curves = {"": [smoothed(row["before"]) for row in rows]}
                seen = [BATCH * k for k in range(len(rows[0]["before"]))]
            else:
                curves = {part: [row["test"][part] for row in rows] for part in scenario.phases}
                seen = runs[0]["tested after"]
            for values, line in zip(curves.values(), ("-", "--"), strict=False):
                drawn = [[shown(scenario.task, value) for value in row] for row in values]
                columns = list(zip(*drawn, strict=True))
                axes.plot(seen, [statistics.mean(column) for column in columns], line, color=colours[name], label=name)
                axes.fill_between(
                    seen, [min(column) for column in columns], [max(column) for column in columns],
                    color=colours[name], alpha=0.15, linewidth=0,
                )  # fmt: skip
        _label(axes, title, scenario, seen[-1])
    figure.savefig(path, dpi=90)


def _label(axes: Any, title: str, scenario: Scenario, end: int) -> None:
    from matplotlib.lines import Line2D

    error = scenario.task == "incident_energy"
    what = "before training" if len(scenario.phases) == 1 else "on test showers"
    axes.set(xlabel="showers seen", ylabel=f"{'RMS error of ln E' if error else 'accuracy'} {what}", title=title)
    axes.set_ylim(0, 3 if error else 1)  # energies start with larger errors
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    hide_frame(axes)
    if len(scenario.phases) == 1:
        axes.legend(frameon=False, fontsize=9)
        return
    axes.axvline(end / 2, color="#888888", linewidth=1)
    lines = [Line2D([], [], color="#333333", linestyle=line) for line in ("-", "--")]
    axes.legend(lines, list(scenario.phases), frameon=False, fontsize=9, title="test showers")


def main() -> None:
    """Train on all streams, or draw a stored result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the numbers of batches and test showers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--results", type=Path, help="draw this stored result (--json) instead of training")
    given = parser.parse_args()
    if given.results:
        results = json.loads(given.results.read_text())["scenarios"]
    else:
        torch.set_num_threads(1)
        results, facts = {}, torch_facts() | {"scale": given.scale, "threads": 1}
        for title in given.scenarios:
            planned = SCENARIOS[title]
            scenario = Scenario(
                planned.task, planned.phases, 10 * max(1, round(given.scale * planned.batches / 10)), planned.methods
            )
            rates = tuned(scenario, max(2, round(given.scale * TUNING_BATCHES)))
            note(f"{title}: learning rates {rates}")
            runs = []
            for seed in range(1, given.seeds + 1):
                runs.append(run(scenario, rates, seed, max(50, round(given.scale * 500))))
                note(f"{title}: seed {seed} of {given.seeds}")
            results[title] = {"batch": BATCH, "learning rates": rates, "runs": runs}
            if given.json:
                given.json.write_text(json.dumps(facts | {"scenarios": results}) + "\n")
    print(table(results))
    if given.figure:
        draw(results, given.figure)


if __name__ == "__main__":
    main()

"""Compare generators at a fixed time: the quality of N effective showers against the seconds that they cost.

    python benchmarks/generator_budget.py transformer.ckpt hybrid.ckpt base.ckpt [--device cuda] [--showers 10000]
                                          [--batch-size 4096] [--json results.json] [--image generator_budget.png]

Each checkpoint of ``supa mamba train-generator`` or ``supa mamba distil`` makes N showers without refinement, by
rejection, and by resampling of one of 2, 4 and 8 showers. The seconds contain the sampling of all showers that are
needed and the refinement with its classifier, but not the simulation of the true showers, which every method shares. A
rejection samples as many showers as its acceptance requires: a first, smaller sample measures the acceptance. If it is
lower in the next sample, a larger one follows, and the time of all of them counts. A refinement is refused if the
effective size of its sample is smaller than N.

The refining classifier sees observables. Three other ones with new true showers judge the result: boosted trees on the
observables (high-level) and on the energies in the cells of ``supa.CALOGAN`` (low-level), and a Mamba encoder of the
hits (hit-level). N true showers are judged in the same way.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from generator_quality import figures
from matplotlib.figure import Figure
from measuring import give, gpu_facts, note, torch_facts

import supa
from supa.comparison import refine_sample
from supa.plotting.style import COLOURS, INK, MARKERS, hide_frame, use_log_scale
from supa_mamba import GeneratorCheckpoint, ShowerGenerator, sample_showers

SEED, REFINING_SEED, JUDGING_SEED, OTHER_SEED = 7, 21, 22, 23
CHOICES = [2, 4, 8]
FIGURES = ["high", "low", "hits"]
FIRST_SHARE = 0.5  # of N, for the acceptance
MARGIN = 1.05  # more showers than the acceptance requires, whose estimate has an error


class Timed(NamedTuple):
    """A sample and the seconds that it cost."""

    showers: supa.Showers
    seconds: float
    sampled: int


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--showers", type=int, default=10_000, help="N, the number of effective showers")
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=FIGURES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--image", type=Path)
    given = parser.parse_args()
    facts = gpu_facts() if given.device == "cuda" else torch_facts()
    results = facts | {"showers": given.showers, "batch size": given.batch_size, "generators": {}}
    for path in given.checkpoints:
        results["generators"][path.stem] = measured(path, given)
    give(results, given.json)
    if given.image:
        plot(results).savefig(given.image, dpi=110)


def measured(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a checkpoint for each refinement."""
    checkpoint = GeneratorCheckpoint.load(path)
    model, config = checkpoint.model().to(given.device), checkpoint.shower_configs[0]
    count = given.showers
    refining, judging, other = (
        supa.simulate(count, config, seed=seed) for seed in (REFINING_SEED, JUDGING_SEED, OTHER_SEED)
    )
    sample_showers(model, config, min(count, given.batch_size), seed=SEED, batch_size=given.batch_size)  # compiles
    ways: dict[str, Callable[[], Timed]] = {
        "none": partial(sampled, model, config, count, given.batch_size),
        "rejection": partial(rejected, model, refining, given),
        **{f"one of {k}": partial(resampled, model, refining, k, given) for k in CHOICES},
    }
    rows: dict[str, Any] = {"true": figures(judging, other, given)}
    for name, make in ways.items():
        try:
            showers, seconds, number = make()
        except ValueError as error:  # the effective size is smaller than N
            rows[name] = {"refused": str(error)}
        else:
            cost = {"seconds": round(seconds, 2), "sampled": number, "showers": len(showers)}
            rows[name] = cost | figures(judging, showers, given)
        note(f"{path.name}: {name}: {rows[name]}")
    return rows


def sampled(model: ShowerGenerator, config: supa.ShowerConfig, count: int, batch_size: int, first: int = 0) -> Timed:
    """Sample showers."""
    start = time.perf_counter()
    showers = sample_showers(model, config, count, seed=SEED, first=first, batch_size=batch_size)
    return Timed(showers, time.perf_counter() - start, count)


def refined(sample: Timed, true: supa.Showers, keep: int | None) -> Timed:
    """Refine a sample by resampling, or by rejection if ``keep`` is None."""
    start = time.perf_counter()
    found = refine_sample(true, sample.showers, by="rejection" if keep is None else "resampling", keep=keep, seed=SEED)
    return Timed(found.showers, sample.seconds + time.perf_counter() - start, sample.sampled)


def resampled(model: ShowerGenerator, true: supa.Showers, k: int, given: argparse.Namespace) -> Timed:
    """Refine a sample by the choice of one of k showers."""
    return refined(sampled(model, true.config, k * given.showers, given.batch_size), true, given.showers)


def rejected(model: ShowerGenerator, true: supa.Showers, given: argparse.Namespace) -> Timed:
    """Refine a sample by rejection that is as large as the acceptance requires."""
    few = sampled(model, true.config, max(1000, int(FIRST_SHARE * given.showers)), given.batch_size)
    last, seconds, total = refined(few, true, None), 0.0, few.sampled
    # The acceptance belongs to the weights of each sample. It can be lower than in the sample before.
    while len(last.showers) < given.showers:
        seconds += last.seconds
        needed = int(MARGIN * given.showers * last.sampled / len(last.showers)) + 1
        last = refined(sampled(model, true.config, needed, given.batch_size, first=total), true, None)
        total += needed
    return Timed(last.showers[: given.showers], seconds + last.seconds, total)


def plot(results: dict[str, Any]) -> Figure:
    """Plot the areas of the classifiers against the seconds. A marker stands for a refinement."""
    titles = {"high": "high-level AUC", "low": "low-level AUC", "hits": "hit-level AUC"}
    shown = [title for title in titles.values() if title in next(iter(results["generators"].values()))["true"]]
    figure = Figure(figsize=(3.4 * len(shown) + 1, 3.4), layout="constrained")
    refinements = ["none", "rejection", *(f"one of {k}" for k in CHOICES)]
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, title in zip(panels, shown, strict=True):
        axes.axhline(0.5, color=INK, lw=0.8, ls="--")
        for colour, rows in zip(COLOURS, results["generators"].values(), strict=False):
            for marker, one in zip(MARKERS, refinements, strict=False):
                if "refused" not in rows[one]:
                    y, error = rows[one][title]
                    axes.errorbar(rows[one]["seconds"], y, error, color=colour, marker=marker, lw=1, capsize=2)
        axes.set(xlabel="time (s)", ylabel=title)
        use_log_scale(axes, "x")
        hide_frame(axes)
    for colour, name in zip(COLOURS, results["generators"], strict=False):
        panels[0].plot([], [], color=colour, label=name)
    for marker, name in zip(MARKERS, refinements, strict=False):
        label = "no refinement" if name == "none" else name
        panels[0].plot([], [], color=INK, marker=marker, ls="", label=label)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()

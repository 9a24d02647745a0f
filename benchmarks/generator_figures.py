"""Draw the pictures of the page of the generator from results of the benchmarks.

    python benchmarks/generator_figures.py docs/data/generators base.h5 [--images docs/images]

The folder contains NAME_quality.json of ``generator_quality.py`` and NAME_sampling.json of ``generator_sampling.py``
for each generator. ``generator_speed.png`` shows the area under the ROC curve of the high-level classifier against the
time per shower, for each number of showers that are sampled at the same time. ``generator.png`` shows the observables
of the sample ``base.h5`` with the largest differences, beside simulated showers.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

import supa
from supa.checks import counted
from supa.comparison.figures import histogram_figures
from supa.plotting.style import COLOURS, INK, MARKERS, hide_frame, use_log_scale
from supa_datasets import ShowerFile

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SEED = 11


class Generator(NamedTuple):
    """Results of a generator.

    Args:
        label: Name and device.
        area: Area under the ROC curve of the high-level classifier, and its error.
        times: Milliseconds per shower by the number of showers at the same time.
    """

    label: str
    area: tuple[float, float]
    times: dict[int, float]


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, help="folder with results of the benchmarks")
    parser.add_argument("sample", type=Path, help="sample whose observables are drawn")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the pictures")
    given = parser.parse_args()
    names = sorted(path.name.removesuffix("_quality.json") for path in given.results.glob("*_quality.json"))
    generators = [read_generator(given.results, name) for name in names]
    plot_speed(generators).savefig(given.images / "generator_speed.png", dpi=110)
    sample = ShowerFile(given.sample)[:]
    true = supa.simulate(len(sample), sample.config, seed=SEED)
    comparison = supa.compare(true, sample, names=("simulated", given.sample.stem), multivariate=False)
    histogram_figures(comparison)[0].savefig(given.images / "generator.png", dpi=110)


def read_generator(folder: Path, name: str) -> Generator:
    """Read the results of a generator."""
    quality, sampling = (json.loads((folder / f"{name}_{what}.json").read_text()) for what in ("quality", "sampling"))
    (judged,), (measured,) = quality["samples"].values(), sampling["checkpoints"].values()
    # Of a processor, the times of the largest number of threads come last.
    times = {
        int(found[1]): row["ms_per_shower"]
        for key, row in measured.items()
        if (found := re.match(r"batch size (\d+)", key))
    }
    threads = re.findall(r"threads (\d+)", " ".join(measured))
    device = sampling.get("device", f"{threads[-1]} processors" if threads else "")
    area: Any = judged["all"]["sample"]["high-level AUC"]
    return Generator(f"{name}, {device.removeprefix('NVIDIA ')}", tuple(area), times)


def plot_speed(generators: list[Generator]) -> Figure:
    """Plot quality against time. A marker stands for the number of showers at the same time."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    counts = sorted({count for generator in generators for count in generator.times})
    markers = dict(zip(counts, MARKERS, strict=False))
    axes.axhline(0.5, color=INK, lw=0.8, ls="--", label="simulated showers")
    for colour, (label, (area, error), times) in zip(COLOURS, generators, strict=False):
        axes.errorbar(list(times.values()), [area] * len(times), error, color=colour, capsize=2, lw=1, label=label)
        for count, time in times.items():
            axes.plot(time, area, color=colour, marker=markers[count], ls="")
    for count, marker in markers.items():
        axes.plot([], [], color=INK, marker=marker, ls="", label=f"{counted(count, 'shower')} at the same time")
    axes.set(xlabel="time per shower (ms)", ylabel="high-level AUC")
    use_log_scale(axes, "x")
    hide_frame(axes)
    axes.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()

"""Judge samples of generators against true showers, with pairs of true samples beside them.

    python benchmarks/generator_quality.py base.ckpt [sample.h5 ...] [--device cuda] [--showers 50000]
                                           [--bins 5] [--figures pulls hits] [--json results.json]

For each checkpoint of ``supa mamba train-generator`` the script samples showers, or it reads those of a file of ``supa
mamba sample``. It simulates as many, and prints

- the pulls of the means against their exact expectations, for 10,000 samples,
- the areas under the ROC curve of three classifiers: boosted trees that see all observables of showers but the response
  (high-level), boosted trees that see the energies in the cells of ``supa.CALOGAN`` (low-level), and a bidirectional
  Mamba encoder that sees the hits in order (hit-level),
- the Frechet and kernel distances of ``supa.compare``, for at most 10,000 samples,

and the same for two true samples, and for two samples of the generator, which are the halves of a file. If the incident
energy varies, it is divided into bins of equal ratio, and the areas are computed in each of them. Distances include a
joint p-value of all observables. ``--figures`` selects some of the figures.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import give, gpu_facts, note, torch_facts
from torch import Tensor
from torch.nn import functional

import supa
from supa.distances import classifier_auc
from supa.distances.classifier import area_under_curve
from supa_datasets import ShowerFile
from supa_mamba import EncoderConfig, GeneratorCheckpoint, ShowerEncoder, sample_showers
from supa_mamba.generator.sample_comparison import observables_of

SEED = 7
MOST_FOR_PULLS = 10_000
MOST_FOR_DISTANCES = 10_000  # whose time is quadratic
FIGURES = ["pulls", "distances", "high", "low", "hits"]
BATCH, EPOCHS, LEARNING_RATE = 512, 12, 2e-3


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("samples", nargs="+", type=Path, help="checkpoints or files of showers")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--showers", type=int, default=50_000, help="number of showers in each bin of the energy")
    parser.add_argument("--bins", type=int, default=5, help="number of bins if the incident energy varies")
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=FIGURES)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = (gpu_facts() if given.device == "cuda" else torch_facts()) | {"samples": {}}
    for path in given.samples:
        results["samples"][path.name] = judged(path, given)
    give(results, given.json)


def judged(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a checkpoint or a file."""
    result: dict[str, Any] = {}
    pairs = {}
    if path.suffix == ".h5":
        sample = ShowerFile(path)[:]
        config = sample.config
        edges, half = edges_of(config, given.bins), len(sample) // 2
        pairs["two samples"] = (sample[:half], sample[half:])
    else:
        checkpoint = GeneratorCheckpoint.load(path)
        model, config = checkpoint.model().to(given.device), checkpoint.shower_configs[0]
        edges = edges_of(config, given.bins)
        count = (len(edges) - 1) * given.showers
        start = time.perf_counter()
        sample, second = (sample_showers(model, config, count, seed=SEED + k) for k in (0, 3))
        result["model"] = checkpoint.config.generator.to_dict()
        result["seconds of sampling"] = round((time.perf_counter() - start) / 2, 1)
        pairs["two samples"] = (second, sample)
    result["showers"] = count = len(sample)
    true, other = (supa.simulate(count, config, seed=SEED + k) for k in (1, 2))
    for name, showers in (("sample", sample), ("true", other)) if "pulls" in given.figures else ():
        few = supa.compare(true[:MOST_FOR_PULLS], showers[:MOST_FOR_PULLS], repeats=19, multivariate=False)
        result[f"pulls, {name}"] = {pull.name: round(pull.generated_pull, 2) for pull in few.pulls}
    pairs |= {"sample": (true, sample), "true": (true, other)}
    for k in range(bins := len(edges) - 1):
        row = {name: figures(*(x[in_bin(x, edges, k)] for x in pair), given) for name, pair in pairs.items()}
        result["all" if bins == 1 else f"{edges[k]:.3g} to {edges[k + 1]:.3g} GeV"] = row
        note(f"{path.name}: {row}")
    return result


def edges_of(config: supa.ShowerConfig, bins: int) -> Any:
    """Return the edges of bins of the incident energy of equal ratio, or of one bin if the energy is constant."""
    low, high = min(config.spectrum.values), max(config.spectrum.values)
    return np.geomspace(low, high, (bins if low < high else 1) + 1)


def in_bin(showers: supa.Showers, edges: Any, k: int) -> Any:
    """Return which showers have an energy in a bin."""
    last = k == len(edges) - 2
    energy = showers.incident_energy
    return (energy >= edges[k] if k else energy > 0) & ((energy < edges[k + 1]) | last)


def figures(true: supa.Showers, other: supa.Showers, given: argparse.Namespace) -> dict[str, Any]:
    """Compare two samples."""
    found: dict[str, Any] = {}
    if "distances" in given.figures:
        few = supa.compare(true[:MOST_FOR_DISTANCES], other[:MOST_FOR_DISTANCES], repeats=19)
        found |= {s.name: [round(x, 5) for x in (s.value.value, s.value.error, s.floor.value)] for s in few.scores}
        found["joint p-value"] = round(few.joint_p_value, 4)
    if "high" in given.figures:
        compared = supa.compare(true, other, repeats=19, multivariate=False)
        finite = [o for o in compared.observables if np.isfinite(o.distance.value)]
        worst = sorted(finite, key=lambda o: -o.distance.value)[:5]
        found["largest distances"] = {o.name: round(o.distance.value, 4) for o in worst}
        high = classifier_auc(*observables_of(compared), seed=SEED)
        found["high-level AUC"] = [round(high.auc, 4), round(high.equal_error, 4)]
    if "low" in given.figures:
        low = classifier_auc(*(supa.CALOGAN.energies(x) for x in (true, other)), seed=SEED)
        found["low-level AUC"] = [round(low.auc, 4), round(low.equal_error, 4)]
    if "hits" in given.figures:
        found["hit-level AUC"] = hit_level_auc(true, other, given.device)
    return found


def hit_level_auc(true: supa.Showers, other: supa.Showers, device: str) -> list[float]:
    """Train an encoder on three fifths of both samples, and return the area for the others and its error."""
    count = min(len(true), len(other))
    split = 3 * count // 5
    scale = float(np.sqrt(np.mean(np.square(true.x) + np.square(true.y))))
    rows = [hits_of(x[:count], scale, device) for x in (true, other)]
    torch.manual_seed(SEED)
    encoder = ShowerEncoder(EncoderConfig(features=5, outputs=1, level="shower", d_model=64, n_layer=2), device=device)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=LEARNING_RATE)
    random = np.random.default_rng(SEED)
    steps = EPOCHS * (2 * split // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=max(steps, 2))
    for _ in range(EPOCHS):
        order = random.permutation(2 * split)
        for k in range(2 * split // BATCH):
            points, offset, label = batch_of(rows, order[k * BATCH : (k + 1) * BATCH], split)
            loss = functional.binary_cross_entropy_with_logits(encoder(points, offset)[:, 0], label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    scores: list[list[Tensor]] = [[], []]
    with torch.no_grad():
        for number in (0, 1):
            for begin in range(split, count, BATCH):
                chosen = torch.arange(begin, min(begin + BATCH, count), device=device)
                scores[number].append(encoder(*gathered(*rows[number], chosen))[:, 0])
    return area(*(torch.cat(of).double().cpu().numpy() for of in scores))


def hits_of(showers: supa.Showers, scale: float, device: str) -> tuple[Tensor, Tensor]:
    """Return (hits, 5) features and the offsets: slice, x, y, and the logarithms of energy and remaining energy."""
    counts = showers.num_hits
    incident = np.repeat(showers.incident_energy, counts).astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(showers.energy / incident)])
    # Differences of sums have errors of rounding of 1e-12 of the incident energy, like the last hits.
    remaining = np.maximum(np.repeat(total[showers.offset[1:]], counts) - total[:-1], 1e-12)
    position, of_slice = np.stack([showers.x, showers.y]) / scale, showers.slice / showers.config.num_slices
    points = np.stack([of_slice, *position, np.log(showers.energy / incident) / 4, np.log(remaining) / 4], 1)
    return torch.from_numpy(points.astype(np.float32)).to(device), torch.from_numpy(showers.offset).to(device)


def batch_of(rows: Any, numbers: Any, split: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hits of true and other showers, and which are the others."""
    device = rows[0][0].device
    parts = [
        gathered(*rows[k], torch.from_numpy(numbers[(numbers >= split) == bool(k)] % split).to(device)) for k in (0, 1)
    ]
    points = torch.cat([part[0] for part in parts])
    offset = torch.cat([parts[0][1], parts[0][1][-1] + parts[1][1][1:]])
    label = torch.cat([torch.full((len(part[1]) - 1,), float(k), device=device) for k, part in enumerate(parts)])
    return points, offset, label


def gathered(points: Tensor, offset: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hits of some showers and their offsets."""
    counts = offset.diff()[chosen]
    begins = functional.pad(counts.cumsum(0), (1, 0))
    place = torch.arange(int(begins[-1]), device=points.device) - begins[:-1].repeat_interleave(counts)
    return points[offset[chosen].repeat_interleave(counts) + place], begins


def area(true: Any, other: Any) -> list[float]:
    """Return the area under the ROC curve, and its error for equal samples."""
    n, m = len(true), len(other)
    return [round(area_under_curve(true, other)[0], 4), round(float(np.sqrt((n + m + 1) / (12 * n * m))), 4)]


if __name__ == "__main__":
    main()

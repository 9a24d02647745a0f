"""Label the hits of events by their showers, with Mamba, attention and sparse attention, and compare accuracy and time.

    python benchmarks/event_labelling.py [--models rows mamba attention sparse] [--mean 200] [--preset standard]
                                         [--half-width 40] [--duration 100] [--resolution 0.2] [--events 2]
                                         [--validation-events 16] [--steps 800] [--learning-rate 1e-3] [--d-model 256]
                                         [--n-layer 4] [--head-size 64] [--buckets 16] [--seed 0] [--device cuda]
                                         [--json results.json]

``supa_datasets.overlay_events`` overlays showers at impact points and times of their own. The sequence of an event
begins with a row for each shower, its seed, which contains the impact point but not the time. All hits follow in the
order of their times, which are measured with a Gaussian error (``--resolution``, length unit). Showers overlap in
space, so a hit must find earlier hits of about the same time and place, and the impact point in their middle.

The score of a hit and a shower is the dot product of two vectors, linear maps of the results for the hit and for the
seed. A softmax over the seeds of the event turns scores into chances; the loss is the mean cross-entropy. The models
differ in the mixers of a `HybridStack`:

- rows: none. Each hit is compared with the seeds on its own, so this shows what the other hits are worth;
- mamba: Mamba in all layers;
- attention: `CausalAttention` in all layers;
- sparse: `SparseAttention` in all layers.

Width, depth, batches, optimiser and number of steps are the same. The numbers of hidden features of the MLPs make the
numbers of parameters nearly the same. Each step trains on new events, on a GPU under autocast to bfloat16.

The script prints two tables. Both give the share of the validation hits that are assigned to their showers, and the
adjusted Rand index, a mean over the validation events. The first one compares equal steps. In the second one all
trainings end when the fastest of mamba, attention and sparse has made all steps. Validation takes place ten times, and
the time after n steps is n times the median time of a step, so that compilation does not count. On a GPU each step ends
with a synchronisation. Three rows need no training: the nearest impact point; that nearest to a weighted mean of the
earlier hits, with Gaussian weights in space and time; and the largest shower of the event.

Without a GPU, these settings take about ten minutes on one core, and with ``--steps 80`` one minute: ``--device cpu
--preset critical --mean 12 --half-width 5 --duration 12 --events 4 --learning-rate 3e-3 --d-model 64 --n-layer 2
--head-size 32 --buckets 4``. Needs the extra ``compare``.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from measuring import give, gpu_facts, note, torch_facts
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn
from torch.nn import functional

import supa
from supa_datasets import overlay_events
from supa_mamba import HybridStack

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

MIXING = ("mamba", "attention", "sparse")
VALIDATIONS = 10
SHORTEST = 1.0  # wavelength of the features of a coordinate, length unit


class Event(NamedTuple):
    """The seeds and hits of an event.

    Args:
        seeds: (n, 2) impact points, in the order of x.
        hits: (m, 5) x, y, measured time, z and the logarithm of the energy, in the order of the times.
        label: (m,) seed of each hit.
    """

    seeds: Floats
    hits: Floats
    label: Ints


def simulate(count: int, seed: int, given: argparse.Namespace) -> list[Event]:
    """Return events with measured times. Events without hits are left out."""
    showers = count * given.mean / (1 - math.exp(-given.mean))
    enough = math.ceil(showers + 6 * math.sqrt(showers) + 6)
    table = overlay_events(
        supa.simulate(enough, given.preset, seed=seed),
        given.mean,
        seed=seed,
        half_width=given.half_width,
        duration=given.duration,
    )
    error = given.resolution * np.random.default_rng(seed).standard_normal(table.num_rows)
    columns = (table["x"], table["y"], table["time"] + error, table["z"], np.log(table["energy"]))
    hits = np.stack(columns, axis=1, dtype=np.float32)
    impacts = np.stack([table["impact_x"], table["impact_y"]], axis=1)
    found = []
    for number in np.flatnonzero(table.counts)[:count]:
        begin, end = table.offset[number : number + 2]
        order = begin + hits[begin:end, 2].argsort()
        _, first, label = np.unique(table["shower"][order], return_index=True, return_inverse=True)
        seeds = impacts[order][first]
        by_x = seeds[:, 0].argsort()
        found.append(Event(seeds[by_x], hits[order], by_x.argsort()[label]))
    return found


class Batch:
    """The sequences of some events.

    Args:
        events: The events.
        longest: Longest wavelength of the features of a coordinate.
        device: Device of the tensors.
    """

    def __init__(self, events: list[Event], longest: float, device: str) -> None:
        sizes = [(len(event.seeds), len(event.hits)) for event in events]
        lengths = [seeds + hits for seeds, hits in sizes]
        ends = np.cumsum(lengths).tolist()
        self.parts = [(end - hits - seeds, end - hits, end) for (seeds, hits), end in zip(sizes, ends, strict=True)]
        self.longest_event = max(lengths)
        parts = [torch.from_numpy(rows).to(device) for event in events for rows in (event.seeds, event.hits)]
        self.rows = torch.cat([features(rows, longest) for rows in parts])
        self.offset = torch.tensor([0, *ends], device=device)
        self.labels = [torch.from_numpy(event.label).to(device) for event in events]
        self.hits = sum(len(label) for label in self.labels)


def features(rows: Tensor, longest: float) -> Tensor:
    """Return the features of seeds or hits.

    Those of a coordinate are sines and cosines, whose wavelengths are powers of two times the shortest one. The time of
    a hit is replaced by that of a shower whose hits at this depth have it.
    """
    of_hits = rows.shape[1] > 2
    x, y, passed, z, energy = functional.pad(rows, (0, 5 - rows.shape[1])).unbind(1)
    coordinates = torch.stack([x, y, passed - z, z], 1)
    wavelengths = SHORTEST * 2 ** torch.arange(math.ceil(math.log2(longest / SHORTEST)) + 1, device=rows.device)
    angles = (2 * math.pi * coordinates[:, :, None] / wavelengths).flatten(1)
    others = torch.stack([energy / 4, torch.full_like(energy, of_hits)], 1)
    return torch.cat([angles.sin(), angles.cos(), others], 1)


class Rows(nn.Module):
    """A linear map in the place of a mixer, which mixes nothing.

    Args:
        d_model: Number of features per row.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Map each row."""
        y: Tensor = self.out_proj(x)
        return y


class Labeller(nn.Module):
    """A stack that scores hits and showers.

    Args:
        name: Name of the model.
        inputs: Number of features of seeds and hits.
        hidden: Number of hidden features of the MLPs.
        given: Settings.
    """

    def __init__(self, name: str, inputs: int, hidden: int, given: argparse.Namespace) -> None:
        super().__init__()
        width, layers = given.d_model, given.n_layer
        self.inputs = nn.Linear(inputs, width)
        self.stack = HybridStack(
            width,
            layers,
            range(layers) if name in ("attention", "sparse") else (),
            num_heads=width // given.head_size,
            mixer=Rows if name == "rows" else "mamba",
            d_intermediate=hidden,
            sparse_buckets=given.buckets if name == "sparse" else 0,
        )
        self.of_hits, self.of_seeds = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Return the (hits, seeds) scores of each event."""
        y = self.stack(self.inputs(batch.rows), batch.offset, max_length=batch.longest_event)
        hits, seeds = self.of_hits(y), self.of_seeds(y)
        scale = hits.shape[1] ** -0.5
        return [(hits[middle:end] @ seeds[begin:middle].T).float() * scale for begin, middle, end in batch.parts]


def labeller(name: str, inputs: int, given: argparse.Namespace) -> Labeller:
    """Return a model whose number of parameters is nearly that of Mamba with MLPs of ``d_model`` hidden features."""

    def parameters(model: str, hidden: int) -> int:
        return sum(x.numel() for x in Labeller(model, inputs, hidden, given).parameters())

    missing = parameters("mamba", given.d_model) - parameters(name, 8)
    of_hidden = (parameters(name, 16) - parameters(name, 8)) / 8
    torch.manual_seed(given.seed)
    return Labeller(name, inputs, 8 * round(1 + missing / of_hidden / 8), given).to(given.device)


def scores_of(model: Labeller, batch: Batch) -> list[Tensor]:
    """Return the scores, on a GPU under autocast to bfloat16."""
    with torch.autocast(batch.rows.device.type, torch.bfloat16, enabled=batch.rows.is_cuda):
        found: list[Tensor] = model(batch)
    return found


def quality(events: list[Event], guesses: list[Ints]) -> dict[str, float]:
    """Return the accuracy and the adjusted Rand index of guessed seeds."""
    correct = [guess == event.label for event, guess in zip(events, guesses, strict=True)]
    rand = [adjusted_rand_score(event.label, guess) for event, guess in zip(events, guesses, strict=True)]
    return {"accuracy": float(np.concatenate(correct).mean()), "adjusted_rand_index": float(np.mean(rand))}


def untrained(train: list[Event], valid: list[Event], given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the quality of guesses without a training."""
    # The width of a shower in one coordinate. The weights of a hit extend over this width around another one.
    width = float(np.concatenate([event.hits[:, :2] - event.seeds[event.label] for event in train]).std())
    guesses: dict[str, list[Ints]] = {
        "nearest impact point": [], "nearest to the mean of earlier hits": [], "largest shower": []
    }  # fmt: skip
    for event in valid:
        seeds, hits = (torch.from_numpy(rows).to(given.device) for rows in (event.seeds, event.hits))
        place, passed = hits[:, :2], hits[:, 2] - hits[:, 3]
        squares = ((passed[:, None] - passed) / given.resolution) ** 2 + torch.cdist(place, place) ** 2 / (2 * width**2)
        weights = torch.exp(-squares / 2).tril()
        mean = weights @ place / weights.sum(1, keepdim=True)
        nearest = [torch.cdist(x, seeds).argmin(1).cpu().numpy() for x in (place, mean)]
        largest = np.full_like(event.label, np.bincount(event.label).argmax())
        for of_name, guess in zip(guesses.values(), (*nearest, largest), strict=True):
            of_name.append(guess)
    return {name: quality(valid, of_name) for name, of_name in guesses.items()}


@torch.no_grad()
def validated(model: Labeller, valid: list[Event], batches: list[Batch]) -> dict[str, float]:
    """Return the quality of a model."""
    return quality(valid, [scores.argmax(1).cpu().numpy() for batch in batches for scores in scores_of(model, batch)])


def run_model(
    name: str, events: list[Event], valid: list[Event], batch_of: Callable[[list[Event]], Batch], given: Any
) -> dict[str, Any]:
    """Train a model, and return its quality and times."""
    groups = [events[first : first + given.events] for first in range(0, len(events), given.events)]
    batches = [batch_of([event]) for event in valid]
    model = labeller(name, batches[0].rows.shape[1], given)
    optimiser = torch.optim.Adam(model.parameters(), lr=given.learning_rate)
    passed, curve = [], []

    def synchronised() -> float:
        if given.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    for step, group in enumerate(groups, start=1):
        batch = batch_of(group)
        for of_group in optimiser.param_groups:
            of_group["lr"] = given.learning_rate * min(1, 10 * step / given.steps)
        start = synchronised()
        scores = scores_of(model, batch)
        pairs = zip(scores, batch.labels, strict=True)
        losses = [functional.cross_entropy(of_event, label, reduction="sum") for of_event, label in pairs]
        loss = torch.stack(losses).sum() / batch.hits
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        passed.append(synchronised() - start)
        if step * VALIDATIONS // given.steps > (step - 1) * VALIDATIONS // given.steps:
            curve.append({"step": step, "loss": float(loss.detach()), **validated(model, valid, batches)})
            note(f"{name}, step {step}: {curve[-1]}")
    seconds = statistics.median(passed)
    parameters = sum(x.numel() for x in model.parameters())
    return {"parameters": parameters, "seconds_per_step": seconds, "curve": curve}


def row(name: str, found: dict[str, float], *cells: str) -> str:
    """Return a row of a table."""
    quality_cells = (f"{100 * found['accuracy']:.1f} %", f"{found['adjusted_rand_index']:.3f}")
    return f"| {' | '.join((name, *cells, *quality_cells))} |"


def print_tables(results: dict[str, Any]) -> None:
    """Print the tables of equal steps and of equal time."""
    models = results["models"]
    note("\n| model | parameters | steps | ms per step | accuracy | adjusted Rand index |\n|---|---|---|---|---|---|")
    for name, found in results["untrained"].items():
        note(row(name, found, "", "", ""))
    for name, model in models.items():
        last = model["curve"][-1]
        note(row(name, last, f"{model['parameters']}", f"{last['step']}", f"{1e3 * model['seconds_per_step']:.1f}"))
    note(f"\n| model | steps in {results['seconds']:.1f} s | accuracy | adjusted Rand index |\n|---|---|---|---|")
    for name, model in models.items():
        if model["in_equal_time"]:
            note(row(name, model["in_equal_time"], f"{model['in_equal_time']['step']}"))


def main() -> None:
    """Train all models and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=["rows", *MIXING], default=["rows", *MIXING])
    parser.add_argument("--mean", type=float, default=200, help="mean number of showers per event")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--half-width", type=float, default=40.0, help="of the square of impact points")
    parser.add_argument("--duration", type=float, default=100.0, help="of the interval of times")
    parser.add_argument("--resolution", type=float, default=0.2, help="standard deviation of the errors of times")
    parser.add_argument("--events", type=int, default=2, help="events of a step")
    parser.add_argument("--validation-events", type=int, default=16)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--d-model", type=int, default=256)
    parser.add_argument("--n-layer", type=int, default=4)
    parser.add_argument("--head-size", type=int, default=64)
    parser.add_argument("--buckets", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    given = parser.parse_args()
    if given.resolution <= 0 or min(given.events, given.validation_events) < 1 or given.steps < VALIDATIONS:
        parser.error(f"--resolution and numbers of events must be positive, and --steps at least {VALIDATIONS}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU; the description at the top of this script names settings for --device cpu")
    events = simulate(given.steps * given.events, 2 * given.seed + 1, given)
    valid = simulate(given.validation_events, 2 * given.seed + 2, given)
    longest = 4 * given.half_width + 2 * given.duration
    results = gpu_facts() if given.device == "cuda" else torch_facts()
    results |= {"arguments": {name: value for name, value in vars(given).items() if name != "json"}}
    results["hits_per_event"] = float(np.mean([len(event.hits) for event in valid]))
    note(f"{results['hits_per_event']:.0f} hits per event")
    results["untrained"] = untrained(events[:16], valid, given)
    results["models"] = models = {
        name: run_model(name, events, valid, lambda group: Batch(group, longest, given.device), given)
        for name in given.models
    }
    times = {name: model["seconds_per_step"] for name, model in models.items()}
    results["seconds"] = given.steps * min(times[name] for name in models if name in MIXING or len(models) == 1)
    for model in models.values():
        in_time = [at for at in model["curve"] if at["step"] * model["seconds_per_step"] <= results["seconds"] + 1e-9]
        model["in_equal_time"] = in_time[-1] if in_time else None
    print_tables(results)
    give(results, given.json)


if __name__ == "__main__":
    main()

"""Simple models and faults for ``benchmark_tasks.py``."""

import dataclasses
from collections.abc import Callable

import numpy as np

import supa
from supa import Ragged, Showers
from supa.ragged import counts_to_offsets
from supa_datasets import BenchmarkTask
from supa_datasets.benchmark_tasks.cells import binned
from supa_datasets.benchmark_tasks.prediction_metrics import optimal_predictions
from supa_learning import CountBaseline

TRAINING = 20_000  # showers that the models use at most
ENERGY_BINS = 20
SMEARING = 0.05

# ---------------------------------------------------------------------- true samples and faults


def true_sample(task: BenchmarkTask, num: int) -> Showers:
    """Return a true sample that is independent of the test range and of the noise floor."""
    if task.conditions is None:
        return supa.simulate(num, task.config, seed=task.seed + 10**6)
    return _as_generated(task.simulate_range(task.conditions, num))


def faulty_sample(task: BenchmarkTask, fault: str) -> Showers:
    """Return a true sample with 1 % more energy, or without one hit in a hundred."""
    sample = binned(task, true_sample(task, task.num_showers))
    if fault == "energy":
        return _with_hits(sample, sample.offset, energy=sample.energy * 1.01)
    keep = np.random.default_rng(1).random(sample.hits.num_rows) >= 0.01
    return _some_hits(sample, keep)


def faulty_predictions(task: BenchmarkTask, values: np.ndarray) -> np.ndarray:
    """Multiply energies by 1.01, or change one label in a hundred."""
    if task.kind == "regression":
        return values * 1.01
    random = np.random.default_rng(1)
    wrong = (values + random.integers(1, len(task.classes), size=len(values))) % len(task.classes)
    return np.where(random.random(len(values)) < 0.01, wrong, values)


def _as_generated(showers: Showers) -> Showers:
    return dataclasses.replace(showers, run=dataclasses.replace(showers.run, engine="imported", seed=None))


def _with_hits(showers: Showers, offset: np.ndarray, **columns: np.ndarray) -> Showers:
    return _as_generated(dataclasses.replace(showers, hits=Ragged({**showers.hits.columns, **columns}, offset)))


def _some_hits(showers: Showers, keep: np.ndarray) -> Showers:
    counts = np.bincount(showers.hits.group_of_row()[keep], minlength=len(showers))
    columns = {name: column[keep] for name, column in showers.hits.columns.items()}
    return _as_generated(dataclasses.replace(showers, hits=Ragged(columns, counts_to_offsets(counts))))


# ---------------------------------------------------------------------- generators


def _training(task: BenchmarkTask) -> Showers:
    return task.simulate("train", min(TRAINING, len(task.train)))


def _near_config(task: BenchmarkTask) -> Showers:
    """Simulate with slightly more splits."""
    config = task.config.replace(split_early=task.config.split_early + 0.01)
    if task.conditions is None:
        return _relabelled(task, supa.simulate(task.num_showers, config, seed=7))
    # Each condition takes the shower with the nearest energy out of many, scaled to the condition.
    return _nearest(task, supa.simulate(10 * task.num_showers, config, seed=7))


def _smeared(task: BenchmarkTask) -> Showers:
    """Repeat training showers with smeared energies of the hits."""
    if task.conditions is None:
        train = _training(task)
        sample = train[np.random.default_rng(2).integers(len(train), size=task.num_showers)]
    else:
        sample = _nearest(task, _training(task))
    factor = np.exp(SMEARING * np.random.default_rng(3).normal(size=sample.hits.num_rows))
    return _with_hits(sample, sample.offset, energy=sample.energy * factor)


def _independent(task: BenchmarkTask) -> Showers:
    """Draw the number of hits and each hit independently from training showers of about the same energy."""
    random = np.random.default_rng(4)
    train, incident = _training(task), task.incident_energies()
    if task.conditions is None:
        edges = np.array([0.0, np.inf])
    else:
        edges = np.quantile(train.incident_energy, np.linspace(0, 1, ENERGY_BINS + 1))
        edges[0], edges[-1] = 0, np.inf
    bin_of_train, wanted = (np.digitize(energies, edges[1:-1]) for energies in (train.incident_energy, incident))
    bin_of_hit = bin_of_train[train.hits.group_of_row()]
    counts = np.zeros(len(incident), dtype=np.int64)
    for number in range(len(edges) - 1):
        known = train.num_hits[bin_of_train == number]
        counts[wanted == number] = random.choice(known, size=np.count_nonzero(wanted == number))
    owner = np.repeat(np.arange(len(incident)), counts)
    rows = np.empty(len(owner), dtype=np.int64)
    for number in range(len(edges) - 1):
        place = wanted[owner] == number
        rows[place] = random.choice(np.flatnonzero(bin_of_hit == number), size=np.count_nonzero(place))
    energy = train.energy[rows]
    sums = np.bincount(owner, energy, minlength=len(incident))
    energy = energy * (incident / np.where(sums > 0, sums, 1))[owner]  # conserve the energy of each shower
    return supa.from_hits(
        task.config, offset=counts_to_offsets(counts), incident_energy=incident, x=train.x[rows], y=train.y[rows],
        energy=energy, slice=train.slice[rows],
    )  # fmt: skip


def _nearest(task: BenchmarkTask, known: Showers) -> Showers:
    """Take the known shower with the nearest energy for each condition, and scale its energies."""
    incident = task.incident_energies()
    order = np.argsort(known.incident_energy)
    place = np.searchsorted(known.incident_energy[order], incident).clip(max=len(known) - 1)
    sample = known[order[place]]
    factor = incident / sample.incident_energy
    hits = sample.hits.columns
    return supa.from_hits(
        task.config, offset=sample.offset, incident_energy=incident, x=hits["x"], y=hits["y"],
        energy=hits["energy"] * np.repeat(factor, sample.num_hits), slice=hits["slice"],
    )  # fmt: skip


def _relabelled(task: BenchmarkTask, showers: Showers) -> Showers:
    hits = showers.hits.columns
    return supa.from_hits(
        task.config, offset=showers.offset, incident_energy=showers.incident_energy, x=hits["x"], y=hits["y"],
        energy=hits["energy"], slice=hits["slice"],
    )  # fmt: skip


GENERATORS: dict[str, Callable[[BenchmarkTask], Showers]] = {
    "true sample": lambda task: true_sample(task, task.num_showers),
    "1 % more energy": lambda task: faulty_sample(task, "energy"),
    "one hit in 100 dropped": lambda task: faulty_sample(task, "hits"),
    "1 % more early splits": _near_config,
    "training showers, smeared": _smeared,
    "independent hits": _independent,
}

# ---------------------------------------------------------------------- predictors


def _profile(task: BenchmarkTask, showers: Showers) -> np.ndarray:
    """Return numbers of hits by slice and widths, or of particles by slice and fate for trees."""
    if task.form == "graphs":
        tree = showers.particles
        owner = tree.group_of_row()
        kind = tree["slice"].astype(np.int64) * 4 + tree["fate"]
        counts = np.zeros((len(showers), 4 * showers.config.num_slices))
        np.add.at(counts, (owner, kind), 1)
        return counts[:, counts.any(axis=0)]
    owner = showers.hits.group_of_row()
    counts = np.zeros((len(showers), showers.config.num_slices))
    np.add.at(counts, (owner, showers.slice), 1)
    radius = np.hypot(showers.x, showers.y)
    hits = np.maximum(showers.num_hits, 1)
    means = [np.bincount(owner, values, minlength=len(showers)) / hits for values in (radius, radius**2, showers.z)]
    return np.column_stack([counts, *means, showers.num_hits])


def _count(task: BenchmarkTask) -> np.ndarray:
    train, test = task.simulate("train", TRAINING), task.simulate("test", task.num_showers)
    target = task.targets(train)
    if task.kind == "regression":
        return np.exp(CountBaseline.fit(np.log(target), train.num_hits, classes=False).predict(test.num_hits))
    return CountBaseline.fit(target, train.num_hits, classes=True).predict(test.num_hits).astype(np.int64)


def _constant(task: BenchmarkTask) -> np.ndarray:
    target = task.targets(task.simulate("train", TRAINING))
    if task.kind == "regression":
        return np.full(task.num_showers, np.exp(np.log(target).mean()))
    number = (
        task.num_showers if task.kind == "classification" else task.simulate("test", task.num_showers).num_hits.sum()
    )
    return np.full(number, np.bincount(target).argmax())


def _boosted(task: BenchmarkTask) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    train, test = task.simulate("train", TRAINING), task.simulate("test", task.num_showers)
    both = _profile(task, Showers.concatenate([train, test]))
    features, asked = both[: len(train)], both[len(train) :]
    target = task.targets(train)
    if task.kind == "regression":
        model = HistGradientBoostingRegressor(random_state=0).fit(features, np.log(target))
        return np.exp(model.predict(asked))
    return HistGradientBoostingClassifier(random_state=0).fit(features, target).predict(asked)


def _side(task: BenchmarkTask) -> np.ndarray:
    """Divide each shower at its centre, across the transverse axis of the largest variance, weighted by energy."""
    test = task.simulate("test", task.num_showers)
    owner, energy = test.hits.group_of_row(), test.energy

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(owner, values * energy, minlength=len(test))

    norm = np.maximum(total(np.ones(len(owner))), 1e-12)
    x, y = (values - (total(values) / norm)[owner] for values in (test.x, test.y))
    angle = 0.5 * np.arctan2(2 * total(x * y), total(x * x) - total(y * y))
    return (x * np.cos(angle)[owner] + y * np.sin(angle)[owner] > 0).astype(np.int64)


def _optimal(task: BenchmarkTask) -> np.ndarray:
    return optimal_predictions(task, task.simulate("test", task.num_showers))


def _faulty(task: BenchmarkTask) -> np.ndarray:
    return faulty_predictions(task, _optimal(task))


PREDICTORS: dict[str, dict[str, Callable[[BenchmarkTask], np.ndarray]]] = {
    "regression": {
        "constant": _constant, "number of hits": _count, "boosted trees": _boosted, "Bayes-optimal": _optimal,
        "Bayes-optimal, times 1.01": _faulty,
    },
    "classification": {
        "constant": _constant, "number of hits": _count, "boosted trees": _boosted, "Bayes-optimal": _optimal,
        "Bayes-optimal, one in 100 changed": _faulty,
    },
    "labelling": {
        "constant": _constant, "side of the centre": _side, "true labels": _optimal,
        "true labels, one in 100 changed": _faulty,
    },
}  # fmt: skip
"""Functions that predict for the first test showers, by kind of task and by label."""

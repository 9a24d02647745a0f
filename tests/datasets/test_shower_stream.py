"""Streams: every shower comes at its position, for any number of workers and ranks, before and after a kill."""

import json
import multiprocessing
import os
import pickle
import signal
import time
from itertools import chain, islice, pairwise, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import supa
from supa_datasets import (
    GraphDataset,
    ImageDataset,
    Normalisation,
    PointDataset,
    SequenceDataset,
    ShowerStream,
    Tree,
    Within,
)
from supa_datasets.streams import shower_stream
from supa_datasets.streams.mixture import config_numbers

pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

FEW_PROCESSORS = pytest.mark.filterwarnings("ignore:This DataLoader will create")
CONFIGS = ("standard", supa.preset("critical"), "two-primaries")
WEIGHTS = (3, 1, 2)
MIXTURE = {"seed": 7, "first": 1000, "weights": WEIGHTS, "targets": ["attempt", "source", "incident_energy", "layer"]}


def _uniform(seed, index):
    """Return the number from 0 to 1 that selects the config of a position, in plain Python."""

    def splitmix64(z):
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    return (splitmix64((splitmix64(seed) + splitmix64(index)) % 2**64) >> 11) / 2**53


def _true_showers(positions, seed=7, first=1000):
    """Return (config number, shower) of each position of the mixture, each simulated alone."""
    edges = np.cumsum(WEIGHTS) / sum(WEIGHTS)
    numbers = [int(np.searchsorted(edges, _uniform(seed, first + p), side="right")) for p in positions]
    return [
        (k, supa.simulate(1, CONFIGS[k], seed=seed, first=first + p)) for k, p in zip(numbers, positions, strict=True)
    ]


def _assert_equal(one, other):
    one, other = (batch if isinstance(batch, dict) else batch.to_dict() for batch in (one, other))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name], name


def _joined(batches):
    """Concatenate the parts of a batch that several ranks have."""
    joined = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0] if name != "offset"}
    counts = torch.cat([batch["offset"].diff() for batch in batches])
    return joined | {"offset": torch.cat([counts.new_zeros(1), counts.cumsum(0)])}


# ---------------------------------------------------------------------- order


@pytest.fixture(scope="module")
def true_batches():
    """The batches of 12 showers of the first 103 positions of the mixture; the last one has 7."""
    batches = []
    for start in range(0, 103, 12):
        numbers, showers = zip(*_true_showers(range(start, min(start + 12, 103))), strict=True)
        single = [PointDataset(shower, targets=["attempt", "incident_energy", "layer"])[0] for shower in showers]
        batch = {name: torch.stack([item[name] for item in single]) for name in ("attempt", "incident_energy")}
        batch |= {name: torch.cat([item[name] for item in single]) for name in ("points", "layer")}
        counts = torch.tensor([0, *(len(item["points"]) for item in single)])
        batches.append(batch | {"source": torch.tensor(numbers), "offset": counts.cumsum(0)})
    assert {int(k) for batch in batches for k in batch["source"]} == {0, 1, 2}
    return batches


@FEW_PROCESSORS
@pytest.mark.parametrize(
    ("start", "ranks", "workers"),
    [  # each pair of values at least once
        (4 if (i + j) % 2 else 0, ranks, workers)
        for (i, ranks), (j, workers) in product(enumerate((1, 2, 4)), enumerate((0, 1, 3)))
    ],
)
def test_every_step_has_the_same_showers_for_all_workers_and_ranks(true_batches, start, ranks, workers):
    parts = []
    for rank in range(ranks):
        stream = ShowerStream(CONFIGS, 12, length=103, rank=rank, num_ranks=ranks, **MIXTURE)
        stream.start_at(start)
        parts.append(list(DataLoader(stream, batch_size=None, num_workers=workers)))
        assert {len(batch["attempt"]) for batch in parts[-1][:-1]} == {12 // ranks}
        assert len(parts[-1][-1]["attempt"]) in (7 // ranks, 7 // ranks + 1)
    assert [len(part) for part in parts] == [len(true_batches) - start] * ranks
    for batches, expected in zip(zip(*parts, strict=True), true_batches[start:], strict=True):
        _assert_equal(_joined(batches), expected)


@FEW_PROCESSORS
def test_spawned_workers_return_the_same_batches(true_batches):
    """Spawned workers inherit nothing: the stream is pickled."""
    stream = ShowerStream(CONFIGS, 12, length=103, **MIXTURE)
    assert len(pickle.dumps(stream)) < 20_000
    loader = DataLoader(stream, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for batch, expected in zip(loader, true_batches, strict=True):
        _assert_equal(batch, expected)


FORMS = {
    "points": (PointDataset, {"features": ("x", "energy_fraction"), "targets": ["layer"]}, {}),
    "padded": (PointDataset, {"form": "padded"}, {"layout": "padded"}),
    "graphs": (GraphDataset, {"edges": Within(3.0), "targets": ["num_hits", "slice"]}, {}),
    "transformed graphs": (GraphDataset, {"transform": lambda graph: graph}, {}),
    "trees": (GraphDataset, {"edges": Tree(), "targets": ["fate"]}, {"record": "particles"}),
    "sequences": (SequenceDataset, {"order": "depth"}, {}),
    "paths": (SequenceDataset, {"order": "trajectories"}, {"record": "particles"}),
    "images": (ImageDataset, {"targets": ["leaked_energy"]}, {}),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_stream_of_one_config_has_the_showers_of_simulate(name):
    kind, options, changes = FORMS[name]
    form = {PointDataset: "points", GraphDataset: "graphs", SequenceDataset: "sequences", ImageDataset: "images"}[kind]
    showers = supa.simulate(90, seed=3, first=40, record=changes.get("record", "hits"))
    dataset = kind(showers, **options)
    given = {key: value for key, value in options.items() if key != "form"} | changes
    stream = ShowerStream("standard", 20, seed=3, first=40, length=90, form=form, **given)
    batches = list(DataLoader(stream, batch_size=None))
    assert len(batches) == len(stream) == 5
    for start, batch in zip(range(0, 90, 20), batches, strict=True):
        _assert_equal(batch, dataset.collate(dataset.__getitems__(range(start, min(start + 20, 90)))))


def test_configs_occur_with_their_weights_independently_of_position_and_seed():
    fractions, count = np.array([0.1, 0.25, 0.65]), 1_000_000
    for seed in (0, 1, 2**64 - 1):
        numbers = config_numbers(np.arange(count), fractions, seed)
        assert numbers[:200].tolist() == [
            int(np.searchsorted(np.cumsum(fractions), _uniform(seed, p), side="right")) for p in range(200)
        ]
        for others in (numbers[1:], numbers[256:], config_numbers(np.arange(count), fractions, seed ^ 1)):
            # Counts of pairs: successive positions, the same place in successive batches, the same position of a seed.
            pairs = np.bincount(3 * numbers[: len(others)] + others, minlength=9).reshape(3, 3) / len(others)
            expected = np.outer(fractions, fractions)
            assert (abs(pairs - expected) < 5 * np.sqrt(expected * (1 - expected) / len(others))).all()
        assert (abs(np.bincount(numbers) / count - fractions) < 5 * np.sqrt(fractions / count)).all()


def test_streams_with_separate_indices_have_no_shower_in_common():
    train = ShowerStream("standard", 50, length=200, targets=["attempt"])
    validation = ShowerStream("standard", 50, first=200, targets=["attempt"])
    seen = {int(k) for batch in train for k in batch["attempt"]}
    assert seen == set(range(200))
    assert seen.isdisjoint(int(k) for batch in islice(validation, 20) for k in batch["attempt"])


# ---------------------------------------------------------------------- position


def _attempts(stream, count=None):
    return [batch["attempt"].tolist() for batch in islice(stream, count)]


def test_iterations_start_where_the_stream_was_set():
    stream = ShowerStream("standard", 10, length=35, targets=["attempt"])
    every = [list(range(k, min(k + 10, 35))) for k in (0, 10, 20, 30)]
    assert _attempts(stream) == _attempts(stream) == every
    assert _attempts(stream, 2) == every[:2]
    assert stream.state_dict()["batch"] == 2
    assert _attempts(stream) == every
    stream.start_at(3)
    assert _attempts(stream) == every[3:]
    assert _attempts(stream) == every
    stream.start_at(4)
    assert _attempts(stream) == []


def _train(file, ranks, workers):
    """Train without an end: after each step, append the showers of the step and the states of the ranks to a file."""
    streams = [ShowerStream(CONFIGS, 12, rank=rank, num_ranks=ranks, **MIXTURE) for rank in range(ranks)]
    loaders = [DataLoader(stream, batch_size=None, num_workers=workers) for stream in streams]
    with file.open("w") as lines:
        for step, batches in enumerate(zip(*loaders, strict=True), start=1):
            showers = [int(k) for batch in batches for k in batch["attempt"]]
            states = [stream.state_dict(step) if workers else stream.state_dict() for stream in streams]
            lines.write(json.dumps({"showers": showers, "states": states}) + "\n")
            lines.flush()


@FEW_PROCESSORS
@pytest.mark.parametrize(
    ("steps", "ranks", "workers", "later_ranks", "later_workers"),
    [(100, 1, 0, 4, 2), *(pytest.param(1000, *case, marks=pytest.mark.slow) for case in ((2, 3, 1, 0), (4, 0, 3, 0)))],
)
def test_a_killed_run_goes_on_with_the_next_batch(tmp_path, steps, ranks, workers, later_ranks, later_workers):
    """The training is interrupted at a random step."""
    kill_after, file = int(np.random.default_rng().integers(1, 7 * steps // 10)), tmp_path / "steps.jsonl"
    process = multiprocessing.get_context("fork").Process(target=_train, args=(file, ranks, workers))
    process.start()
    limit = time.monotonic() + 60
    while not (file.exists() and file.read_text().count("\n") >= kill_after) and time.monotonic() < limit:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    lines = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    stored = [json.loads(line) for line in lines[: steps - 1]]
    assert len(stored) >= kill_after
    assert {state["batch"] for state in stored[-1]["states"]} == {len(stored)}
    parts = []
    for rank in range(later_ranks):
        stream = ShowerStream(CONFIGS, 12, rank=rank, num_ranks=later_ranks, **MIXTURE)
        stream.load_state_dict(stored[-1]["states"][0])
        loader = DataLoader(stream, batch_size=None, num_workers=later_workers)
        parts.append(_attempts(loader, steps - len(stored)))
    showers = [step["showers"] for step in stored] + [list(chain(*batches)) for batches in zip(*parts, strict=True)]
    assert showers == [list(range(1000 + 12 * step, 1012 + 12 * step)) for step in range(steps)]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_each_worker_of_a_stateful_loader_has_its_own_state(monkeypatch, number):
    """torchdata's StatefulDataLoader takes the state of the stream in each worker, and gives each worker its own."""
    worker = SimpleNamespace(id=number, num_workers=3)
    monkeypatch.setattr(shower_stream, "get_worker_info", lambda: worker)
    own = [list(range(10 * batch, 10 * batch + 10)) for batch in range(number, 17, 3)]
    for before in range(len(own) + 1):
        stream = ShowerStream("standard", 10, length=170, targets=["attempt"])
        iteration = iter(stream)
        taken = _attempts(iteration, before)
        resumed = ShowerStream("standard", 10, length=170, targets=["attempt"])
        resumed.load_state_dict(json.loads(json.dumps(stream.state_dict())))
        assert taken + _attempts(resumed) == own
        assert _attempts(resumed) == own  # the next epoch
    # Other workers may still have batches to return, so that a worker without any must not start again.
    resumed.load_state_dict(resumed.state_dict())
    assert _attempts(resumed) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 8}, "seed (7 in the state, 8 here)"),
        ({"first": 0}, "first (1000 in the state, 0 here)"),
        ({"weights": (3, 1, 4)}, "weights ([0.5, "),
        ({"batch_size": 24}, "batch_size (12 in the state, 24 here)"),
        ({"form": "images", "targets": ()}, "form ('points' in the state, 'images' here)"),
        ({"config": CONFIGS[:2], "weights": (3, 1)}, "the number of configs (3 in the state, 2 here)"),
        (
            {"config": ("standard", supa.preset("critical").replace(incident_energy=5), "two-primaries")},
            "configs[1].incident_energy ('log:1.0:100.0' in the state, '5.0' here)",
        ),
        ({"config": ("standard", "dense", "two-primaries")}, "configs[1].num_slices (28 in the state, 24 here)"),
    ],
)
def test_the_state_of_other_physics_is_refused(changes, message):
    state = json.loads(json.dumps(ShowerStream(CONFIGS, 12, **MIXTURE).state_dict(5)))
    other = ShowerStream(**({"config": CONFIGS, "batch_size": 12} | MIXTURE | changes))
    with pytest.raises(ValueError, match="The state belongs to another stream") as error:
        other.load_state_dict(state)
    assert message in str(error.value)
    assert other.state_dict()["batch"] == 0


def test_equal_physics_are_accepted_in_other_words():
    state = ShowerStream(["standard", "dense"], 12, weights=[1, 3]).state_dict(5)
    configs = [supa.ShowerConfig(), supa.preset("dense")]
    other = ShowerStream(configs, 12, weights=[2, 6], length=240, rank=1, num_ranks=2, layout="padded")
    other.load_state_dict(state)
    assert other.state_dict() == state


# ---------------------------------------------------------------------- the dataset of the batches


def test_the_first_showers_are_those_of_the_config():
    pieces = ShowerStream(CONFIGS, 12, **MIXTURE).showers(60)
    expected = _true_showers(range(60))
    for number, piece in enumerate(pieces):
        assert piece == supa.Showers.concatenate([shower for k, shower in expected if k == number])
    with pytest.raises(ValueError, match="number: 30 was given, but it must be a whole number from 0 to 20"):
        ShowerStream("standard", 4, length=20).showers(30)


@pytest.mark.parametrize("form", ["points", "images"])
def test_a_normalisation_is_fitted_to_the_first_showers_of_the_stream(monkeypatch, form):
    monkeypatch.setattr(shower_stream, "FITTED_SHOWERS", 60)
    stream = ShowerStream(CONFIGS, 12, form=form, normalisation="fit", rank=1, num_ranks=2, seed=7, weights=WEIGHTS)
    first = [shower for _, shower in _true_showers(range(60), first=0)]
    kind = PointDataset if form == "points" else ImageDataset
    expected = kind(first, normalisation="fit", fractions={"train": 1.0}).normalisation
    assert stream.dataset.normalisation.features == expected.features
    for name in ("mean", "std"):
        assert np.allclose(getattr(stream.dataset.normalisation, name), getattr(expected, name), rtol=1e-6)
    again = ShowerStream("standard", 12, form=form, normalisation=stream.dataset.normalisation)
    assert again.dataset.normalisation is stream.dataset.normalisation
    assert len(stream.dataset) == 0


def test_the_process_group_gives_rank_and_number_of_ranks(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
    assert _attempts(ShowerStream("standard", 12, targets=["attempt"]), 2) == [[4, 5, 6, 7], [16, 17, 18, 19]]
    assert _attempts(ShowerStream("standard", 12, targets=["attempt"], rank=0, num_ranks=1), 1) == [list(range(12))]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_stays_flat():
    def own_memory():
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

    batches = iter(ShowerStream(["standard", "critical"], 256, targets=["layer"]))
    sizes = []
    for _ in range(4):
        for batch in islice(batches, 100):
            assert len(batch["offset"]) == 257
        sizes.append(own_memory())
    # 100 batches of hits take 50 MB.
    assert max(later - earlier for earlier, later in pairwise(sizes[1:])) < 10, sizes


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": []}, "config: an empty list was given, but a stream needs at least one config."),
        ({"config": "standart"}, "Did you mean 'standard'?"),
        ({"config": ["standard", 3]}, "config: 3 was given, but it must be the name of a preset or a ShowerConfig."),
        ({"config": ["standard", supa.ShowerConfig(slice_spacing=1)]}, "different slice spacings"),
        ({"batch_size": 0}, "batch_size: 0 was given, but it must be a whole number from 1"),
        ({"batch_size": 2.5}, "batch_size: 2.5 was given"),
        ({"seed": -1}, "seed: -1 was given, but it must be a whole number from 0"),
        ({"first": -1}, "first: -1 was given"),
        ({"first": 2**56 - 10, "length": 100}, "first: "),
        ({"length": -1}, "length: -1 was given"),
        ({"weights": [1, 2]}, "weights: [1, 2] was given, but it must be a list with one number for each config"),
        ({"weights": 1}, "weights: 1 was given"),
        ({"weights": [0]}, "weights: 0 was given, but it must be a number above 0."),
        ({"weights": [float("nan")]}, "weights: nan was given"),
        (
            {"form": "point"},
            "form: 'point' was given, but it must be one of points, graphs, sequences, images. Did you",
        ),
        ({"form": ["points"]}, "form: ['points'] was given"),
        ({"record": "tree"}, "record: 'tree' was given"),
        ({"rank": 1}, "Give both rank and num_ranks, or neither, got rank=1 and num_ranks=None."),
        ({"rank": 2, "num_ranks": 2}, "rank: 2 was given, but it must be a whole number from 0 to 1 (num_ranks - 1)."),
        ({"rank": 0, "num_ranks": 3}, "batch_size: 4 was given, but 3 ranks must share each batch evenly"),
        ({"rank": 0, "num_ranks": 2, "length": 5}, "length: 5 was given, but then the last batch has 1 shower for 2"),
        ({"split": "train"}, "split: a stream has no splits"),
        ({"feature": ["x"]}, "'feature' is not an option of a stream of points; choose from features, normalisation"),
        ({"order": "depth"}, "'order' is not an option of a stream of points"),
        (
            {"layout": "pad"},
            "'pad' was given, but a layout is one of packed, padded, reference. Did you mean 'padded'?",
        ),
        ({"form": "sequences", "order": "tree"}, "needs recorded particles; simulate with record='particles'"),
        ({"targets": ["energies"]}, "targets: 'energies' was given"),
        ({"normalisation": Normalisation(("x",), (False,), (0.0,), (1.0,))}, "The normalisation is for the features x"),
        ({"normalisation": "fit", "length": 0}, "normalisation='fit' needs training showers"),
    ],
)
def test_errors_of_arguments_are_clear(arguments, message):
    with pytest.raises(ValueError) as error:
        ShowerStream(**({"config": "standard", "batch_size": 4} | arguments))
    assert message in str(error.value)


def test_errors_of_positions_are_clear():
    stream = ShowerStream("standard", 4, length=20)
    with pytest.raises(ValueError, match="batch: 6 was given, but it must be a whole number from 0 to 5"):
        stream.start_at(6)
    with pytest.raises(ValueError, match="batch: -1 was given"):
        stream.state_dict(-1)
    for state in (None, {}, {"batch": 3}, {"stream": 3}):
        with pytest.raises(ValueError, match=r"it must be a result of ShowerStream\.state_dict"):
            stream.load_state_dict(state)
    with pytest.raises(ValueError, match="batch: 'x' was given"):
        stream.load_state_dict(stream.state_dict() | {"batch": "x"})
    with pytest.raises(TypeError, match="An endless stream has no length"):
        len(ShowerStream("standard", 4))
    assert len(stream) == 5

"""Training of encoders: batches, losses, learning, exact resumption and evaluation."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from device_sync import no_device_sync

import supa
from supa.bins import distinct_bins
from supa.ragged import counts_to_offsets
from supa_datasets import SequenceDataset
from supa_learning import Callback, CountBaseline, Processes, Trainer
from supa_mamba.checkpoint import Checkpoint
from supa_mamba.config import TrainingConfig
from supa_mamba.evaluation import LABELS, Evaluation, evaluate, sides
from supa_mamba.objective import Objective
from supa_mamba.packed_showers import (
    Batch,
    PackedShowers,
    TaskEncoding,
    count_baseline,
    packed_showers,
    training_showers,
)
from supa_mamba.plot import plot_evaluation
from supa_mamba.training import EncoderTask, train, training_task

TINY = {"d_model": 8, "n_layer": 1, "d_state": 4, "batch_size": 40, "epochs": 3}
SHORT = supa.preset("two-primaries").replace(num_slices=12, readout_layers=((5, 11),), impact_spread=20.0)
"""Showers with few hits and two primaries that are far apart."""


@pytest.fixture(scope="module")
def energies():
    return supa.simulate(400, "critical", seed=1, record="particles")


@pytest.fixture(scope="module")
def pairs():
    return supa.simulate(500, SHORT, seed=1)


@pytest.fixture(scope="module")
def counts():
    return supa.simulate(300, SHORT.replace(num_primaries="poisson:2"), seed=1)


class _OnStep(Callback):
    """Call a function after each step."""

    def __init__(self, function):
        self.on_step = function


def _trainer(showers, config, *, on_step=None, stop=lambda: False, **options):
    callbacks = [] if on_step is None else [_OnStep(on_step)]
    return Trainer(training_task(showers, config, **options), callbacks=callbacks, should_stop=stop)


def _evaluated(trainer, showers):
    return evaluate(trainer.task.encoder, trainer.task.encoding, trainer.task.baseline, showers)


def _same_bits(one, other):
    assert one.keys() == other.keys()
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(one.values(), other.values(), strict=True))


# ---------------------------------------------------------------------- showers


@pytest.mark.parametrize("target", ["primary", "num_primaries"])
def test_batches_equal_those_of_a_plain_loop(pairs, counts, target):
    showers = pairs if target == "primary" else counts
    encoding, packed = training_showers(showers, target)
    plain = SequenceDataset(
        showers, normalisation=encoding.normalisation, split="train", targets=["primary", "num_primaries"]
    )
    order = np.random.default_rng(1).permutation(len(packed))
    batches = list(packed.batches(order, 64))
    assert len(batches) == math.ceil(len(packed) / 64)
    assert {len(batch.offset) - 1 for batch in batches} <= {
        len(packed) // len(batches),
        len(packed) // len(batches) + 1,
    }
    places = iter(order)
    for batch in batches:
        items = [plain[int(k)] for k in itertools.islice(places, len(batch.offset) - 1)]
        assert torch.equal(batch.points, torch.cat([item["points"] for item in items]))
        assert batch.offset.tolist() == counts_to_offsets(np.array([len(item["points"]) for item in items])).tolist()
        if target == "primary":
            assert torch.equal(batch.target, torch.cat([item["primary"] for item in items]))
        else:
            assert batch.target.tolist() == [min(int(item["num_primaries"]), 5) - 1 for item in items]
        assert batch.units == len(batch.target)
    assert next(places, None) is None
    assert torch.equal(next(packed.batches(order, 64, first=2)).points, batches[2].points)


@pytest.mark.parametrize("target", ["primary", "num_primaries"])
def test_shares_make_up_a_batch(pairs, counts, target):
    _, packed = training_showers(pairs if target == "primary" else counts, target)
    order = np.arange(len(packed))
    shares = [list(packed.batches(order, 50, share=(k, 3))) for k in range(3)]
    for whole, *parts in zip(packed.batches(order, 50), *shares, strict=True):
        assert torch.equal(whole.points, torch.cat([part.points for part in parts]))
        assert torch.equal(whole.target, torch.cat([part.target for part in parts]))
        assert {part.units for part in parts} == {whole.units}


def test_the_digest_identifies_the_showers(counts):
    names = {training_showers(showers, "num_primaries")[1].digest() for showers in (counts, counts, counts[:50])}
    assert len(names) == 2


def test_unsuitable_showers_raise_a_clear_error(energies, pairs, counts):
    with pytest.raises(ValueError, match="task: 'mass' was given, but it must be one of num_primaries, primary"):
        training_showers(pairs, "mass")
    with pytest.raises(ValueError, match="the task primary needs two primaries in each shower"):
        training_showers(counts, "primary")
    with pytest.raises(ValueError, match="All showers have the preset critical; the task preset needs showers of two"):
        training_showers(energies, "preset")
    both = [energies, supa.simulate(50, "symmetric")]
    encoding, _ = training_showers(both, "preset")
    assert encoding.classes == ("symmetric", "critical")
    with pytest.raises(ValueError, match="Some showers have the preset standard, but the classes are symmetric"):
        packed_showers(supa.simulate(50), "test", encoding)
    with pytest.raises(ValueError, match="The test split is empty for 1 shower; provide more"):
        packed_showers(pairs[:1], "test", training_showers(pairs, "primary")[0])
    for constant in ("num_primaries", "incident_energy"):
        with pytest.raises(ValueError, match=f"All training showers have the same {constant}, so there is nothing"):
            training_showers(pairs, constant)


# ---------------------------------------------------------------------- losses


def _encoding(showers, task):
    return training_showers(showers, task)[0]


def test_the_loss_of_two_primaries_sums_both_assignments(pairs):
    objective = Objective(_encoding(pairs, "primary"))
    outputs = torch.randn(9, 2, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([0, 1, 1, 0, 0, 0, 1, 0, 1])
    lengths = [4, 0, 5]
    batch = Batch(torch.zeros(9, 4), torch.tensor([0, 4, 4, 9]), target, 9)
    loss, right = 0.0, 0
    for rows, truth in zip(outputs.tensor_split([4, 4]), target.tensor_split([4, 4]), strict=True):
        chances = []
        for names in (truth, 1 - truth):
            chance = 1.0
            for row, name in zip(rows.softmax(1).tolist(), names.tolist(), strict=True):
                chance *= row[name]
            chances.append(chance)
        loss -= math.log(sum(chances))
        hits = int((rows.argmax(1) == truth).sum())
        right += max(hits, len(truth) - hits)
    assert sum(lengths) == 9
    assert float(objective.loss(outputs, batch)) == pytest.approx(loss, rel=1e-5)
    assert float(objective.score(outputs, batch)) == right
    exchanged = Batch(batch.points, batch.offset, 1 - target, 9)
    torch.testing.assert_close(objective.loss(outputs, batch), objective.loss(outputs, exchanged))


def test_the_error_of_energies_is_that_of_ln_e(energies):
    encoding = _encoding(energies, "incident_energy")
    objective = Objective(encoding)
    outputs, target = torch.tensor([[0.5], [-1.0]]), torch.tensor([0.0, 1.0])
    batch = Batch(torch.zeros(0, 3), torch.tensor([0, 0, 0]), target, 2)
    error = [encoding.std * 0.5, encoding.std * 2.0]
    score = objective.mean_score(float(objective.score(outputs, batch)), 2)
    assert score == pytest.approx(math.sqrt(sum(e**2 for e in error) / 2), rel=1e-6)


# ---------------------------------------------------------------------- training


def test_the_encoder_learns_energies(energies):
    config = TrainingConfig(target="incident_energy", **{**TINY, "d_model": 16, "epochs": 6, "learning_rate": 5e-3})
    trainer = train(energies, config)
    facts = _evaluated(trainer, energies).figures()
    assert facts["rms"]["model"] < 0.6 * facts["rms"]["constant"]
    assert facts["rms"]["model"] < 0.85 * facts["rms"]["hit_count"]
    assert facts["rms"]["model"] > facts["bayes_rms"]


def test_the_encoder_learns_interchangeable_primaries(pairs):
    config = TrainingConfig(target="primary", **{**TINY, "d_model": 16, "epochs": 8, "learning_rate": 5e-3})
    trainer = train(pairs, config)
    facts = _evaluated(trainer, pairs).figures()
    assert facts["accuracy"]["model"] > facts["accuracy"]["constant"] + 0.1


def test_the_best_weights_are_kept_and_training_stops_early(energies):
    config = TrainingConfig(
        target="incident_energy", **{**TINY, "epochs": 30, "patience": 2, "learning_rate": 0.1, "batch_size": 20}
    )
    trainer = train(energies, config)
    losses = [epoch.valid["encoder"]["loss"] for epoch in trainer.state.history]
    assert len(losses) < 30
    assert trainer.state.best_epoch == int(np.argmin(losses)) == len(losses) - 3
    with torch.no_grad():
        validation = trainer.task.validate(trainer.task.validation_batches())
    assert validation.figures["encoder"]["loss"] == pytest.approx(min(losses), rel=1e-6)


def test_the_learning_rate_rises_and_falls_as_a_cosine(energies):
    rates = []
    config = TrainingConfig(target="incident_energy", **TINY, warmup=0.2, learning_rate=0.01)
    trainer = _trainer(energies, config, on_step=lambda t: rates.append(t.task.optimizer.param_groups[0]["lr"]))
    trainer.run()
    steps = 3 * trainer.task.steps_per_epoch
    made = [rate for k, rate in enumerate(rates) if k == 0 or rate != rates[k - 1]]
    warm = 0.2 * steps
    for step, rate in enumerate(made):
        rising = 0.01 * (step + 1) / (warm + 1)
        falling = 0.005 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
        assert rate == pytest.approx(rising if step < warm else falling)
    assert len(made) == steps


def test_the_gradient_is_clipped_and_divergence_raises_an_error(energies):
    config = TrainingConfig(target="incident_energy", **TINY)
    trainer = _trainer(energies, config.from_dict({**config.to_dict(), "clip": 1e-4}))
    trainer.run()
    squares = [weights.grad.square().sum() for weights in trainer.task.encoder.parameters()]
    assert float(torch.stack(squares).sum().sqrt()) == pytest.approx(1e-4, rel=1e-3)
    trainer = _trainer(energies, config)
    with torch.no_grad():
        trainer.task.encoder.head[0].weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="training diverged; lower learning_rate"):
        trainer.run()
    assert len(trainer.state.history) == 1  # the error is immediate


class _Counted:
    """Request a stop at the n-th call."""

    def __init__(self, n):
        self.left = n

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(("target", "precision"), [("incident_energy", "bf16"), ("num_primaries", "float32")])
def test_training_interrupted_anywhere_ends_with_the_same_bits(energies, counts, target, precision, tmp_path):
    showers = energies[:60] if target == "incident_energy" else counts[:60]
    config = TrainingConfig(target=target, **{**TINY, "epochs": 2, "batch_size": 20}, precision=precision)
    questions = []
    whole = _trainer(showers, config, on_step=lambda t: questions.append((t.state.epoch, t.state.step)))
    whole.run()
    assert len(questions) > 8  # steps, validations, ends of epochs
    for stop in range(len(questions) - 1):
        trainer = _trainer(showers, config, stop=_Counted(stop))
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        Checkpoint.of(trainer).save(tmp_path / "a.ckpt")
        torch.manual_seed(99 + stop)  # simulates a new process with another random state
        stored = Checkpoint.load(tmp_path / "a.ckpt")
        assert (stored.training["state"]["epoch"], stored.training["state"]["step"]) == questions[stop]
        resumed = _trainer(showers, config)
        resumed.load_state_dict(stored.training)
        resumed.run()
        assert _same_bits(resumed.task.encoder.state_dict(), whole.task.encoder.state_dict()), stop
        assert [{**vars(e), "seconds": 0} for e in resumed.state.history] == [
            {**vars(e), "seconds": 0} for e in whole.state.history
        ]


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device is available; run with -m gpu on a machine with a GPU"
)
@pytest.mark.parametrize(("target", "fixture"), [("incident_energy", "energies"), ("primary", "pairs")])
def test_training_on_a_gpu_does_not_synchronise_and_resumes_exactly(request, target, fixture):
    """The bits do not depend on CUDA graphs: neither of the whole training, nor of a part of it."""
    showers = request.getfixturevalue(fixture)
    config = TrainingConfig(target=target, **{**TINY, "epochs": 5})
    processes = Processes(device=torch.device("cuda"))
    whole = _trainer(showers, config, processes=processes, cuda_graphs=False)
    whole.run()
    for graphs in ((True, False), (False, True), (True, True)):
        stopped = _trainer(showers, config, processes=processes, stop=_Counted(22), cuda_graphs=graphs[0])
        with pytest.raises(KeyboardInterrupt):
            stopped.run()
        resumed = _trainer(showers, config, processes=processes, cuda_graphs=graphs[1])
        resumed.load_state_dict(stopped.state_dict())
        resumed.run()
        for name, weights in resumed.task.encoder.state_dict().items():
            assert torch.equal(weights, whole.task.encoder.state_dict()[name]), (graphs, name)
    task = resumed.task
    batches = list(task.train.batches(np.arange(len(task.train)), 20))
    for _ in range(2):  # compile and capture
        for batch in batches:
            task.update(batch, 1e-3)
    with no_device_sync():
        for batch in batches:
            task.update(batch, 1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device is available; run with -m gpu on a machine with a GPU"
)
def test_a_training_continues_on_another_kind_of_device(energies):
    config = TrainingConfig(target="incident_energy", **TINY)
    for first, second in (("cpu", "cuda"), ("cuda", "cpu")):
        stopped = _trainer(energies, config, processes=Processes(device=torch.device(first)), stop=_Counted(12))
        with pytest.raises(KeyboardInterrupt):
            stopped.run()
        resumed = _trainer(energies, config, processes=Processes(device=torch.device(second)))
        resumed.load_state_dict(stopped.state_dict())
        assert resumed.run().finished


def test_finished_training_is_not_continued(energies, tmp_path):
    config = TrainingConfig(target="incident_energy", **TINY)
    trainer = _trainer(energies, config)
    trainer.run()
    Checkpoint.of(trainer).save(tmp_path / "a.ckpt")
    stored = Checkpoint.load(tmp_path / "a.ckpt")
    assert (stored.finished, stored.epochs, stored.config) == (True, 3, config)
    assert _same_bits(stored.model().state_dict(), trainer.task.encoder.state_dict())
    again = _trainer(energies, config)
    again.load_state_dict(stored.training)
    again.task.update = None
    assert again.run().history == trainer.state.history
    assert _same_bits(again.task.encoder.state_dict(), trainer.task.encoder.state_dict())


# ---------------------------------------------------------------------- files and settings


@pytest.fixture
def saved(energies, tmp_path):
    Checkpoint.of(_trainer(energies, TrainingConfig(target="incident_energy", **TINY))).save(tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_a_checkpoint_file_restores_the_checkpoint(saved, energies):
    read, made = Checkpoint.load(saved), _trainer(energies, TrainingConfig(target="incident_energy", **TINY)).task
    assert (read.config, read.encoding, read.baseline) == (made.config, made.encoding, made.baseline)
    assert (read.showers, read.digest) == ((len(made.train), len(made.valid)), made.digest)
    assert set(read.versions) == {"supa-showers", "torch"}
    assert _same_bits(read.model().state_dict(), made.encoder.state_dict())
    assert not read.finished


def test_loading_does_not_change_the_random_state(saved):
    before = torch.get_rng_state()
    Checkpoint.load(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_damaged_or_foreign_file_raises_a_clear_error(saved):
    whole, values = saved.read_bytes(), torch.load(saved, weights_only=True)
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a.ckpt: it is damaged or not a checkpoint of `supa mamba train`"):
            Checkpoint.load(saved)
    for change, message in (
        ({"format": "supa-gff-checkpoint"}, "a PyTorch file, but not a checkpoint of `supa mamba train`"),
        ({"version": 2}, "its version is 2, but this program reads version 1"),
        ({"config": {"target": "mass"}}, "the checkpoint is damaged"),
        ({"encoding": {}}, "the checkpoint is damaged"),
        ({"training": {}}, "the checkpoint is damaged"),
    ):
        torch.save({**values, **change}, saved)
        with pytest.raises(ValueError, match=message):
            Checkpoint.load(saved)


def test_configs_survive_json_and_toml(tmp_path):
    config = TrainingConfig(target="preset", learning_rate=1e-3, precision="bf16")
    assert TrainingConfig.from_dict(json.loads(config.to_json())) == config
    (tmp_path / "a.toml").write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in config.to_dict().items()))
    assert TrainingConfig.from_dict(TrainingConfig.settings_from_file(tmp_path / "a.toml")) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "mass"}, "target: 'mass' was given, but it must be one of num_primaries"),
        ({"target": ["mass"]}, "it must be one of num_primaries"),
        ({"width": 3}, "'width' is not a setting of TrainingConfig; choose from target, d_model, n_layer"),
        ({"epochs": 0}, "epochs: 0 was given, but it must be a whole number from 1"),
        ({"warmup": 1.0}, "warmup: 1.0 was given, but it must be a number from 0 to below 1"),
        ({"precision": "fp8"}, "precision: 'fp8' was given, but it must be 'float32' or 'bf16'"),
        ({"learning_rate": "fast"}, "learning_rate: 'fast' was given, but it must be a number above 0"),
    ],
)
def test_an_invalid_setting_raises_a_clear_error(change, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig.from_dict({"target": "preset", **change})


def test_batches_without_hits_have_no_effect(pairs):
    def packed(counts):
        hits = sum(counts)
        points, target = torch.ones(hits, 4), torch.zeros(hits, dtype=torch.int64)
        return PackedShowers(points, np.array(counts), target, np.arange(len(counts)), by_hit=True)

    encoding, config = _encoding(pairs, "primary"), TrainingConfig(target="primary", **{**TINY, "batch_size": 1})
    state = Trainer(EncoderTask(config, encoding, packed([3, 0, 4]), packed([3, 0]))).run()
    assert all(math.isfinite(epoch.train["encoder"]["loss"]) for epoch in state.history)
    for train_on, validate_on, kind in (([0, 0], [3], "training"), ([3], [0], "validation")):
        with pytest.raises(ValueError, match=f"The {kind} showers have no hits"):
            EncoderTask(config, encoding, packed(train_on), packed(validate_on))


# ---------------------------------------------------------------------- evaluation


def test_figures_of_energies_equal_those_of_a_plain_loop(energies):
    config = TrainingConfig(target="incident_energy", **{**TINY, "epochs": 1})
    trainer = train(energies, config)
    facts = _evaluated(trainer, energies).figures()
    test = SequenceDataset(
        energies, features=("x", "y", "z"), normalisation=trainer.task.encoding.normalisation, split="test",
        targets=["incident_energy"],
    )  # fmt: skip
    learnt = SequenceDataset(energies, split="train", targets=["incident_energy"])
    usual = np.mean([math.log(item["incident_energy"]) for item in learnt])
    errors = {"model": [], "constant": []}
    for item in test:
        truth = math.log(item["incident_energy"])
        output = trainer.task.encoder(item["points"], torch.tensor([0, len(item["points"])]))
        errors["model"].append(float(output.detach()) * trainer.task.encoding.std + trainer.task.encoding.mean - truth)
        errors["constant"].append(usual - truth)
    for who, values in errors.items():
        assert facts["bias"][who] == pytest.approx(np.mean(values), abs=1e-5)
        assert facts["resolution"][who] == pytest.approx(np.std(values), rel=1e-4)
        assert facts["rms"][who] == pytest.approx(np.sqrt(np.mean(np.square(values))), rel=1e-4)
    assert facts["rms"]["bayes"] == pytest.approx(facts["bayes_rms"], rel=0.5)  # 40 showers


def test_each_discrete_energy_has_a_bin():
    target = np.log(np.repeat([50.0, 10.0, 20.0], [30, 5, 15]))
    answers = {"model": target + np.repeat([0.1, 0.2, 0.3], [30, 5, 15])}
    evaluation = Evaluation(None, target, answers, np.ones(50, np.int64))
    bins = evaluation.by_energy(5)
    assert [each["GeV"] for each in bins] == [pytest.approx([energy, energy]) for energy in (10, 20, 50)]
    assert [each["showers"] for each in bins] == [5, 15, 30]
    assert [each["bias"]["model"] for each in bins] == pytest.approx([0.2, 0.3, 0.1])
    (one,) = Evaluation(None, target[:30], {"model": answers["model"][:30]}, np.ones(30, np.int64)).by_energy(5)
    assert one["showers"] == 30


def test_accuracies_equal_those_of_a_plain_loop(counts, pairs):
    trainer = train(counts, TrainingConfig(target="num_primaries", **{**TINY, "epochs": 1}))
    evaluation = _evaluated(trainer, counts)
    confusion, right = np.zeros((5, 5), dtype=int), 0
    for truth, answer in zip(evaluation.target.tolist(), evaluation.predictions["model"].tolist(), strict=True):
        confusion[truth, int(answer)] += 1
        right += truth == answer
    assert evaluation.confusion().tolist() == confusion.tolist()
    assert evaluation.accuracy("model") == right / len(evaluation.target)
    trainer = train(pairs, TrainingConfig(target="primary", **{**TINY, "epochs": 1}))
    evaluation = _evaluated(trainer, pairs)
    total, begin = 0, 0
    for count in evaluation.counts.tolist():
        rows = slice(begin, begin + count)
        hits = int((evaluation.predictions["model"][rows] == evaluation.target[rows]).sum())
        total, begin = total + max(hits, count - hits), begin + count
    assert evaluation.accuracy("model") == pytest.approx(total / begin)
    assert evaluation.accuracy("axis_side") > evaluation.accuracy("constant") + 0.1


def test_sides_follow_the_principal_axis():
    x, y = np.array([-3.0, -2.9, 3.1, 3.0, 0.0]), np.array([3.0, 3.1, -2.9, -3.2, 7.0])
    found = sides(x, y, np.array([1.0, 2.0, 1.0, 1.0, 4.0]), np.array([4, 0, 1]))
    assert found.tolist() in ([0, 0, 1, 1, 0], [1, 1, 0, 0, 0])


def test_the_count_baseline_predicts_from_the_number_of_hits(counts, energies):
    encoding, packed = training_showers(counts, "num_primaries")
    baseline = count_baseline(packed, encoding)
    assert CountBaseline.from_dict(json.loads(json.dumps(baseline.to_dict()))) == baseline
    target = packed.target.tolist()
    assert baseline.constant == max(sorted(set(target)), key=target.count)
    edges = (-math.inf, *baseline.edges, math.inf)
    for low, high in itertools.pairwise(edges):
        inside = [t for t, n in zip(target, packed.counts.tolist(), strict=True) if low <= n < high]
        asked = packed.counts[(packed.counts >= low) & (packed.counts < high)]
        assert set(baseline.predict(asked)) <= {max(sorted(set(inside)), key=inside.count)}
    encoding, packed = training_showers(energies, "incident_energy")
    few = count_baseline(packed, encoding).predict(np.array([1, 80]))
    assert few[0] < few[1]


@pytest.mark.parametrize(
    ("fixture", "target", "axes"),
    [("energies", "incident_energy", 2), ("counts", "num_primaries", 2), ("pairs", "primary", 1)],
)
def test_every_evaluation_can_be_plotted(request, fixture, target, axes):
    showers = request.getfixturevalue(fixture)
    trainer = train(showers, TrainingConfig(target=target, **{**TINY, "epochs": 1}))
    evaluation = _evaluated(trainer, showers)
    figure = plot_evaluation(evaluation)
    figure.draw_without_rendering()
    assert len(figure.axes) == axes
    over_counts = figure.axes[0].lines
    if evaluation.encoding.classes:
        assert [line.get_label() for line in over_counts] == [LABELS[name] for name in evaluation.predictions]
        parts = distinct_bins(evaluation.counts, min(8, len(evaluation.counts) // 10), least=10)
        assert over_counts[0].get_xdata().tolist() == [evaluation.counts[part].mean() for part in parts]
    with pytest.raises(ValueError, match="1 shower was given, but a plot needs at least 10"):
        plot_evaluation(Evaluation(evaluation.encoding, evaluation.target[:1], {}, evaluation.counts[:1]))


def test_an_encoding_survives_json(counts):
    encoding = _encoding(counts, "num_primaries")
    assert TaskEncoding.from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding

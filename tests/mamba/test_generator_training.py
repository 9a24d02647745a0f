"""Training of generators: nats, averaged weights, padding, exact resumption, streams, checkpoints."""

import itertools

import numpy as np
import pytest
import torch
from device_sync import no_device_sync

import supa
from supa_datasets import in_split, save
from supa_learning import AveragedWeights, Callback, Processes, Trainer
from supa_mamba import (
    GENERATOR_PRESETS,
    GeneratorCheckpoint,
    GeneratorConfig,
    GeneratorTrainingConfig,
    HitCoding,
    ShowerGenerator,
    generator_task,
    stream_generator_task,
    train_generator,
)
from supa_mamba.generator import sample_comparison as module
from supa_mamba.generator.training_showers import packed, target_columns
from supa_mamba.padding import PaddedShape, empty_batch, fill_padded

SIZES = GeneratorConfig(d_model=32, n_layer=1, d_state=4, energy_components=2, position_components=2)
TINY = GeneratorTrainingConfig(generator=SIZES, epochs=2, batch_size=16, learning_rate=5e-3, ema=0.9)
SHALLOW = supa.ShowerConfig(num_slices=10, readout_layers=((6, 9),), incident_energy="log:1:20", split_early=0.3)
"""Showers with few hits, sometimes none, and all kinds of leak."""

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available; run with -m gpu")


@pytest.fixture(scope="module")
def showers():
    return supa.simulate(80, SHALLOW, seed=3)


class _OnStep(Callback):
    """Call a function after each step."""

    def __init__(self, function):
        self.on_step = function


class _Counted:
    """Request a stop at the n-th call."""

    def __init__(self, n):
        self.left = n

    def __call__(self):
        self.left -= 1
        return self.left < 0


def _same_bits(one, other):
    assert one.keys() == other.keys()
    bits = ([values.cpu().numpy().tobytes() for values in state.values()] for state in (one, other))
    return next(bits) == next(bits)


def _without_seconds(history):
    return [{**vars(epoch), "seconds": 0} for epoch in history]


def _split(showers, name):
    return showers[np.flatnonzero(in_split(showers.index, name))]


# ---------------------------------------------------------------------- figures


def test_figures_are_the_likelihood_of_the_splits(showers):
    """The sum over batches equals the likelihood of each shower by itself, of the averaged model."""
    task = generator_task(showers, TINY)
    for batch in task.batches(0, 0, 0):
        task.update(batch, 1e-2)
    with torch.no_grad():
        validation = task.validate(task.validation_batches())
        valid = _split(showers, "validation")
        terms = [task.model(task.coding.encode(valid[k : k + 1])) for k in range(len(valid))]
    hits = len(valid.x)
    for name in ("leak", "profile", "energy", "position"):
        expected = -float(sum(getattr(one, name).sum() for one in terms)) / hits
        assert validation.figures[name]["nats_per_hit"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    total = -float(sum(one.total() for one in terms))
    figures = validation.figures["generator"]
    assert figures["nats_per_hit"] == pytest.approx(total / hits, rel=1e-5)
    assert figures["nats_per_shower"] == pytest.approx(total / len(valid), rel=1e-5)
    assert validation.score == (-figures["nats_per_hit"],)


def test_all_hits_of_a_batch_have_the_same_weight(showers):
    task = generator_task(showers, TINY)
    (batch, *_) = task.batches(0, 0, 0)
    sums = task.update(batch, 0.0)
    assert sums[4:].tolist() == [len(batch.points), len(batch.offset) - 1]
    gradients = [weights.grad.clone() for weights in task.trained.parameters()]
    task.trained.zero_grad()
    (task.losses(batch).sum() / len(batch.points)).backward()
    factor = min(1.0, 1 / float(torch.stack([w.grad.square().sum() for w in task.trained.parameters()]).sum().sqrt()))
    for weights, found in zip(task.trained.parameters(), gradients, strict=True):
        torch.testing.assert_close(found, weights.grad * factor, rtol=1e-4, atol=1e-6)


def test_the_nats_fall_and_the_best_averages_are_the_model(showers):
    trainer = train_generator(showers, TINY.replace(epochs=6))
    nats = [epoch.valid["generator"]["nats_per_hit"] for epoch in trainer.state.history]
    assert nats[-1] < nats[0] - 0.3
    assert trainer.state.history[-1].train["generator"]["nats_per_hit"] < nats[0]
    assert trainer.state.best_epoch == int(np.argmin(nats))
    with torch.no_grad():
        again = trainer.task.validate(trainer.task.validation_batches())
    assert again.figures["generator"]["nats_per_hit"] == pytest.approx(min(nats), rel=1e-6)


def test_configs_are_conditions_of_their_showers():
    low, high = (SHALLOW.replace(split_early=value) for value in (0.2, 0.4))
    both = [supa.simulate(40, config, seed=1) for config in (low, high)]
    task = generator_task(both, TINY.replace(fields=("split_early",)))
    assert task.shower_configs == (low, high)
    for batch in task.batches(0, 0, 0):
        coded, number = task._coded(batch), batch.target[:, 2].long()
        expected = task.coding.conditions(low, batch.target[:, 0]), task.coding.conditions(high, batch.target[:, 0])
        assert number.unique().tolist() == [0, 1]
        torch.testing.assert_close(coded.condition, torch.where(number[:, None] == 0, *expected))


def test_the_coding_of_a_batch_is_that_of_its_showers(showers):
    coding = HitCoding.fit(showers)
    task = generator_task(showers, TINY)
    everything = packed([showers], [SHALLOW])
    (batch,) = everything.batches(np.arange(len(showers)), len(showers))
    expected = coding.encode(showers)
    for name, a, b in zip(expected._fields, task._coded(batch), expected, strict=True):
        if name not in ("condition", "position", "sums"):  # another fit
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4, msg=name)


def test_a_leak_of_almost_everything_stays_below_the_incident_energy():
    incident = torch.tensor([65.0, 1.0, 64.0], dtype=torch.float64)
    values = target_columns(incident, incident * (1 - 1e-12), torch.zeros(3))
    assert (values[:, 1] < values[:, 0]).all()
    torch.testing.assert_close(values[:, 1], values[:, 0])


# ---------------------------------------------------------------------- averaged weights


def test_averages_equal_a_naive_computation():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    average = AveragedWeights(model, 0.5)
    expected = [weights.detach().double() for weights in model.parameters()]
    generator = torch.Generator().manual_seed(1)
    for update in range(20):
        with torch.no_grad():
            for weights in model.parameters():
                weights.add_(torch.randn(weights.shape, generator=generator))
        average.advance()
        average.apply()
        kept = min(0.5, (1 + update) / (10 + update))
        expected = [kept * a + (1 - kept) * w.detach() for a, w in zip(expected, model.parameters(), strict=True)]
    assert average.updates == 20
    for found, value in zip(average.model.parameters(), expected, strict=True):
        torch.testing.assert_close(found.double(), value, rtol=1e-5, atol=1e-6)
        assert not found.requires_grad


def test_averages_need_parameters_of_one_dtype():
    mixed = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1).double())
    for model, found in ((mixed, "torch.float32 and torch.float64"), (torch.nn.Identity(), "none")):
        with pytest.raises(ValueError, match=f"parameters of one dtype can be averaged, but it has {found}; convert"):
            AveragedWeights(model, 0.5)


def test_a_training_averages_the_weights_of_its_steps(showers):
    task = generator_task(showers, TINY)
    start = [weights.detach().clone() for weights in task.trained.parameters()]
    found = []

    def record(trainer):
        updates = trainer.task._average.updates
        if updates > len(found):
            found.append([weights.detach().clone() for weights in trainer.task.trained.parameters()])

    trainer = Trainer(task, callbacks=[_OnStep(record)])
    trainer.run()
    expected = start
    for update, step in enumerate(found):
        kept = min(0.9, (1 + update) / (10 + update))
        expected = [kept * a + (1 - kept) * w for a, w in zip(expected, step, strict=True)]
        if update + 1 == (trainer.state.best_epoch + 1) * task.steps_per_epoch:
            for a, weights in zip(expected, task.model.parameters(), strict=True):
                torch.testing.assert_close(weights, a, rtol=1e-4, atol=1e-6)
    assert len(found) == 2 * task.steps_per_epoch


# ---------------------------------------------------------------------- padding


@pytest.mark.parametrize(("model", "bf16"), [("mamba2", False), ("mamba2", True), ("transformer", False)])
def test_padding_changes_neither_nats_nor_gradients(showers, model, bf16):
    precision = "bf16" if bf16 else "float32"
    task = generator_task(showers, TINY.replace(precision=precision, generator=SIZES.replace(model=model)))
    for batch in itertools.islice(task.batches(0, 0, 0), 2):
        shape = PaddedShape.of(batch, 20, bounded=True)
        assert shape.longest == 64
        padded = empty_batch(shape, batch.points, batch.target, by_hit=False)
        fill_padded(padded, batch)
        assert len(padded.points) > len(batch.points)
        found = []
        for one in (batch, padded):
            losses = task.losses(one)
            found.append([losses.detach(), *torch.autograd.grad(losses.sum(), list(task.trained.parameters()))])
        torch.testing.assert_close(found[1], found[0], rtol=1e-2 if bf16 else 1e-3, atol=2e-2 if bf16 else 1e-3)


@pytest.mark.parametrize("model", ["transformer", "hybrid"])
def test_models_with_attention_receive_a_bound_of_the_lengths(showers, model, monkeypatch):
    """Without a bound, attention would wait for a GPU, which is impossible in a graph."""
    seen, hidden = [], ShowerGenerator.hidden

    def watched(self, previous, offset, *, max_length=None):
        seen.append((int(offset.diff().max()), max_length))
        return hidden(self, previous, offset, max_length=max_length)

    monkeypatch.setattr(ShowerGenerator, "hidden", watched)
    config = TINY.replace(epochs=1, generator=SIZES.replace(model=model, n_layer=4))
    for task in (
        generator_task(showers, config),
        stream_generator_task(SHALLOW, config, batches_per_epoch=2, validation_showers=40),
    ):
        task._padded = True
        state = Trainer(task).run()
        assert np.isfinite(state.history[0].valid["generator"]["nats_per_hit"])
    assert {bound for _, bound in seen} == {64}
    assert all(longest <= bound for longest, bound in seen)


def test_a_training_with_padding_ends_with_the_same_weights_up_to_rounding(showers):
    results = []
    for padded in (False, True):
        trainer = Trainer(generator_task(showers, TINY.replace(learning_rate=1e-3)))
        trainer.task._padded = padded
        trainer.run()
        figures = [epoch.valid[part]["nats_per_hit"] for epoch in trainer.state.history for part in epoch.valid]
        results.append((figures, dict(trainer.task.model.state_dict())))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-4, abs=1e-5)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------------- resumption


@pytest.mark.parametrize("source", ["showers", "stream"])
def test_training_interrupted_anywhere_ends_with_the_same_bits(showers, source, tmp_path):
    config = TINY.replace(precision="bf16") if source == "showers" else TINY

    def make(stop=lambda: False, callbacks=()):
        if source == "showers":
            task = generator_task(showers, config)
        else:
            task = stream_generator_task(SHALLOW, config, batches_per_epoch=3, validation_showers=40)
        return Trainer(task, should_stop=stop, callbacks=callbacks)

    questions = []
    whole = make(callbacks=[_OnStep(lambda t: questions.append((t.state.epoch, t.state.step)))])
    whole.run()
    assert len(questions) > 8  # steps, validations, ends of epochs
    for stop in (0, len(questions) // 2 + 1, len(questions) - 3):
        trainer = make(_Counted(stop))
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        GeneratorCheckpoint.of(trainer).save(tmp_path / "a.ckpt")
        torch.manual_seed(99 + stop)  # simulates a new process with another random state
        stored = GeneratorCheckpoint.load(tmp_path / "a.ckpt")
        assert (stored.training["state"]["epoch"], stored.training["state"]["step"]) == questions[stop]
        resumed = make()
        resumed.load_state_dict(stored.training)
        resumed.run()
        for name in ("model", "trained"):
            of_resumed, of_whole = (getattr(t.task, name).state_dict() for t in (resumed, whole))
            assert _same_bits(of_resumed, of_whole), (stop, name)
        assert _without_seconds(resumed.state.history) == _without_seconds(whole.state.history)


def test_a_stream_trains_like_the_same_showers_in_memory():
    task = stream_generator_task(SHALLOW, TINY, batches_per_epoch=3, validation_showers=40)
    train = supa.simulate(96, SHALLOW, seed=0, first=40)
    batches = [batch for epoch in (0, 1) for batch in task.batches(0, epoch, 0)]
    task._batches.close()
    everything = packed([train], [SHALLOW])
    assert len(batches) == 6
    for batch, other in zip(batches, everything.batches(np.arange(96), 16), strict=True):
        assert torch.equal(batch.points, other.points)
        assert torch.equal(batch.target, other.target)
        assert torch.equal(batch.offset, other.offset)
        assert batch.units == len(batch.points)
    assert torch.equal(task.valid._counts, torch.from_numpy(supa.simulate(40, SHALLOW, seed=0).num_hits))


# ---------------------------------------------------------------------- comparison of samples


def test_sampled_showers_are_compared_after_some_epochs(monkeypatch):
    """True showers instead of samples have small pulls and an AUC of 1/2; those of other physics do not."""
    asked = []

    def sampled(model, config, number, *, seed, physics=SHALLOW):
        asked.append((next(model.parameters()).device.type, config, number))
        return supa.from_hits(config, **_imported(supa.simulate(number, physics, seed=seed % 2**63)))

    monkeypatch.setattr(module, "sample_showers", sampled)
    task = stream_generator_task(
        SHALLOW, TINY.replace(epochs=3), batches_per_epoch=2, validation_showers=300, compare_every=2
    )
    history = Trainer(task).run().history
    assert ["sample" in epoch.valid for epoch in history] == [False, True, True]
    assert asked == [("cpu", SHALLOW, 300)] * 2
    figures = history[1].valid["sample"]
    assert figures["largest_pull"] < 5
    assert abs(figures["classifier_auc"] - 0.5) < 0.12
    other = SHALLOW.replace(split_early=0.6)
    monkeypatch.setattr(module, "sample_showers", lambda *of, **seed: sampled(*of, **seed, physics=other))
    figures = task._comparison.figures(task.model)
    assert figures["largest_pull"] > 8
    assert figures["classifier_auc"] > 0.7


def test_a_comparison_needs_showers(showers):
    with pytest.raises(ValueError, match=r"needs at least 50 validation showers of each config, but there are \d+; "):
        generator_task(showers, TINY, compare_every=1)


def test_showers_of_one_config_are_compared_together():
    parts = [supa.simulate(30, SHALLOW, seed=seed) for seed in (1, 2)]
    assert len(module.SampleComparison(parts, every=1, seed=0)._valid) == 1


def _imported(showers):
    names = ("offset", "incident_energy", "leaked_energy", "x", "y", "energy", "slice")
    return {name: getattr(showers, name) for name in names}


# ---------------------------------------------------------------------- checkpoints and settings


@pytest.fixture
def saved(showers, tmp_path):
    GeneratorCheckpoint.of(Trainer(generator_task(showers, TINY))).save(tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_a_checkpoint_has_the_model_and_what_a_sampler_needs(saved, showers):
    stored, task = GeneratorCheckpoint.load(saved), generator_task(showers, TINY)
    assert (stored.config, stored.coding, stored.shower_configs) == (TINY, task.coding, [SHALLOW])
    assert (stored.showers, stored.digest, stored.streamed) == ((task.units, len(task.valid)), task.digest, False)
    assert set(stored.versions) == {"supa-showers", "torch"}
    model = stored.model()
    assert not model.training
    assert _same_bits(model.state_dict(), task.model.state_dict())
    assert torch.isfinite(model(stored.coding.encode(showers)).total())


def test_the_model_of_a_checkpoint_has_the_best_averages(showers, tmp_path):
    trainer = train_generator(showers, TINY)
    GeneratorCheckpoint.of(trainer).save(tmp_path / "a.ckpt")
    stored = GeneratorCheckpoint.load(tmp_path / "a.ckpt")
    assert stored.finished
    assert _same_bits(stored.model().state_dict(), trainer.task.model.state_dict())
    assert not _same_bits(stored.model().state_dict(), trainer.task.trained.state_dict())


def test_a_damaged_or_foreign_file_raises_a_clear_error(saved):
    whole, values = saved.read_bytes(), torch.load(saved, weights_only=True)
    saved.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"damaged or not a checkpoint of `supa mamba train-generator`"):
        GeneratorCheckpoint.load(saved)
    for change, message in (
        ({"format": "supa-mamba-checkpoint"}, "a PyTorch file, but not a checkpoint of `supa mamba train-generator`"),
        ({"version": 2}, "its version is 2, but this program reads version 3"),
        ({"config": {"epochs": 0}}, "the checkpoint is damaged"),
        ({"coding": {}}, "the checkpoint is damaged"),
        ({"training": {}}, "the checkpoint is damaged"),
    ):
        torch.save({**values, **change}, saved)
        with pytest.raises(ValueError, match=message):
            GeneratorCheckpoint.load(saved)


def test_unsuitable_showers_raise_a_clear_error(showers, tmp_path):
    with pytest.raises(ValueError, match="The train split is empty for 1 shower; provide more showers"):
        generator_task(supa.simulate(1, first=int(np.flatnonzero(in_split(np.arange(50), "test"))[0])), TINY)
    with pytest.raises(ValueError, match="The showers have no hits, so nothing can be learned"):
        generator_task(supa.from_hits(SHALLOW, **_empty(60)), TINY)
    save(showers, tmp_path / "a.h5")
    task = generator_task(tmp_path / "a.h5", TINY)
    assert task.digest == generator_task(showers, TINY).digest
    for split in ("train", "validation"):
        wrong = np.repeat(in_split(showers.index, split), showers.num_hits)
        halved = supa.from_hits(SHALLOW, **_imported(showers) | {"energy": np.where(wrong, 0.5, 1) * showers.energy})
        with pytest.raises(ValueError, match="A generator needs showers whose energies add up"):
            generator_task(halved, TINY)
    with pytest.raises(ValueError, match=r"A batch has \d+ showers?, but there are 99 processes"):
        generator_task(showers, TINY, processes=Processes(0, 99))
    with pytest.raises(ValueError, match="fields: 'energy' was given, but it must be 'preset', or a numerical field"):
        generator_task(showers, TINY.replace(fields=("energy",)))


def test_a_file_without_training_showers_is_left_out(showers):
    single = supa.simulate(1, "standard", first=int(np.flatnonzero(in_split(np.arange(50), "test"))[0]))
    assert generator_task([showers, single], TINY).digest == generator_task(showers, TINY).digest


def _empty(number):
    nothing = {name: [] for name in ("x", "y", "energy", "slice")}
    return {"offset": [0] * (number + 1), "incident_energy": [1.0] * number, "leaked_energy": [1.0] * number, **nothing}


def test_a_training_that_diverges_is_one_clear_error(showers):
    trainer = Trainer(generator_task(showers, TINY))
    with torch.no_grad():
        trainer.task.trained.inputs.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="training diverged; lower learning_rate"):
        trainer.run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ema": 1.0}, "ema: 1.0 was given, but it must be a number from 0 to below 1"),
        ({"generator": {"d_model": 40}}, "generator: d_model: 40 was given, but it must be a multiple of 32"),
        ({"generator": {"width": 32}}, "'width' is not a setting of GeneratorConfig"),
        ({"emma": 0.9}, "'emma' is not a setting of GeneratorTrainingConfig.* Did you mean 'ema'"),
    ],
)
def test_an_invalid_setting_raises_a_clear_error(change, message):
    with pytest.raises(ValueError, match=message):
        GeneratorTrainingConfig.from_dict(change)


def test_presets_survive_toml_and_grow(showers):
    parameters = []
    for config in GENERATOR_PRESETS.values():
        assert GeneratorTrainingConfig.from_toml(config.to_toml()) == config
        parameters.append(config.generator.d_model * config.generator.n_layer)
    assert list(GENERATOR_PRESETS) == ["small", "base", "large"]
    assert parameters == sorted(parameters)


# ---------------------------------------------------------------------- GPUs


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("source", ["showers", "stream"])
@pytest.mark.parametrize(("model", "precision"), [("mamba2", "float32"), ("mamba2", "bf16"), ("mamba", "bf16")])
def test_the_bits_of_a_training_on_a_gpu_do_not_depend_on_graphs(showers, source, model, precision):
    config = TINY.replace(epochs=5, precision=precision, generator=SIZES.replace(model=model))
    processes = Processes(device=torch.device("cuda"))

    def make(graphs, stop=lambda: False):
        options = {"processes": processes, "cuda_graphs": graphs}
        if source == "showers":
            return Trainer(generator_task(showers, config, **options), should_stop=stop)
        sizes = {"batches_per_epoch": 4, "validation_showers": 40}
        return Trainer(stream_generator_task(SHALLOW, config, **sizes, **options), should_stop=stop)

    whole = make(False)
    whole.run()
    for graphs in ((True, False), (False, True), (True, True)):
        stopped = make(graphs[0], _Counted(22))
        with pytest.raises(KeyboardInterrupt):
            stopped.run()
        resumed = make(graphs[1])
        resumed.load_state_dict(stopped.state_dict())
        resumed.run()
        assert _same_bits(resumed.task.model.state_dict(), whole.task.model.state_dict()), graphs
        assert _without_seconds(resumed.state.history) == _without_seconds(whole.state.history)
    task = generator_task(showers, config, processes=processes)
    batches = list(task.batches(0, 0, 0))
    for _ in range(2):  # compile and capture
        for batch in batches:
            task.update(batch, 1e-3)
    with no_device_sync():
        for batch in batches:
            task.update(batch, 1e-3)


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("model", ["mamba", "mamba2", "hybrid", "transformer"])
def test_a_gpu_trains_like_a_cpu(showers, model):
    config = TINY.replace(generator=SIZES.replace(model=model, n_layer=4))
    histories = [train_generator(showers, config, device=device).state.history for device in ("cpu", "cuda")]
    for one, other in zip(*histories, strict=True):
        assert other.valid["generator"]["nats_per_hit"] == pytest.approx(
            one.valid["generator"]["nats_per_hit"], rel=1e-2
        )

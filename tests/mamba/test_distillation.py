"""Distillation of generators: stages, copied parts, exact resumption, checkpoints, errors."""

import copy
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from same_values import same

import supa
from supa_learning import Trainer
from supa_mamba import (
    GeneratorCheckpoint,
    GeneratorConfig,
    GeneratorTrainingConfig,
    HitCoding,
    Mamba2,
    ShowerGenerator,
    distillation_task,
    nats_without_layers,
    sample_showers,
    stream_distillation_task,
)
from supa_mamba.generator.distillation import layers_without_attention, least_needed_layers
from supa_mamba.generator.model import previous_of

SHALLOW = supa.ShowerConfig(num_slices=10, readout_layers=((6, 9),), incident_energy="log:1:20", split_early=0.3)
SIZES = GeneratorConfig(
    model="transformer", d_model=32, n_layer=2, d_state=4, energy_components=2, position_components=2
)
SHORT = GeneratorTrainingConfig(
    generator=SIZES.replace(mamba_layers=(0,)), epochs=2, batch_size=16, learning_rate=5e-3, ema=0.9
)


@pytest.fixture(scope="module")
def showers():
    return supa.simulate(80, SHALLOW, seed=3)


@pytest.fixture(scope="module")
def teacher(showers):
    torch.manual_seed(0)
    return ShowerGenerator(SIZES, HitCoding.fit(showers)).eval()


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, module):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_each_stage_trains_its_parameters_only(teacher, showers):
    task = distillation_task(teacher, showers, SHORT)
    begun, of_teacher = weights(task.trained), weights(teacher)
    seen = []

    class Stop:
        def __call__(self):
            seen.append((task._stage, changed(begun, task.trained)))
            return False

    trainer = Trainer(task, should_stop=Stop())
    history = trainer.run().history
    assert [epoch.stage for epoch in history] == [0, 0, 1, 1]
    first, second = (set().union(*(names for stage, names in seen if stage == s)) for s in (0, 1))
    assert first == {
        f"stack.layers.0.mixer.{name}" for name, _ in task.trained.stack.layers[0].mixer.named_parameters()
    }
    assert {"inputs.weight", "stack.layers.1.mixer.in_proj.weight", "position_head.2.weight"} < second
    assert not any(name.startswith(("leak_head", "profile")) for name in second)
    errors = [epoch.valid["layer 0"]["relative_error"] for epoch in history[:2]]
    assert 0 < errors[1] < errors[0] < 0.5  # the layers are fitted before the first step
    assert history[2].train["teacher"]["divergence_per_hit"] > 0
    assert not changed(of_teacher, teacher)


def test_the_second_stage_begins_with_the_best_averages_and_a_new_optimizer(teacher, showers):
    task = distillation_task(teacher, showers, SHORT)
    task.start_stage(0)
    for batch in task.batches(0, 0, 0):
        task.update(batch, 1e-2)
    assert changed(weights(task.model), task.trained)
    assert task._adamw.state
    task.end_stage(0)
    assert not changed(weights(task.model), task.trained)
    assert not task._adamw.state
    assert task.state_dict()["updates"] == 0


def test_the_first_stage_compares_a_mixer_with_its_attention(teacher, showers):
    task = distillation_task(teacher, showers, SHORT)
    task.start_stage(0)
    batch = next(iter(task.batches(0, 0, 0)))
    with torch.no_grad():
        found = task.losses(batch) / len(batch.points)
        coded = task._coded(batch)
        block = teacher.stack.layers[0]
        rows = block.norm(teacher.embed(previous_of(coded)))[0]
        y, z = block.mixer(rows, coded.offset), task.trained.stack.layers[0].mixer(rows, coded.offset)
    torch.testing.assert_close(found, ((z - y).square().sum() / y.square().sum())[None])


def test_the_third_stage_trains_on_samples_of_the_student(teacher, showers, monkeypatch):
    from supa_mamba.generator import distillation_task as module

    task = distillation_task(teacher, showers, SHORT, on_policy=True)
    sampled = []

    def sample(student, *given, **options):
        found = sample_showers(student, *given, **options)
        sampled.append((weights(student), options["first"], found))
        return found

    monkeypatch.setattr(module, "sample_showers", sample)

    history = Trainer(task).run().history
    assert [epoch.stage for epoch in history] == [0, 0, 1, 1, 2, 2]
    assert [first for _, first, _ in sampled] == [0, len(task.train)]
    assert [len(found) for _, _, found in sampled] == [len(task.train)] * 2
    assert not same(sampled[0][0], sampled[1][0])  # the second epoch has a later student
    assert not np.array_equal(sampled[0][2].energy[:9], sampled[1][2].energy[:9])
    assert all(list(epoch.train) == ["teacher"] for epoch in history[4:])
    assert "nats_per_hit" in history[5].valid["generator"]
    later = changed(sampled[0][0], task.model)
    assert "stack.layers.1.mixer.in_proj.weight" in later
    assert not any(name.startswith(("leak_head", "profile")) for name in later)
    # The loss sees the samples, and no true shower.
    batch = next(iter(task.batches(2, 1, 0)))
    points = np.stack([sampled[-1][2].x, sampled[-1][2].y], 1).astype(np.float32)
    assert {tuple(row) for row in batch.points[:, :2].tolist()} <= {tuple(row) for row in points.tolist()}
    assert task.losses(batch)[:4].abs().max() == 0


def test_the_divergence_of_a_student_from_itself_is_zero_and_grows_with_a_shift(teacher, showers):
    task = distillation_task(teacher, showers, SHORT)
    task.start_stage(1)
    task.teacher = copy.deepcopy(task.trained).requires_grad_(False)
    batch = next(iter(task.batches(1, 0, 0)))
    losses = task.losses(batch)
    plain = super(type(task), task).losses(batch)
    torch.testing.assert_close(losses[:4], plain / 2)
    assert losses[4:].abs().max() == 0
    shift = 0.5
    with torch.no_grad():
        task.teacher.energy_head[2].bias[2:4] += shift  # the means of the mixture
        task.trained.energy_head[2].weight.zero_()
        task.teacher.energy_head[2].weight.zero_()
        for model in (task.trained, task.teacher):
            model.energy_head[2].bias[0], model.energy_head[2].bias[1] = 30.0, -30.0  # one component
            model.energy_head[2].bias[4:] = 0.0
        torch.manual_seed(0)
        coded = task._coded(batch)
        hits = int((coded.left > 1).sum())
        drawn = torch.stack([2 * task.losses(batch)[4] / hits for _ in range(200)])
    # KL of two normal distributions of width 1, to 5 standard errors
    assert abs(float(drawn.mean()) - shift**2 / 2) < 5 * float(drawn.std()) / 200**0.5
    assert float(drawn.std()) / 200**0.5 < 0.02


def test_a_resumed_distillation_has_the_same_bits(teacher, showers):
    def new():
        return Trainer(distillation_task(teacher, showers, SHORT, on_policy=True))

    def stopped(place):
        trainer = new()
        trainer.should_stop = lambda: (trainer.state.stage, trainer.state.epoch, trainer.state.step) == place
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        return trainer.state_dict()

    whole = new()
    whole.run()
    for place in ((0, 0, 3), (1, 1, 2), (2, 1, 2)):  # in all stages
        resumed = new()
        resumed.load_state_dict(stopped(place))
        resumed.run()
        assert not changed(whole.task.model.state_dict(), resumed.task.model)


def test_a_student_is_an_ordinary_checkpoint_and_can_be_a_teacher(teacher, tmp_path):
    task = stream_distillation_task(
        teacher, SHALLOW, SHORT.replace(epochs=1), batches_per_epoch=2, validation_showers=30
    )
    trainer = Trainer(task)
    trainer.run()
    GeneratorCheckpoint.of(trainer).save(tmp_path / "student.ckpt")
    model = GeneratorCheckpoint.load(tmp_path / "student.ckpt").model()
    assert model.config.mamba_layers == (0,)
    assert isinstance(model.stack.layers[0].mixer, Mamba2)
    assert not changed(task.model.state_dict(), model)
    sampled, expected = (sample_showers(each, SHALLOW, 20, seed=1) for each in (model, task.model))
    assert sampled.num_hits.sum() == expected.num_hits.sum() > 0
    both = SHORT.replace(generator=SIZES.replace(mamba_layers=(0, 1)), epochs=1)
    assert distillation_task(model, supa.simulate(60, SHALLOW, seed=4), both).layers == (1,)


@torch.no_grad()
def test_a_skipped_layer_adds_nothing_and_the_most_needed_attention_is_kept(teacher, showers):
    model = copy.deepcopy(teacher)
    for number, scale in ((0, 30.0), (1, 0.0)):  # the first attention changes the rows, the second does not
        for parameter in model.stack.layers[number].mixer.out_proj.parameters():
            parameter.data.mul_(scale)
    whole = -float(model(model.coding.encode(showers)).total()) / len(showers.x)
    found = nats_without_layers(model, showers)
    assert found[1] == pytest.approx(whole, rel=1e-6)
    without = copy.deepcopy(model)
    torch.nn.init.zeros_(without.stack.layers[0].mixer.out_proj.weight)
    expected = -float(without(without.coding.encode(showers)).total()) / len(showers.x)
    assert found[0] == pytest.approx(expected, rel=1e-6)
    assert abs(found[0] - whole) > 1e-3 * whole
    (kept,) = {0, 1} - set(least_needed_layers(model, [showers[:30], showers[30:]], 1 / 2))
    assert kept == max(found, key=found.get)
    assert nats_without_layers(model, showers, [1]) == {1: found[1]}
    with pytest.raises(ValueError, match=r"layers: 2 was given, but the model has 2 layers"):
        nats_without_layers(model, showers, [2])
    with pytest.raises(ValueError, match="needs showers with hits"):
        nats_without_layers(model, showers[:0])


def test_the_reverse_divergence_has_the_gradient_of_its_expectation(teacher, showers):
    # The teacher's energies are shifted, so that KL(student || teacher) has a gradient in the means of the mixture.
    task = distillation_task(teacher, showers, SHORT, divergence="reverse")
    task.start_stage(1)
    task.teacher = copy.deepcopy(task.trained).requires_grad_(False)
    batch = next(iter(task.batches(1, 0, 0)))
    assert task.losses(batch)[4:].abs().max() == 0
    bias = task.trained.energy_head[2].bias
    with torch.no_grad():
        task.teacher.energy_head[2].bias[2:4] += 0.5
    torch.manual_seed(0)
    values, gradients = [], []
    for _ in range(40):
        divergence = task.losses(batch)[4:].sum()
        values.append(divergence.item())
        gradients.append(torch.autograd.grad(divergence, bias)[0][2:4])
    assert np.mean(values) > 5 * np.std(values) / np.sqrt(len(values))

    def expected():  # over energies, on a grid; the positions do not depend on the shift
        coded = task._coded(batch)
        previous = previous_of(coded)
        grid = torch.linspace(-30, 30, 3001)
        found = []
        for model in (task.trained, task.teacher):
            known = model.add_features(model.hidden(previous, coded.offset).float(), previous)
            mixture = model.energy_distribution(known[previous.left != 1])
            found.append(torch.stack([mixture.log_density(x.expand(mixture.mean.shape[:-1])) for x in grid], 1))
        log_q, log_p = found
        return 0.5 * (log_q.exp() * (log_q - log_p)).sum() * (grid[1] - grid[0])

    exact = expected()
    (gradient,) = torch.autograd.grad(exact, bias)
    found, error = torch.stack(gradients).mean(0), torch.stack(gradients).std(0) / len(gradients) ** 0.5
    assert (found - gradient[2:4]).abs().max() < 5 * error.max() < gradient[2:4].abs().max()
    assert abs(np.mean(values) - exact.item()) < 5 * np.std(values) / np.sqrt(len(values))
    with pytest.raises(ValueError, match="divergence: 'backward' was given, but it must be one of forward, reverse"):
        distillation_task(teacher, showers, SHORT, divergence="backward")


def test_layers_are_chosen_by_the_share_of_attention():
    assert layers_without_attention(4, 0) == (0, 1, 2, 3)
    assert layers_without_attention(5, Fraction(1, 2)) == (0, 2, 4)
    for layers, share, message in [
        (3, 1 / 4, "the teacher has only 3 layers"),
        (4, 2 / 3, "2/3 was given"),
        (4, 1, "1 "),
    ]:
        with pytest.raises(ValueError, match=message):
            layers_without_attention(layers, share)


def test_errors(teacher, showers):
    other = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), teacher.coding)
    cases = [
        (other, showers, SHORT, 'its model is "mamba2", but only the attention of a "transformer"'),
        (teacher, showers, SHORT.replace(generator=SIZES), "mamba_layers: [] was given"),
        (teacher, showers, SHORT.replace(generator=SHORT.generator.replace(d_model=64)), "must have the sizes"),
        (teacher, showers, SHORT.replace(fields=("split_early",)), "fields: ['split_early'] was given"),
        (teacher, supa.simulate(60, "critical", seed=1), SHORT, "the preset 'critical' was given"),
    ]
    for model, data, config, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            distillation_task(model, data, config)
    with pytest.raises(ValueError, match="mamba_layers: they replace attention of a Transformer"):
        GeneratorConfig(mamba_layers=(0,))
    with pytest.raises(ValueError, match="mamba_layers: 3 was given, but the layers are 0 to 1"):
        SIZES.replace(mamba_layers=(3,))
    with pytest.raises(ValueError, match="a layer can only appear once"):
        SIZES.replace(mamba_layers=(1, 1))

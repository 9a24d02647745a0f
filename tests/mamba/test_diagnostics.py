"""Outlier features and signal propagation: closed forms, hooks, TensorBoard."""

import pytest
import torch
from sequences import offset_of
from torch.nn import functional

import supa
from supa_learning import Callback
from supa_mamba import (
    ActivationMonitor,
    GeneratorConfig,
    GeneratorTrainingConfig,
    HybridStack,
    TrainingConfig,
    activation_statistics,
    stack_activations,
    train,
    train_generator,
)

WIDTH = 16


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_kurtosis_is_the_width_for_one_neuron_and_one_for_equal_neurons():
    one = functional.one_hot(torch.full((50,), 3), WIDTH) * drawn(50, 1)
    assert float(activation_statistics(one)["kurtosis"]) == pytest.approx(WIDTH, rel=1e-12)
    assert float(activation_statistics(drawn(50, WIDTH).sign())["kurtosis"]) == pytest.approx(1, rel=1e-12)
    rows = 40_000
    gaussian = float(activation_statistics(drawn(rows, WIDTH))["kurtosis"])
    assert 1 < gaussian < 1 + 6 / rows  # 1 + 2 / rows is expected


def test_statistics_match_their_definitions():
    x = drawn(3, 7, WIDTH).mul(drawn(WIDTH).exp())
    rows = x.flatten(0, 1)
    found = {name: float(value) for name, value in activation_statistics(x).items()}
    square = rows.square().mean(0)
    assert found["kurtosis"] == pytest.approx(float((square**2).mean() / square.mean() ** 2), rel=1e-12)
    ratios = [float(row.abs().max() / row.abs().sort().values[WIDTH // 2 - 1]) for row in rows]
    assert found["max_over_median"] == pytest.approx(sum(ratios) / len(ratios), rel=1e-12)
    cosine = functional.cosine_similarity(rows[:, None], rows, dim=2)
    assert found["cosine"] == pytest.approx(float((cosine.sum() - len(rows)) / len(rows) / (len(rows) - 1)), rel=1e-9)
    assert found["rms"] == pytest.approx(float(rows.square().mean().sqrt()), rel=1e-12)
    scaled = {name: float(value) for name, value in activation_statistics(1000 * x).items()}
    assert scaled.pop("rms") == pytest.approx(1000 * found.pop("rms"))
    assert scaled == pytest.approx(found)


def test_hooks_change_neither_results_nor_gradients_and_are_removed():
    torch.manual_seed(0)
    stack = HybridStack(WIDTH, 3, [1], 2, "mamba2", headdim=8, d_state=4, d_intermediate=24)
    x, offset = torch.randn(12, WIDTH), offset_of([5, 7])
    blocks = {f"layer {number}": block for number, block in enumerate(stack.layers)}

    def gradients():
        stack.zero_grad()
        y = stack(x, offset)
        y.square().sum().backward()
        return [y.detach(), *(parameter.grad.clone() for parameter in stack.parameters())]

    expected = gradients()
    with ActivationMonitor(blocks | {"norm": stack.norm_f}) as monitor:
        assert monitor.figures() == {}
        found = gradients()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert not any(module._forward_hooks for module in stack.modules())
    # The result of a block is the residual after it.
    residual = x
    for name, block in blocks.items():
        with torch.no_grad():
            residual = block(residual, offset)
        wanted = {key: float(value) for key, value in activation_statistics(residual).items()}
        assert monitor.figures()[name] == pytest.approx(wanted, rel=1e-4)
    assert set(monitor.figures()) == {*blocks, "norm"}


@pytest.mark.parametrize("x", [[1.0], torch.tensor(1.0), torch.zeros(3, 0), torch.zeros(3, 2, dtype=torch.complex64)])
def test_activations_without_features_raise(x):
    with pytest.raises(ValueError, match=r"x: .* was given, but it must be "):
        activation_statistics(x)


@pytest.mark.parametrize("modules", [[torch.nn.Linear(2, 2)], torch.nn.Linear(2, 2), {"layer": 3}, None])
def test_monitored_modules_have_names(modules):
    with pytest.raises(ValueError, match="was given, but it must be a dictionary of modules by name"):
        ActivationMonitor(modules)


def test_hooks_are_removed_after_an_error():
    layer = torch.nn.Linear(4, 4)
    with pytest.raises(RuntimeError), ActivationMonitor({"layer": layer}):
        layer(torch.zeros(3))
    assert not layer._forward_hooks


SIZES = {"d_model": 32, "n_layer": 2, "d_state": 4}
TRAININGS = {
    "generator": (
        train_generator,
        GeneratorTrainingConfig(generator=GeneratorConfig(**SIZES, model="transformer"), epochs=2, batch_size=16),
    ),
    "encoder": (train, TrainingConfig(target="incident_energy", **SIZES, epochs=2, batch_size=16)),
}


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_training_measures_its_stack_on_validation_showers(kind):
    measured, (run, config) = [], TRAININGS[kind]

    class Measure(Callback):
        def on_epoch(self, trainer, epoch):
            measured.append(stack_activations(trainer))

    showers = supa.simulate(80, supa.PRESETS["critical"].config.replace(incident_energy="log:1:20"), seed=3)
    trainer, plain = run(showers, config, callbacks=[Measure()]), run(showers, config)
    assert [sorted(figures) for figures in measured] == [["layer 0", "layer 1"]] * 2
    assert measured[0] != measured[1]
    assert 1 < measured[1]["layer 1"]["kurtosis"] < 32
    weights = plain.task.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in trainer.task.model.state_dict().items())

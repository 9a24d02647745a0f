"""Generators with integers of 8 bits: rounded layers, the same showers in every batch, and what is refused."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sequences import offset_of
from torch import nn
from untrained import assert_equal, model_of

import supa
from supa_learning import Processes
from supa_mamba import (
    GeneratorCheckpoint,
    GeneratorConfig,
    GeneratorTrainingConfig,
    ShowerGenerator,
    export_generator,
    generator_task,
    int8_generator,
    sample_showers,
    tensor_parallel,
    train_generator,
)
from supa_mamba.generator.sampling.cpu_stack import CpuStack
from supa_mamba.modules.int8 import LARGEST, Int8Linear

BOTH = "weights-and-activations"
paths = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)


@paths
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (7, 37, 5), (64, 192, 292)])
def test_integers_are_multiplied_with_a_scale_for_each_row_and_output(path, device, rows, inputs, outputs, bias):
    torch.manual_seed(0)
    given = nn.Linear(inputs, outputs, bias=bias)
    x = torch.randn(rows, inputs) * 10.0 ** torch.randint(-3, 4, (rows, 1))
    x[rows // 2] = 0
    before = copy.deepcopy(given.state_dict())
    layer = Int8Linear(given)
    y = layer(x)
    # PyTorch divides by 127.5, because integers of 8 bits begin with -128.
    step = given.weight.detach().abs().amax(1, keepdim=True) / 127.5
    torch.testing.assert_close(layer.weight, given.weight.detach(), rtol=0, atol=1.01 * float(step.max()))
    off = (layer.weight - (given.weight / step).round().clamp(-128, 127) * step).abs() > 1e-5 * step
    scale = (x.abs().amax(1, keepdim=True) / LARGEST).clamp(min=1e-30).double()
    expected = (x / scale).round().clamp(-LARGEST, LARGEST) * scale @ layer.weight.double().T
    expected += 0 if given.bias is None else given.bias
    close = (y - expected).abs() <= 1e-5 * expected.abs().amax(1, keepdim=True)
    # A value between two integers is rounded in single precision.
    assert close.double().mean() > 0.99
    assert off.double().mean() < 0.01
    torch.testing.assert_close(y[rows // 2], torch.zeros(outputs) if given.bias is None else given.bias)
    for chosen in (slice(0, 0), slice(0, 1), slice(rows - 1, rows), slice(rows // 3, rows)):
        assert torch.equal(layer(x[chosen]), y[chosen])
    assert torch.equal(layer.multiply_integers(x), y)
    moved = copy.deepcopy(layer).to(device)
    assert torch.equal(moved(x.to(device)).cpu(), y)
    assert all(torch.equal(given.state_dict()[name], weights) for name, weights in before.items())


@paths
@pytest.mark.parametrize(("kind", "int8"), [("mamba", "weights"), ("mamba2", BOTH), ("transformer", BOTH)])
def test_a_shower_does_not_depend_on_the_others(path, device, kind, int8):
    float32 = model_of("critical", kind, layers=2).to(device)
    model = int8_generator(float32, int8)
    whole = sample_showers(model, "critical", 40, seed=5, first=200)
    assert whole.num_hits.max() > 20
    assert_equal(whole, sample_showers(model, "critical", 40, seed=5, first=200, batch_size=7))
    assert_equal(whole[:5], sample_showers(model, "critical", 5, seed=5, first=200, batch_size=1))
    exact = sample_showers(float32, "critical", 40, seed=5, first=200)
    assert whole.run.model.endswith(f" int8 {int8}")
    assert "int8" not in exact.run.model
    # The random numbers are the same, so the profiles are, and first hits differ by the rounding.
    np.testing.assert_array_equal(whole.offset, exact.offset)
    first = whole.offset[:-1][whole.num_hits > 0]
    assert not np.array_equal(whole.x[first], exact.x[first])
    np.testing.assert_allclose(whole.x[first], exact.x[first], atol=0.1 * np.abs(exact.x).max())


def test_a_draft_proposes_hits_for_integers():
    model = int8_generator(model_of("critical", layers=2), BOTH)
    whole = sample_showers(model, "critical", 12, seed=5, draft=model, draft_length=2)
    assert_equal(whole, sample_showers(model, "critical", 12, seed=5, draft=model, draft_length=3, batch_size=5))


@pytest.mark.parametrize("kind", ["mamba", "hybrid", "transformer"])
def test_the_loops_of_the_sampler_equal_the_outlier_protected_stack(kind):
    coding = model_of("critical").coding
    torch.manual_seed(0)
    sizes = GeneratorConfig(model=kind, d_model=32, n_layer=4, d_state=4, block="outlier-protected")
    stack = int8_generator(ShowerGenerator(sizes, coding), BOTH).stack
    options = {} if kind == "mamba" else {"max_length": 9}
    x, state, of_loops = torch.randn(40, 32), stack.init_state(40, **options), stack.init_state(40, **options)
    y = stack.step(x, state)
    found = torch.from_numpy(CpuStack(stack, of_loops).step(x.numpy().copy(), np.arange(40)))
    whole = stack(x, offset_of([1] * 40)).detach()
    for other in (found, whole):  # a value between two integers can be rounded differently
        assert ((other - y).abs() < 1e-4).double().mean() > 0.9
        torch.testing.assert_close(other, y, rtol=0, atol=0.1)


@pytest.mark.parametrize("int8", ["weights", BOTH])
def test_projections_and_mlps_are_rounded_and_all_else_stays(int8):
    for kind in ("mamba", "mamba2", "transformer"):
        float32 = model_of("critical", kind, layers=2)
        before, rounded = float32.state_dict(), int8_generator(float32, int8)
        assert rounded.state_dict().keys() == before.keys()
        changed = {
            name.split(".", 4)[-1]
            for name, weights in rounded.state_dict().items()
            if not torch.equal(weights, before[name])
        }
        projections = {"in_proj.weight", "out_proj.weight"}
        others = {"mamba": {"x_proj.weight"}, "mamba2": set(), "transformer": {"fc1.weight", "fc2.weight"}}
        assert changed == projections | others[kind]
        values = rounded.stack.layers[0].mixer.in_proj.weight
        assert max(len(row.unique()) for row in values) <= 256
        assert (rounded.int8, float32.int8) == (int8, None)


def test_errors(tmp_path):
    float32 = model_of("critical", layers=2)
    model = int8_generator(float32, "weights")
    with pytest.raises(ValueError, match="int8: 'weight' was given, but it must be one of weights, "):
        int8_generator(float32, "weight")
    with pytest.raises(ValueError, match="it has int8 weights already"):
        int8_generator(model, BOTH)
    with pytest.raises(ValueError, match="int8 weights cannot be evaluated in pairs"):
        model.parallel_pairs(0, 2)
    with pytest.raises(ValueError, match="stack: it has integers of 8 bits"):
        tensor_parallel(int8_generator(float32, BOTH).stack, Processes(rank=0, count=2))
    with pytest.raises(ValueError, match="cannot be exported"):
        export_generator(model, tmp_path / "programs")
    showers, config = supa.simulate(60, "critical", seed=1), GeneratorTrainingConfig(generator=model.config)
    with pytest.raises(ValueError, match="cannot be trained"):
        generator_task(showers, config, initial=model)
    with torch.no_grad():
        float32.stack.layers[0].mixer.in_proj.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        int8_generator(float32, BOTH)


@pytest.mark.slow
def test_the_benchmark_runs_on_a_cpu(root, tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    sizes = GeneratorConfig(d_model=32, n_layer=1, d_state=4, energy_components=2, position_components=2)
    config = GeneratorTrainingConfig(generator=sizes, epochs=1, batch_size=20)
    trainer = train_generator(supa.simulate(40, "standard", seed=1), config)
    GeneratorCheckpoint.of(trainer).save(tmp_path / "g.ckpt")
    results = tmp_path / "results.json"
    command = [sys.executable, str(root / "benchmarks" / "generator_int8.py"), str(tmp_path / "g.ckpt")]
    command += ["--showers", "60", "--batch-sizes", "4", "--seconds", "0.01", "--rounds", "1", "--json", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    found = json.loads(results.read_text())["checkpoints"]["g.ckpt"]
    assert len(found["kurtosis"]) == 1
    for name in ("float32", "weights", BOTH):
        assert found[name].keys() >= {"nats per hit", "largest pull", "AUC", "showers per second, batch size 4"}
        assert found[name]["nats per hit"] == pytest.approx(found["float32"]["nats per hit"], abs=0.05)

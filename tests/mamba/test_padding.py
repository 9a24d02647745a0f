"""Padding of batches to few shapes: it changes neither losses nor gradients."""

import dataclasses

import numpy as np
import pytest
import torch

import supa
from supa_learning import CapturedStep
from supa_mamba.config import TrainingConfig
from supa_mamba.ops.packing import check_offsets
from supa_mamba.padding import PaddedShape, empty_batch, fill_padded
from supa_mamba.training import training_task

SHORT = supa.preset("two-primaries").replace(num_slices=12, readout_layers=((5, 11),), impact_spread=20.0)
TINY = {"d_model": 8, "n_layer": 1, "d_state": 4, "batch_size": 40, "epochs": 2}
TARGETS = ("incident_energy", "num_primaries", "primary", "preset")

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available; run with -m gpu")


def _showers(target):
    if target == "incident_energy":
        return supa.simulate(150, "critical", seed=1)
    if target == "preset":
        return [supa.simulate(80, "standard", seed=1), supa.simulate(80, "symmetric", seed=1)]
    config = SHORT if target == "primary" else SHORT.replace(num_primaries="poisson:2")
    return supa.simulate(200, config, seed=1)


@pytest.fixture(scope="module", params=TARGETS)
def task(request):
    return _task(request.param)


def _task(target):
    return training_task(_showers(target), TrainingConfig(target=target, **TINY))


def _batches(task):
    batches = list(task.train.batches(np.arange(len(task.train)), 40))
    assert len(batches) > 1
    return batches


def _padded(task, batch):
    padded = task._new_inputs(PaddedShape.of(batch, 40)).batch
    fill_padded(padded, batch)
    return padded


def _gradients(task, batch):
    task.encoder.zero_grad()
    batch = dataclasses.replace(batch, points=batch.points.clone().requires_grad_())
    outputs = task._outputs(batch)
    loss = task.objective.loss(outputs, batch)
    loss.backward()
    return (
        loss.detach(),
        task.objective.score(outputs, batch),
        batch.points.grad,
        [weights.grad.clone() for weights in task.encoder.parameters()],
    )


def test_a_padded_batch_begins_with_the_showers_of_the_batch(task):
    for batch in _batches(task):
        padded = _padded(task, batch)
        hits, showers = len(batch.points), len(batch.offset) - 1
        check_offsets(padded.offset, len(padded.points))
        assert int(padded.showers) == showers
        assert torch.equal(padded.offset[: showers + 1], batch.offset)
        assert torch.equal(padded.points[:hits], batch.points)
        assert torch.equal(padded.target[: len(batch.target)], batch.target)
        assert not padded.points[hits:].any()
        assert int(padded.offset[showers:].diff().max()) <= 64


def test_the_padding_changes_neither_loss_nor_score_nor_gradients(task):
    for batch in _batches(task):
        loss, score, points, weights = _gradients(task, batch)
        of_padded = _gradients(task, _padded(task, batch))
        torch.testing.assert_close(of_padded[0], loss)
        torch.testing.assert_close(of_padded[1], score)
        torch.testing.assert_close(of_padded[2][: len(points)], points)
        torch.testing.assert_close(of_padded[3], weights, rtol=1e-4, atol=1e-5)


def test_the_content_of_the_padding_does_not_change_a_bit(task):
    batch = _batches(task)[0]
    padded = _padded(task, batch)
    loss, score, points, weights = _gradients(task, padded)
    assert not points[len(batch.points) :].any()
    padded.points[len(batch.points) :].normal_(generator=torch.Generator().manual_seed(1))
    padded.target[len(batch.target) :] = padded.target[0]
    other = _gradients(task, padded)
    assert torch.equal(other[0], loss)
    assert torch.equal(other[1], score)
    assert not other[2][len(batch.points) :].any()
    assert all(torch.equal(a, b) for a, b in zip(other[3], weights, strict=True))


def test_a_training_with_padding_ends_with_the_same_weights_up_to_rounding(task):
    weights = []
    for padded in (False, True):
        again = _task(task.encoding.name)
        again._padded = padded
        sums = [again.update(batch, 1e-3) for batch in _batches(again)]
        scores = again.validate(again.validation_batches()).score
        weights.append([*again.encoder.parameters(), torch.stack(sums), torch.tensor(scores)])
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)


def test_there_are_few_shapes_and_little_padding():
    offset = torch.zeros(1, dtype=torch.int64)
    points = torch.zeros(70_000, 1)
    batches = {hits: dataclasses.replace(_empty(), points=points[:hits], offset=offset) for hits in range(0, 70_000, 7)}
    shapes = {hits: PaddedShape.of(batch, 256) for hits, batch in batches.items()}
    assert len({shape for hits, shape in shapes.items() if hits > 4096}) <= 8 * 5
    for hits, (rows, showers, _) in shapes.items():
        assert hits <= rows <= max(512, hits + max(512, hits // 8))
        assert (showers - 256) * 64 >= rows - hits


def _empty():
    return empty_batch(PaddedShape(0, 0), torch.zeros(0, 1), torch.zeros(0), by_hit=False)


# ---------------------------------------------------------------------- graphs


def test_without_a_gpu_a_step_runs_as_usual():
    calls = []
    step = CapturedStep(lambda x: calls.append(len(x)) or x.sum(), torch.zeros, device=torch.device("cpu"))
    for value in (1.0, 2.0):
        step.inputs(3).fill_(value)
        assert float(step(3)) == 3 * value
    assert calls == [3, 3]
    with pytest.raises(ValueError, match=r"shape: 4 was given, but it has no inputs; call inputs\(shape\)"):
        step(4)


@on_gpu
@pytest.mark.gpu
def test_a_captured_step_is_replayed_for_each_shape():
    calls = []

    def function(x):
        calls.append(len(x))
        return x.cumsum(0)

    step = CapturedStep(function, lambda n: torch.zeros(n, device="cuda"), device=torch.device("cuda"))
    results = []
    for value in range(1, 5):
        for size in range(1, 21):  # more shapes than graphs are kept
            step.inputs(size).fill_(value)
            results.append((value, size, step(size)))
    for size in (3, 4, 3, 3, 4, 4, 3):
        step.inputs(size).fill_(size)
        results.append((size, size, step(size)))
    assert calls.count(20) > 2
    calls.clear()
    step(3)
    assert not calls
    for value, size, result in results:
        assert result.tolist() == [value * (k + 1) for k in range(size)]

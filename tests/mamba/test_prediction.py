"""Mean predictions of encoders over rotations of showers."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

import supa
from supa_mamba import EncoderConfig, ShowerEncoder, TrainingConfig, evaluate, training_task
from supa_mamba.packed_showers import packed_showers
from supa_mamba.prediction import predict, predict_mean, rotated

TWO = supa.ShowerConfig(num_primaries=2, impact_spread=2.0)


def task_of(target, showers):
    return training_task(showers, TrainingConfig(target=target, d_model=8, n_layer=1, epochs=1))


def test_a_rotation_turns_hits_about_the_axis():
    showers = supa.simulate(100, "critical", seed=1)
    encoding = task_of("incident_energy", showers).encoding
    packed = packed_showers([showers], "all", encoding)
    names = encoding.normalisation.features
    before = encoding.normalisation.invert(packed.points.double())
    after = encoding.normalisation.invert(rotated(packed.points, encoding, math.pi / 6).double())
    x, y, z = names.index("x"), names.index("y"), names.index("z")
    expected = (before[:, x] + 1j * before[:, y]) * np.exp(1j * math.pi / 6)
    torch.testing.assert_close(after[:, x] + 1j * after[:, y], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[:, z], before[:, z], rtol=1e-5, atol=1e-5)


def test_energies_are_means_of_the_rotated_showers():
    showers = supa.simulate(60, "critical", seed=1)
    task = task_of("incident_energy", showers)
    encoder, encoding = task.encoder.eval(), task.encoding
    packed = packed_showers([showers], "all", encoding)
    found = predict_mean(encoder, encoding, packed, 4)
    each = []
    for k in range(4):
        points = rotated(packed.points, encoding, k * math.pi / 2)
        each.append(predict(encoder, type(packed)(points, packed.counts, packed.target, packed.number, by_hit=False)))
    np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-6)
    assert np.abs(each[1] - each[0]).max() > 1e-4  # an untrained encoder depends on the rotation
    np.testing.assert_array_equal(predict_mean(encoder, encoding, packed, 1), each[0])
    whole = evaluate(encoder, encoding, task.baseline, showers, split="all", rotations=4)
    np.testing.assert_allclose(whole.predictions["model"], found[:, 0] * encoding.std + encoding.mean, rtol=1e-6)
    assert whole.rotations == 4


def test_the_two_primaries_are_numbered_alike_in_all_rotations(monkeypatch):
    showers = supa.simulate(60, TWO, seed=1)
    encoding = task_of("primary", showers).encoding
    packed = packed_showers([showers], "all", encoding)
    calls = []
    scores = np.random.default_rng(1).normal(size=(len(packed.points), 2))
    swapped = np.random.default_rng(2).random(len(packed)) < 0.5
    of_hits = swapped.repeat(packed.counts)

    def outputs(_encoder, _showers):
        calls.append(None)
        return np.where(of_hits[:, None] & (len(calls) > 1), scores[:, ::-1], scores)

    monkeypatch.setattr("supa_mamba.prediction.predict", outputs)
    encoder = ShowerEncoder(EncoderConfig(features=4, outputs=2, level="hit", d_model=8, n_layer=1))
    found = predict_mean(encoder, encoding, packed, 3)
    assert len(calls) == 3
    np.testing.assert_allclose(found, softmax(scores, axis=1))


def test_showers_with_a_preferred_azimuth_are_not_rotated():
    tilted = supa.ShowerConfig(polar_angle=(0.1, 0.2), azimuth=(0.0, 1.0), incident_energy="log:1:20")
    for config, fits in ((tilted, False), (tilted.replace(azimuth=(-math.pi, math.pi)), True)):
        showers = supa.simulate(60, config, seed=1)
        task = task_of("incident_energy", showers)
        parts = (task.encoder, task.encoding, task.baseline, showers)
        if fits:
            assert evaluate(*parts, split="all", rotations=2).figures()["showers"] == 60
        else:
            with pytest.raises(ValueError, match="rotations: the primaries have the polar angles"):
                evaluate(*parts, split="all", rotations=2)
            evaluate(*parts, split="all")
    with pytest.raises(ValueError, match="rotations: 0 was given"):
        evaluate(*parts, rotations=0)

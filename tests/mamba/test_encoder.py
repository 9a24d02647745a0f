"""Encoder of showers: independence of the showers, pooling and errors."""

import json

import pytest
import torch

from supa_mamba.encoder import EncoderConfig, ShowerEncoder, pooled

LENGTHS = (7, 0, 1, 12)
# The tests of the modules and norms run the kernels of the encoder in Triton's interpreter.
cpu_and_gpu = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)


@pytest.fixture
def offset(device):
    return torch.tensor([0, *LENGTHS], device=device).cumsum(0)


def _encoder(level, outputs=3):
    torch.manual_seed(1)
    return ShowerEncoder(EncoderConfig(features=4, outputs=outputs, level=level, d_model=16, n_layer=2, d_state=4))


def _points(rows, device):
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(2)).to(device)


@cpu_and_gpu
@pytest.mark.parametrize("level", ["shower", "hit"])
def test_showers_are_encoded_independently(path, level, offset, device):
    encoder, points = _encoder(level).to(device), _points(sum(LENGTHS), device)
    together = encoder(points, offset)
    assert together.shape == ((4, 3) if level == "shower" else (20, 3))
    assert together.dtype == torch.float32
    alone = [
        encoder(points[begin:end], torch.tensor([0, end - begin], device=device))
        for begin, end in zip(offset[:-1].tolist(), offset[1:].tolist(), strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@cpu_and_gpu
def test_a_hit_depends_on_all_hits_of_its_shower_and_on_no_other(path, offset, device):
    encoder = _encoder("hit").to(device)
    points = _points(sum(LENGTHS), device).requires_grad_()
    encoder(points, offset)[10].sum().backward()  # the third hit of the last shower
    seen = points.grad.abs().sum(1) > 0
    assert seen.tolist() == [False] * 8 + [True] * 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling_equals_a_plain_loop(dtype):
    hits = torch.randn(sum(LENGTHS), 5, generator=torch.Generator().manual_seed(3)).to(dtype).requires_grad_()
    offset = torch.tensor([0, *LENGTHS]).cumsum(0)
    weights = torch.randn(len(LENGTHS), 11, generator=torch.Generator().manual_seed(4))
    found = pooled(hits, offset)
    (gradient,) = torch.autograd.grad((found * weights).sum(), hits)
    rows = []
    for part in hits.float().split(LENGTHS):
        count = torch.tensor([float(len(part))]).log1p()
        rows.append(torch.cat([part.mean(0), part.amax(0), count]) if len(part) else torch.zeros(11))
    naive = torch.stack(rows)
    torch.testing.assert_close(found, naive)
    torch.testing.assert_close(gradient, torch.autograd.grad((naive * weights).sum(), hits)[0])


def test_all_weights_have_gradients():
    for level in ("shower", "hit"):
        encoder = _encoder(level)
        encoder(_points(20, "cpu"), torch.tensor([0, 9, 20])).square().sum().backward()
        assert all(bool((weights.grad != 0).any()) for weights in encoder.parameters())


def test_configs_survive_json():
    config = EncoderConfig(features=3, outputs=1, level="shower", d_model=8)
    assert EncoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": 0}, "d_model: 0 was given, but it must be a whole number from 1"),
        ({"d_state": 257}, "d_state: 257 was given, but it must be a whole number from 1 to 256"),
        ({"level": "node"}, "level: 'node' was given, but it must be 'shower' or 'hit'"),
        ({"width": 3}, "'width' is not a setting of EncoderConfig; choose from features, outputs"),
    ],
)
def test_an_invalid_size_raises_a_clear_error(change, message):
    sizes = EncoderConfig(features=3, outputs=1, level="shower").to_dict()
    with pytest.raises(ValueError, match=message):
        EncoderConfig.from_dict({**sizes, **change})


def test_a_wrong_number_of_features_raises_a_clear_error():
    with pytest.raises(ValueError, match=r"points: shape \(5, 3\) was given, but it must be \(hits, 4\)"):
        _encoder("hit")(torch.zeros(5, 3), torch.tensor([0, 5]))


def test_an_encoder_has_the_requested_device_and_dtype():
    config = EncoderConfig(features=3, outputs=2, level="shower", d_model=8, n_layer=1, d_state=2)
    encoder = ShowerEncoder(config, device="meta", dtype=torch.float64)
    assert {(p.device.type, p.dtype) for p in encoder.parameters()} == {("meta", torch.float64)}

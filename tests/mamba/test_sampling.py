"""Sampling of showers: the same showers in every batch, and the distribution of the model."""

import copy
import itertools

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from scipy.stats import chisquare, kstest
from untrained import LEAKY, assert_equal, model_of

import supa
from supa.compiler import kernel
from supa_mamba import sample_showers, sample_stream
from supa_mamba.generator.model import Previous, previous_of
from supa_mamba.generator.profile import ProfileRows
from supa_mamba.generator.sampling.gpu_batches import pieces_on_gpu
from supa_mamba.generator.sampling.naive import naive_sample
from supa_mamba.generator.sampling.normal_quantile import normal_quantile
from supa_mamba.generator.sampling.uniforms import hit_uniforms, leak_uniforms, slice_uniforms


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "hybrid", "transformer"])
def test_a_shower_does_not_depend_on_the_others(kind):
    model = model_of("critical", kind)
    whole = sample_showers(model, "critical", 120, seed=5, first=200)
    assert whole.num_hits.max() > 20
    assert_equal(whole, sample_showers(model, "critical", 120, seed=5, first=200, batch_size=7))
    assert_equal(whole[:9], sample_showers(model, "critical", 9, seed=5, first=200, batch_size=1))
    assert_equal(whole[60:70], sample_showers(model, "critical", 10, seed=5, first=260))
    pieces = list(sample_stream(model, "critical", 120, seed=5, first=200, batch_size=50))
    assert [len(piece) for piece in pieces] == [56, 64]  # the first one ends before the index 256
    assert_equal(whole, supa.Showers.concatenate(pieces))
    other = sample_showers(model, "critical", 2, seed=6, first=200)
    assert not np.array_equal(whole.x[:3], other.x[:3])


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("mamba", "critical"), ("mamba2", "critical"), ("mamba2", LEAKY), ("hybrid", LEAKY),
        ("transformer", "critical"), ("student", LEAKY), ("mamba student", LEAKY), ("paired", "critical"),
    ],
)  # fmt: skip
def test_showers_equal_those_of_the_reference(kind, config):
    model = model_of(config, kind)
    physics = supa.PRESETS["critical"].config if config == "critical" else config
    sample = sample_showers(model, config, 7, seed=4, first=30, batch_size=3)
    for index, shower in zip(sample.index, sample, strict=True):
        deposited, hits = naive_sample(model, physics, 4, int(index))
        np.testing.assert_array_equal(shower.slice, hits.slice + model.coding.slices[0])
        np.testing.assert_allclose(shower.x, hits.position[:, 0] * model.coding.position_scale, rtol=2e-3, atol=1e-4)
        # Errors of rounding add up over the hits, whose last ones have a billionth of the energy.
        energy = hits.energy * 2.0**-40 * shower.incident_energy
        np.testing.assert_allclose(shower.energy, energy, rtol=2e-3, atol=1e-9)
        leaked = shower.incident_energy * (1 - deposited * 2.0**-40)
        assert shower.leaked_energy == pytest.approx(leaked, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("config", ["standard", LEAKY])
def test_the_constraints_of_simulated_showers_hold(config):
    model = model_of(config)
    sample = sample_showers(model, config, 200, seed=2)
    sums = np.bincount(np.repeat(np.arange(200), sample.num_hits), sample.energy, 200) + sample.leaked_energy
    np.testing.assert_allclose(sums, sample.incident_energy, rtol=1e-12)
    assert set(sample.slice) <= set(model.coding.slices)
    np.testing.assert_array_equal(sample.incident_energy, supa.simulate(200, config, seed=2).incident_energy)
    assert (sample.run.engine, sample.run.seed, sample.run.first, sample.run.attempts) == ("imported", 2, 0, 200)
    if config is LEAKY:
        assert ((sample.num_hits == 0) & (sample.leaked_energy == sample.incident_energy)).any()
        assert ((sample.num_hits > 0) & (sample.leaked_energy > 0)).any()


def test_the_frequencies_of_profiles_are_those_of_the_model():
    """Continuous values are not inputs of this model, so its numbers of hits can be enumerated."""
    model = model_of(LEAKY, hits=1.0, ends=0.0, layers=1, scale=0.5)
    network, slices = model.profile, model.coding.num_slices
    with torch.no_grad():
        network.trunk[0].weight[:, 2 * slices : 3 * slices] = 0
        network.trunk[0].weight[:, 4 * slices :] = 0
        model.leak_head[2].weight.zero_()
        sample = sample_showers(model, LEAKY.replace(incident_energy=50), 20_000, seed=3)
        found = np.zeros((len(sample), slices), int)
        np.add.at(found, (np.repeat(np.arange(len(sample)), sample.num_hits), sample.slice - 6), 1)
        expected = {(0, 0, 0): model.leak_distribution(torch.zeros(1, 1))[0][0, 2].exp().item()}
        some = 1 - expected[0, 0, 0]
        for profile in itertools.product(range(3), repeat=slices):
            last = max((s for s in range(slices) if profile[s]), default=-1)
            if last < 0:
                continue
            count, number = torch.tensor(profile).expand(slices, -1), torch.arange(slices)
            rows = ProfileRows(number, count, torch.zeros(slices, slices), torch.zeros(slices), torch.zeros(slices, 1))
            of_number, _ = network.log_likelihood(
                rows, count[0], number == last, number == slices - 1, torch.zeros(slices)
            )
            expected[profile] = some * of_number[: last + 1].sum().exp().item()
    counts = [int((found == profile).all(1).sum()) for profile in expected]
    rest = 1 - sum(expected.values())
    assert 0.02 < rest < 0.8
    result = chisquare([*counts, len(found) - sum(counts)], len(found) * np.array([*expected.values(), rest]))
    assert result.pvalue > 1e-3


def test_energies_and_positions_of_first_slices_and_hits_have_the_densities_of_the_model():
    model = model_of(LEAKY, hits=0.5, ends=0.0, layers=1, scale=0.3)
    with torch.no_grad():  # without rings, whose cumulative probabilities have no closed form
        model.position_head[2].bias[7 * model.config.position_components :][: model.config.ring_components] = -100
    sample = sample_showers(model, LEAKY.replace(incident_energy=50), 6000, seed=3)
    sample = sample[np.flatnonzero(sample.num_hits)]
    batch = model.coding.encode(sample)
    first = batch.offset[:-1]
    with torch.no_grad():
        previous = previous_of(batch)
        hidden = model.add_features(model.stack(model.embed(previous), batch.offset), previous)[first]
        before = Previous(*(x[first] for x in previous))
        energy = model.energy_distribution(hidden)
        position = model.position_distribution(hidden, before, batch.energy_logit[first])
        showers, place = torch.arange(len(sample)), (batch.count > 0).int().argmax(1)
        rows = ProfileRows(
            place, batch.count, batch.slice_energy, batch.slice_remaining[showers, place], batch.condition
        )
        _, of_slice = model.profile.energy_distribution(model.profile(rows), batch.count[showers, place])

    def uniform(mixture, value):
        """Return the cumulative probabilities of values."""
        z = (value[:, None] - mixture[1]) * torch.exp(-mixture[2])
        return (mixture[0].exp() * torch.special.ndtr(z)).sum(1).numpy()

    goes_on = before.left > 1
    energies = uniform([x[goes_on] for x in energy], batch.energy_logit[first][goes_on])
    assert kstest(energies, "uniform").pvalue > 1e-3
    goes_on = place < batch.last_slice
    energies = uniform([x[goes_on] for x in of_slice], batch.slice_logit[showers, place][goes_on])
    assert kstest(energies, "uniform").pvalue > 1e-3
    along_x = (position.log_weight[:, : position.mean.shape[1]], position.mean[..., 0], position.log_scale[..., 0])
    assert kstest(uniform(along_x, batch.position[first, 0]), "uniform").pvalue > 1e-3


def test_the_quantile_of_the_normal_distribution():
    @kernel
    def fill(p, q):
        for k in range(len(p)):
            q[k] = normal_quantile(p[k])

    p = np.concatenate([np.linspace(1e-4, 1 - 1e-4, 1001), 10.0 ** -np.arange(1, 60), 1 - 10.0 ** -np.arange(1, 10)])
    found = np.empty_like(p)
    fill(p, found)
    np.testing.assert_allclose(found, ndtri(p), rtol=1e-14, atol=1e-14)


def test_random_numbers_are_uniform_and_differ_between_hits_showers_and_seeds():
    index, number = np.repeat(np.arange(50), 40), np.tile(np.arange(40), 50)
    drawn = [hit_uniforms(1, index, number), hit_uniforms(2, index, number), leak_uniforms(1, np.arange(2000))]
    drawn += [slice_uniforms(1, np.arange(50), of_slice) for of_slice in range(20)]
    values = np.concatenate([x.ravel() for x in drawn])
    assert len(np.unique(values)) > len(values) - 5
    assert kstest(values, "uniform").pvalue > 1e-3
    assert values.min() > 0
    assert values.max() < 1
    np.testing.assert_array_equal(hit_uniforms(1, index[7:8], number[7:8]), drawn[0][7:8])


def test_a_shower_that_never_ends_is_ended():
    model = model_of("critical", hits=30.0, ends=-100.0)
    sample = sample_showers(model, "critical", 9, seed=1)
    assert set(sample.num_hits[sample.leaked_energy == 0]) == {2 * model.coding.most_hits}


def test_a_model_in_double_precision_or_in_training_is_sampled_in_single_precision():
    model = model_of("critical", "hybrid")
    expected = sample_showers(model, "critical", 3, seed=1)
    assert_equal(expected, sample_showers(model.train().double(), "critical", 3, seed=1))
    assert model.training


def test_a_model_on_another_device_is_refused():
    with pytest.raises(
        ValueError, match=r"model: it is on meta, but it must be on the CPU or on one GPU; pass model.cpu\(\)"
    ):
        sample_showers(model_of("critical").to("meta"), "critical", 3, seed=1)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_no_shower_is_lost_if_all_showers_of_a_block_end_at_once(batch_size):
    model = model_of("critical", ends=100.0)
    model.profile.number_head.bias.data[:] = torch.where(
        torch.arange(len(model.profile.number_head.bias)) == 1, 99, -99
    )
    sample = sample_showers(model, "critical", 300, seed=1, first=100, batch_size=batch_size)
    assert sample.index.tolist() == list(range(100, 400))
    assert set(sample.num_hits[sample.leaked_energy < sample.incident_energy]) == {1}


def test_the_number_of_threads_does_not_change_a_shower():
    model, threads = model_of("critical", "hybrid"), torch.get_num_threads()
    expected = sample_showers(model, "critical", 64, seed=1)
    torch.set_num_threads(3)
    try:
        assert_equal(expected, sample_showers(model, "critical", 64, seed=1))
    finally:
        torch.set_num_threads(threads)


def test_a_model_that_has_diverged_is_refused():
    model = model_of("critical")
    model.inputs.bias.data[3] = torch.nan
    with pytest.raises(ValueError, match=r"model: inputs.bias has values that are not finite"):
        sample_showers(model, "critical", 3, seed=1)


def test_too_many_showers_at_once_are_one_clear_error(monkeypatch):
    def out_of_memory(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 114432000000 bytes.")

    model = model_of("critical", "transformer")
    monkeypatch.setattr(type(model.stack), "init_state", out_of_memory)
    with pytest.raises(MemoryError, match=r"batch_size: the states of 1,000 showers do not fit into the memory"):
        sample_showers(model, "critical", 1000, seed=1)


def test_no_showers():
    sample = sample_showers(model_of("critical"), "critical", 0, seed=1)
    assert (len(sample), sample.run.attempts) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy": 5000}, "incident_energy: 5000 GeV was given, but the training showers have"),
        ({"energy": "log:0.001:50"}, "incident_energy: 0.001 GeV was given"),
        ({"batch_size": 0}, "batch_size: 0 was given"),
        ({"seed": -1}, "seed: -1 was given"),
        ({"num_showers": -1}, "num_showers: -1 was given"),
        ({"config": "critikal"}, "critikal"),
    ],
)
def test_errors(changes, message):
    given = {"config": "critical", "num_showers": 3, "seed": 1} | changes
    with pytest.raises(ValueError, match=message):
        sample_showers(model_of("critical"), **given)


@pytest.fixture(params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def on_gpu(request, monkeypatch):
    """Return a function that samples showers with the kernels of a GPU."""
    device = request.param.replace("interpreter", "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is available; run with -m gpu on a machine with a GPU")

    def sample(model, *arguments, **options):
        with pytest.MonkeyPatch.context() as patched:
            if device == "cpu":
                patched.setattr("supa_mamba.generator.sampling.sampler.pieces_on_cpu", pieces_on_gpu)
                patched.setattr("supa_mamba.ops.backend.is_cuda", lambda x: True)
                patched.setattr("supa_mamba.generator.sampling.gpu.STEPS", 3)
            return sample_showers(copy.deepcopy(model).to(device), *arguments, **options)

    if device == "cpu":
        request.getfixturevalue("interpreter")
        monkeypatch.setattr("supa_mamba.ops.backend.is_cuda", lambda x: False)
    return sample


@pytest.mark.parametrize("kind", ["mamba2", "transformer"])
def test_a_gpu_samples_the_showers_of_a_cpu_in_every_batch(on_gpu, kind):
    model = model_of(LEAKY, kind, hits=1.5, ends=-1.0, layers=1)
    expected = sample_showers(model, LEAKY, 4, seed=4, first=30)
    found = on_gpu(model, LEAKY, 4, seed=4, first=30, batch_size=2)
    np.testing.assert_array_equal(found.offset, expected.offset)
    for name in ("slice", "index", "incident_energy"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("x", "y", "energy", "leaked_energy"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=2e-3, atol=1e-4)
    assert found.num_hits.max() > 2
    assert_equal(found[2:3], on_gpu(model, LEAKY, 1, seed=4, first=32, batch_size=1))


def test_a_batch_of_4096_contains_the_showers_of_small_batches():
    model = model_of("critical", layers=1)
    whole = sample_showers(model, "critical", 4200, seed=5, batch_size=4096)
    assert_equal(whole[:20], sample_showers(model, "critical", 20, seed=5, batch_size=7))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["mamba", "mamba2", "hybrid", "transformer", "student"])
@pytest.mark.parametrize("on_gpu", ["cuda"], indirect=True)
def test_a_batch_of_4096_on_a_gpu_contains_the_showers_of_small_batches(on_gpu, kind):
    model = model_of("critical", kind)
    whole = on_gpu(model, "critical", 9000, seed=5, batch_size=4096)
    assert_equal(whole[:300], on_gpu(model, "critical", 300, seed=5, batch_size=7))
    assert_equal(whole[:9], on_gpu(model, "critical", 9, seed=5, batch_size=1))
    assert_equal(whole[700:800], on_gpu(model, "critical", 100, seed=5, first=700))
    on_cpu = sample_showers(model, "critical", 300, seed=5)
    same = [np.array_equal(a.slice, b.slice) for a, b in zip(whole[:300], on_cpu, strict=True)]
    assert np.mean(same) > 0.95  # choices differ if a random number is as close to a limit as rounding

"""Reinforcement fine-tuning: densities, credits, divergence, corrected heads, exact resumption, errors."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import supa
from supa_learning import Processes, Trainer
from supa_mamba import (
    FinetuningConfig,
    GeneratorCheckpoint,
    GeneratorConfig,
    HitCoding,
    ShowerGenerator,
    finetuning_task,
    sample_showers,
)
from supa_mamba.generator import finetuning_task as task_module
from supa_mamba.generator import rewards
from supa_mamba.generator.credits import credits_of_distance, credits_of_rewards, divergence, squared_distance
from supa_mamba.generator.mixtures import NormalMixture, PlaneMixture
from supa_mamba.generator.rewards import DensityRatioReward
from supa_mamba.generator.sample_measures import SampleMeasures
from supa_mamba.generator.sampling import cpu, profiles
from supa_mamba.generator.sampling.profile_batches import sample_profiles

SHALLOW = supa.ShowerConfig(num_slices=10, readout_layers=((6, 9),), incident_energy="log:1:20", split_early=0.3)
SIZES = GeneratorConfig(d_model=32, n_layer=1, d_state=4, energy_components=2, position_components=2)
SHORT = FinetuningConfig(
    reward="profiles", steps=4, interval=2, batch_size=32, group_size=16, measured=200, learning_rate=5e-3
)


@pytest.fixture(scope="module")
def showers():
    return supa.simulate(200, SHALLOW, seed=3)


@pytest.fixture(scope="module")
def generator(showers):
    torch.manual_seed(0)
    return ShowerGenerator(SIZES, HitCoding.fit(showers)).eval()


@pytest.fixture
def unmeasured(monkeypatch):
    """Leave out the comparison of samples with true showers, which takes most of the time."""
    monkeypatch.setattr(task_module, "SampleMeasures", lambda _true: lambda _sample: {})


@pytest.fixture
def few(monkeypatch):
    """Train classifiers on few showers."""
    for module in (rewards, "supa_mamba.generator.finetuning", "supa.distances.reweighting"):
        target = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{target}.FEWEST_ROWS", 100)
    monkeypatch.setattr("supa.distances.reweighting._SETTINGS", {"max_leaf_nodes": 4, "max_iter": 20})


class Recorder:
    """Stands for the compiled functions of the sampler, and records what some of them see and choose."""

    def __init__(self, kernels):
        self.kernels, self.seen = kernels, []

    def __getattr__(self, name):
        return getattr(self.kernels, name)

    def choose_energies(self, found, *given):
        self.kernels.choose_energies(found, *given)
        self.seen.append(("energy", torch.from_numpy(found.copy()), torch.from_numpy(given[-1][:, 0].copy())))

    def choose_positions(self, found, rings, uniform, number, energy, position, *given):
        before = torch.from_numpy(position.copy())
        self.kernels.choose_positions(found, rings, uniform, number, energy, position, *given)
        self.seen.append(("position", torch.from_numpy(found.copy()), before, torch.from_numpy(position.copy())))

    def choose_numbers(self, found, *given):
        self.kernels.choose_numbers(found, *given)
        self.seen.append(("number", torch.from_numpy(found.copy()), given[1], torch.from_numpy(given[-2].copy())))

    def choose_slice_energies(self, found, *given):
        self.kernels.choose_slice_energies(found, *given)
        self.seen.append(("slice", torch.from_numpy(found.copy())))


@pytest.mark.parametrize("sizes", [SIZES, SIZES.replace(model="transformer", n_layer=2)], ids=["mamba2", "transformer"])
def test_the_densities_of_training_are_those_of_the_sampler(monkeypatch, showers, sizes):
    torch.manual_seed(1)
    model = ShowerGenerator(sizes, HitCoding.fit(showers)).eval()
    of_hits, of_slices, rows = Recorder(cpu.kernels), Recorder(profiles.kernels), []
    uniforms = cpu.hit_uniforms

    def hit_uniforms(seed, index, number):
        rows.append(torch.from_numpy(np.stack([index, number], 1)))
        return uniforms(seed, index, number)

    monkeypatch.setattr(cpu, "kernels", of_hits)
    monkeypatch.setattr(cpu, "hit_uniforms", hit_uniforms)
    monkeypatch.setattr(profiles, "kernels", of_slices)
    sample = sample_showers(model, SHALLOW, 40, seed=2)
    batch = model.coding.encode(sample)
    with torch.no_grad():
        found = task_module.LogDensities.of(model, batch, int(sample.num_hits.max()))
        steps = list(zip(*[iter(of_hits.seen)] * 2, strict=True))
        left = torch.full((len(sample.x),), torch.nan)
        for row, ((_, of_energy, logit), (_, of_position, before, position)) in zip(rows, steps, strict=True):
            density = PlaneMixture.of(of_position, before, sizes.ring_components).log_density(position)
            energy = NormalMixture.of(of_energy).log_density(logit)
            place = batch.offset[row[:, 0]] + row[:, 1]
            left[place] = density + torch.where(batch.left[place] == 1, 0.0, energy)
        scale = torch.where(batch.left == 1, 0.0, batch.energy_scale) - 2 * math.log(model.coding.position_scale)
        torch.testing.assert_close(found.hits - scale, left, rtol=1e-4, atol=1e-4)
        edges = model.profile.edges
        expected = torch.zeros(len(sample), model.coding.num_slices)
        number = torch.arange(model.coding.num_slices)
        chosen = zip(*[iter(of_slices.seen)] * 2, strict=True)
        for of_slice, ((_, logits, is_final, hits), (_, parameters)) in enumerate(chosen):
            logits = torch.where(torch.tensor(is_final) & (edges[:-1] == 0), -torch.inf, logits)
            place = torch.bucketize(hits, edges, right=True) - 1
            density = logits.log_softmax(1).gather(1, place[:, None])[:, 0] - edges.diff()[place].log()
            is_last = of_slice == batch.last_slice
            end = torch.nn.functional.logsigmoid(torch.where(is_last, 1, -1) * parameters[:, 0])
            share = NormalMixture.of(parameters[:, 1:]).log_density(batch.slice_logit[:, of_slice])
            density += torch.where((hits == 0) | torch.tensor(is_final), 0.0, end)
            expected[:, of_slice] = density + torch.where((hits == 0) | is_last, 0.0, share)
        expected = torch.where(number <= batch.last_slice[:, None], expected, 0.0)
        torch.testing.assert_close(found.profile - batch.slice_scale, expected, rtol=1e-4, atol=1e-4)


def gradient_of(given, x, mean, scale):
    """Return the mean of credits times the gradient of log p by mean and logarithm of scale, and its error."""
    z = (x - mean) / scale
    terms = given[..., None] * torch.stack([z / scale, z.square() - 1], -1)
    return terms.mean((0, 1)), terms.mean(1).std(0) / len(x) ** 0.5


def test_credits_have_the_gradient_of_the_distance_and_naive_ones_do_not():
    torch.manual_seed(0)
    groups, size = 100_000, 4
    mean, scale = torch.tensor([0.3, -0.2]).double(), torch.tensor([0.8, 0.5]).double()
    x = mean + scale * torch.randn(groups, size, 2, dtype=torch.float64)
    # The statistics are x0 + x1 and x0^2; x0 is chosen first.
    values = torch.stack([x, torch.stack([x[..., 0].square(), torch.zeros(groups, size)], -1)], -1)
    truth = torch.tensor([0.5, 0.9]).double()
    expected = torch.stack([mean.sum(), mean[0] ** 2 + scale[0] ** 2]) - truth
    exact = [
        -2 * torch.stack([expected[0] + expected[1] * 2 * mean[0], expected[1] * 2 * scale[0] ** 2]),
        -2 * torch.stack([expected[0], torch.tensor(0.0).double()]),
    ]
    found = credits_of_distance(values, truth)
    statistics = values.sum(2)
    naive = -(statistics.mean(1) - truth).square().sum(1)[:, None].expand(groups, size) * size
    for choice, gradient in enumerate(exact):
        estimate, error = gradient_of(found[..., choice], x[..., choice], mean[choice], scale[choice])
        assert ((estimate - gradient).abs() < 4 * error).all()
        assert (error < 0.03).all()
        estimate, error = gradient_of(naive, x[..., choice], mean[choice], scale[choice])
        assert estimate[1] - gradient[1] < -10 * error[1]  # narrower
    distances = torch.stack([squared_distance(group, truth) for group in statistics[:4000]])
    assert abs(distances.mean() - expected.square().sum()) < 4 * distances.std() / 4000**0.5


def test_credits_of_rewards_have_the_gradient_of_their_mean():
    torch.manual_seed(0)
    x = 0.3 + 0.8 * torch.randn(100_000, 4, dtype=torch.float64)
    estimate, error = gradient_of(credits_of_rewards(x + x.square()), x, 0.3, 0.8)
    exact = torch.tensor([1 + 2 * 0.3, 2 * 0.8**2]).double()
    assert ((estimate - exact).abs() < 4 * error).all()
    assert (error < 0.02).all()


def test_the_divergence_is_that_of_normal_distributions_and_never_negative():
    torch.manual_seed(0)
    one, other = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.5, 1.2)
    x = one.sample((100_000,)).double()
    found = divergence(one.log_prob(x), other.log_prob(x))
    assert found.min() >= 0
    exact = torch.distributions.kl_divergence(one, other)
    assert abs(found.mean() - exact) < 4 * found.std() / len(x) ** 0.5 < 0.02
    assert divergence(one.log_prob(x), one.log_prob(x)).abs().max() == 0


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_biased_head_is_corrected(unmeasured, generator, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is available; run with -m gpu on a machine with a GPU")
    config = SHORT.replace(steps=24, interval=12, batch_size=256, group_size=256, learning_rate=2e-2)
    task = finetuning_task(generator, config, configs=SHALLOW, processes=Processes(device=torch.device(device)))
    before = {name: weights.clone() for name, weights in task.model.state_dict().items()}
    first = task.update(next(iter(task.batches(0, 0, 0))), 0.0)
    assert first[1] == 0  # the divergence
    trainer = Trainer(task)
    history = trainer.run().history
    rewards_seen = [task.before["policy"]["reward"], *(epoch.valid["policy"]["reward"] for epoch in history)]
    assert rewards_seen[-1] > rewards_seen[0] / 5
    assert history[-1].valid["policy"]["kl_per_shower"] > 0
    changed = {name for name, weights in task.model.state_dict().items() if not torch.equal(weights, before[name])}
    assert {name.split(".")[0] for name in changed} == {"leak_head", "profile"}


def test_profiles_without_hits_are_those_of_sampled_showers(generator):
    showers = sample_showers(generator, SHALLOW, 40, seed=2, first=250)
    batch, incident = sample_profiles(generator, SHALLOW, 40, seed=2, first=250)
    expected = generator.coding.encode(showers)
    assert torch.equal(incident, torch.from_numpy(showers.incident_energy))
    for name in ("condition", "leak", "leak_logit", "leak_scale", "count", "slice_energy", "slice_remaining",
                 "slice_logit", "slice_scale", "last_slice"):  # fmt: skip
        assert torch.equal(getattr(batch, name), getattr(expected, name)), name


def test_several_configs_have_groups_and_measurements_of_their_own(unmeasured):
    cold, hot = (SHALLOW.replace(split_early=p) for p in (0.3, 0.5))
    parts = [supa.simulate(100, config, seed=1) for config in (cold, hot)]
    model = ShowerGenerator(SIZES, HitCoding.fit(parts, ["split_early"]))
    task = finetuning_task(model, SHORT.replace(steps=2), configs=[cold, hot])
    (one, other) = next(iter(task.batches(0, 0, 0)))
    assert len(one.batch.leak) == len(other.batch.leak) == 16
    assert one.batch.condition[:, 1].unique() != other.batch.condition[:, 1].unique()
    assert list(Trainer(task).run().history[0].valid) == ["policy, config 0", "policy, config 1"]


def test_a_density_ratio_rewards_true_showers(few, showers, generator):
    reward = DensityRatioReward(showers)
    reward.fit(lambda: sample_showers(generator, SHALLOW, 120, seed=1), 0)
    sampled, true = sample_showers(generator, SHALLOW, 100, seed=2), supa.simulate(100, SHALLOW, seed=9)
    samples = [
        rewards.Sample(generator.coding.encode(part), torch.from_numpy(part.incident_energy), part)
        for part in (sampled, true)
    ]
    assert reward.mean(samples[0]) < -0.5 < 0.5 < reward.mean(samples[1])
    found = reward.credits(samples[0], torch.randperm(100).view(5, 20))
    assert found.hits.std() > 0.01
    assert torch.equal(found.profile[:, 1], found.leak)


@pytest.mark.parametrize("reward", ["profiles", "density-ratio"])
def test_a_resumed_finetuning_has_the_same_bits(unmeasured, few, showers, generator, tmp_path, reward):
    config = SHORT.replace(reward=reward)
    data = {"configs": SHALLOW} if reward == "profiles" else {"showers": showers}

    def new(stop=None):
        seen = iter(range(1, 100))
        return Trainer(
            finetuning_task(generator, config, **data), should_stop=lambda: stop is not None and next(seen) == stop
        )

    whole = new()
    whole.run()
    for stop in (1, 4) if reward == "profiles" else (4,):  # in the first and in the second interval
        begun = new(stop)
        with pytest.raises(KeyboardInterrupt):
            begun.run()
        GeneratorCheckpoint.of(begun).save(tmp_path / "begun.ckpt")
        resumed = new()
        resumed.load_state_dict(GeneratorCheckpoint.load(tmp_path / "begun.ckpt").training)
        resumed.run()
        assert [epoch.valid for epoch in resumed.state.history] == [epoch.valid for epoch in whole.state.history]
        for one, other in zip(whole.task.model.parameters(), resumed.task.model.parameters(), strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(whole.task.model.profile.number_head.weight, generator.profile.number_head.weight)
    changed = not torch.equal(whole.task.model.inputs.weight, generator.inputs.weight)
    assert changed == (reward == "density-ratio")
    GeneratorCheckpoint.of(whole).save(tmp_path / "tuned.ckpt")
    model = GeneratorCheckpoint.load(tmp_path / "tuned.ckpt").model()
    assert torch.equal(model.profile.number_head.weight, whole.task.model.profile.number_head.weight)


def test_samples_are_measured(generator):
    figures = SampleMeasures(supa.simulate(400, SHALLOW, seed=1))(supa.simulate(400, SHALLOW, seed=2))
    assert figures["sample"]["largest_pull"] < 5
    assert figures["sample"]["largest_width_pull"] < 5
    assert all(0.7 < ratio < 1.4 for ratio in figures["width ratio"].values())
    assert list(figures["coverage"]) == ["all", *(f"quarter {k}" for k in range(4))]
    assert min(figures["coverage"].values()) > 0.8
    other = SampleMeasures(supa.simulate(400, SHALLOW, seed=1))(sample_showers(generator, SHALLOW, 200, seed=2))
    assert other["sample"]["largest_pull"] > 5
    assert other["coverage"]["all"] < 0.5


def test_errors(few, showers, generator):
    ratio = SHORT.replace(reward="density-ratio")
    cases = [
        (SHORT, {}, "configs: the reward profiles needs"),
        (SHORT, {"configs": SHALLOW, "showers": showers}, "leave the showers out"),
        (SHORT, {"configs": "standard"}, "the preset 'standard' was given"),
        (ratio, {}, "showers: the reward density-ratio needs true showers"),
        (ratio, {"showers": showers, "configs": SHALLOW}, "leave the configs out"),
        (ratio, {"showers": showers[:110]}, "needs at least 100 training showers of each config"),
        (ratio, {"showers": sample_showers(generator, SHALLOW, 20, seed=1)}, "a sample of the model"),
        (ratio, {"showers": supa.simulate(150, "critical", seed=1)}, "the preset 'critical' was given"),
        (
            SHORT.replace(batch_size=40),
            {"configs": SHALLOW},
            "batch_size: 40 was given, but it must be a multiple of 16",
        ),
    ]
    for config, data, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            finetuning_task(generator, config, **data)
    critical = ShowerGenerator(SIZES, HitCoding.fit(supa.simulate(30, "critical", seed=1)))
    with pytest.raises(supa.NoClosedFormError, match="critical_energy"):
        finetuning_task(critical, SHORT, configs="critical")
    with pytest.raises(ValueError, match="one process"):
        finetuning_task(generator, SHORT, configs=SHALLOW, processes=SimpleNamespace(count=2, device="cpu"))
    with pytest.raises(ValueError, match="group_size: 2 was given"):
        SHORT.replace(group_size=2)
    with pytest.raises(ValueError, match="steps: 5 was given, but it must be a multiple of the interval, 2"):
        SHORT.replace(steps=5)

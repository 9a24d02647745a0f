"""Coding, densities and likelihood of the generator of showers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest

import supa
from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator
from supa_mamba.generator.hits import HitColumns
from supa_mamba.generator.mixtures import LOWEST_LOG_SCALE, NormalMixture, PlaneMixture, categorical_sample
from supa_mamba.generator.model import Previous, previous_of
from supa_mamba.generator.trunk import new_stack

MODELS = ["mamba", "mamba2", "hybrid", "transformer"]
LEAKY = supa.ShowerConfig(num_slices=9, readout_layers=((7, 8),), incident_energy="log:1:100")


@pytest.fixture(scope="module")
def showers():
    return supa.simulate(30, "critical", seed=1)


@pytest.fixture(scope="module")
def coding(showers):
    return HitCoding.fit(showers)


def model_of(coding, kind="mamba2", *, seed=0):
    torch.manual_seed(seed)
    model = ShowerGenerator(GeneratorConfig(model=kind, d_model=32, n_layer=4, d_state=4), coding)
    with torch.no_grad():  # heads with an effect
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def uniforms(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).clamp(min=1e-12)


def parameters(count):
    return torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_the_density_of_a_mixture_integrates_to_one_and_describes_its_samples():
    mixture = NormalMixture.of(parameters(12))
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    density = mixture.log_density(grid).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-9)
    cumulative = torch.cumulative_trapezoid(density, grid).numpy()
    samples = NormalMixture(*(x.expand(4000, -1) for x in mixture)).sample(uniforms(4000, 2)).numpy()
    assert kstest(samples, lambda x: np.interp(x, grid[1:].numpy(), cumulative)).pvalue > 0.01


def test_the_density_of_a_mixture_in_the_plane_integrates_to_one_and_describes_its_samples():
    anchor = torch.tensor([1.0, -2.0], dtype=torch.float64)
    narrow_rings = torch.where(torch.arange(31) > 28, -1.0, 0.0)
    mixture = PlaneMixture.of(0.5 * parameters(31) + narrow_rings, anchor, rings=2)
    line = torch.linspace(-25, 25, 1501, dtype=torch.float64)
    plane = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)
    density = mixture.log_density(plane).exp()
    assert torch.trapezoid(torch.trapezoid(density, line), line).item() == pytest.approx(1, abs=1e-6)
    samples = PlaneMixture(*(x.expand(4000, *x.shape) for x in mixture)).sample(uniforms(4000, 3))
    for axis in (0, 1):
        marginal = torch.trapezoid(density, line, dim=1 - axis)
        cumulative = torch.cumulative_trapezoid(marginal, line).numpy()
        found = kstest(samples[:, axis].numpy(), lambda x, c=cumulative: np.interp(x, line[1:].numpy(), c))
        assert found.pvalue > 0.01
    along = samples[:, 0] + samples[:, 1]  # depends on the correlation
    expected = (density * (plane[..., 0] + plane[..., 1]).square()).sum() * (line[1] - line[0]) ** 2
    assert along.square().mean().item() == pytest.approx(expected.item(), rel=0.1)


def test_the_density_of_equal_values_stays_finite():
    mixture = NormalMixture.of(torch.tensor([0.0, 1.0, -1e4]))
    assert mixture.log_scale.item() == pytest.approx(LOWEST_LOG_SCALE)
    assert mixture.log_density(torch.tensor(1.0)).isfinite()


def test_excluded_categories_are_never_sampled():
    probability = torch.tensor([0.0, 0.5, 0.0, 0.5 - 1e-7, 0.0])  # the sum is not quite 1
    found = categorical_sample(probability.log().expand(4, 5), torch.tensor([1e-30, 0.4, 0.6, 1 - 1e-8]))
    assert found.tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize("config", ["standard", "critical", LEAKY])
def test_decoded_showers_equal_the_coded_ones(config):
    showers = supa.simulate(40, config, seed=2)
    coding = HitCoding.fit(showers)
    batch = coding.encode(showers)
    decoded = coding.decode(batch, showers.config, torch.from_numpy(showers.incident_energy))
    np.testing.assert_array_equal(decoded.offset, showers.offset)
    np.testing.assert_array_equal(decoded.slice, showers.slice)
    np.testing.assert_allclose(decoded.energy, showers.energy, rtol=2e-5, atol=1e-9)
    np.testing.assert_allclose(decoded.x, showers.x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(decoded.leaked_energy, showers.leaked_energy, rtol=1e-5, atol=1e-9)


def test_all_kinds_of_leak_are_coded():
    showers = supa.simulate(400, LEAKY.replace(split_early=0.1), seed=2)
    leak = HitCoding.fit(showers).encode(showers).leak
    none, all_of_it = showers.leaked_energy == 0, showers.num_hits == 0
    assert none.any() and all_of_it.any()  # noqa: PT018
    np.testing.assert_array_equal(leak.numpy(), np.where(all_of_it, 2, np.where(none, 0, 1)))


def test_counts_and_remaining_energies(showers, coding):
    batch = coding.encode(showers)
    for number, shower in enumerate(showers):
        rows = slice(*batch.offset[number : number + 2].tolist())
        hits = len(shower.energy)
        assert batch.number[rows].tolist() == list(range(hits))
        expected = [int((shower.slice[:t] == shower.slice[t]).sum()) for t in range(hits)]
        assert batch.number_in_slice[rows].tolist() == expected
        rest = np.cumsum(shower.energy[::-1])[::-1] / shower.incident_energy
        np.testing.assert_allclose(batch.remaining[rows].exp(), rest, rtol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_an_upper_bound_of_the_number_of_hits_changes_nothing(showers, coding, kind):
    model, batch = model_of(coding, kind), coding.encode(showers)
    with torch.no_grad():
        found, bounded = model(batch).total(), model(batch, max_length=2 * coding.most_hits).total()
    assert found.item() == pytest.approx(bounded.item(), rel=1e-6)


@pytest.mark.parametrize(("d_model", "d_state"), [(32, 4), (32, 16), (64, 16), (192, 16), (192, 64), (512, 128)])
def test_a_transformer_has_as_many_parameters_as_mamba2(coding, d_model, d_state):
    numbers = [
        sum(p.numel() for p in new_stack(GeneratorConfig(model=kind, d_model=d_model, d_state=d_state)).parameters())
        for kind in ("mamba2", "transformer")
    ]
    assert abs(numbers[0] - numbers[1]) <= 3 * 3 * d_model * 16 / 2  # half a step of the number of hidden features


@pytest.mark.parametrize("kind", MODELS)
def test_the_likelihood_equals_that_of_single_steps(showers, coding, kind):
    model = model_of(coding, kind)
    batch = coding.encode(showers)
    counts = batch.offset.diff()
    with torch.no_grad():
        parallel = model(batch)
        options = {"max_length": int(counts.max())} if kind in ("hybrid", "transformer") else {}
        state = model.stack.init_state(len(showers), **options)
        previous, found = previous_of(batch, coding.num_slices), torch.zeros(len(batch.slice))
        for t in range(int(counts.max())):
            slots = torch.nonzero(counts > t)[:, 0]
            rows = batch.offset[slots] + t
            one = Previous(*(x[rows] for x in previous))
            hidden = model.stack.step(model.embed(one), state, slots)
            of_rows = {name: getattr(batch, name)[rows] for name in batch._fields[5:]}
            terms = model.log_likelihood(hidden, one, batch._replace(**of_rows))
            found[rows] = terms.next + terms.energy + terms.position
    torch.testing.assert_close(found, parallel.next + parallel.energy + parallel.position, rtol=1e-4, atol=1e-4)


def test_the_likelihood_of_a_hit_does_not_depend_on_later_hits(showers, coding):
    model, batch = model_of(coding), coding.encode(showers)
    hidden = model.embed(previous_of(batch, coding.num_slices))
    row = int(batch.offset[3] + 4)
    changed = batch._replace(
        **{name: getattr(batch, name).clone() for name in ("slice", "position", "energy_logit", "number_in_slice")}
    )
    for column in changed[5:]:
        if column.is_floating_point() and column is not batch.remaining and column is not batch.energy_scale:
            column[row] += 1
    assert not torch.equal(model.embed(previous_of(changed, coding.num_slices)), hidden)
    with torch.no_grad():
        before, after = model(batch), model(changed)
    for a, b in zip(before[1:], after[1:], strict=True):
        torch.testing.assert_close(a[:row], b[:row], rtol=0, atol=0)
    assert not torch.equal(before.position[row + 1 :], after.position[row + 1 :])


def test_showers_of_a_batch_are_independent(showers, coding):
    model = model_of(coding)
    with torch.no_grad():
        together = model(coding.encode(showers)).total()
        alone = sum(model(coding.encode(showers[k : k + 1])).total() for k in range(len(showers)))
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)


def test_likelihoods_are_float32_under_autocast(showers, coding):
    model, batch = model_of(coding), coding.encode(showers)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert {terms.dtype for terms in model(batch)} == {torch.float32}


def test_densities_are_those_of_energies():
    """The scales are the derivatives of the logits with respect to energies in GeV."""
    showers = supa.simulate(60, LEAKY, seed=2)
    coding = HitCoding.fit(showers)
    chosen = showers[int(np.flatnonzero((showers.num_hits > 3) & (showers.leaked_energy > 0))[0])]
    columns, batch = HitColumns.of(chosen), coding.encode(chosen)
    small = 1e-3 * columns.energy[0].item()

    def difference(name, *changes):
        """Move energy from the last hit, or from the leak, to the first hit."""
        up, down = (
            getattr(coding.encode_columns(columns._replace(**change), batch.condition), name)[0].item()
            for change in changes
        )
        return (up - down) / (2 * small)

    def moved(sign):
        energy = columns.energy.clone()
        energy[0] += sign * small
        return energy

    with_last = [{"energy": torch.cat([moved(s)[:-1], moved(0)[-1:] - s * small])} for s in (1, -1)]
    assert difference("energy_logit", *with_last) == pytest.approx(batch.energy_scale[0].exp().item(), rel=1e-2)
    with_leak = [{"energy": moved(s), "leaked_energy": columns.leaked_energy - s * small} for s in (-1, 1)]
    assert difference("leak_logit", *with_leak) == pytest.approx(batch.leak_scale[0].exp().item(), rel=1e-2)


def test_probabilities_of_the_next_hit_add_up_to_one(showers, coding):
    model, batch = model_of(coding), coding.encode(showers)
    previous = previous_of(batch, coding.num_slices)
    hidden = model.stack(model.embed(previous), batch.offset)
    _, slices = model.next_distribution(hidden, previous)
    torch.testing.assert_close(slices.exp().sum(1), torch.ones(len(slices)))
    earlier = torch.arange(coding.num_slices) < torch.where(previous.number > 0, previous.slice, 0)[:, None]
    assert (slices[earlier] == -torch.inf).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available; run with -m gpu on a GPU")
def test_a_gpu_codes_the_same_values(showers, coding):
    columns, batch = HitColumns.of(showers), coding.encode(showers)
    found = coding.encode_columns(HitColumns(*(x.cuda() for x in columns)), batch.condition.cuda())
    for name, a, b in zip(found._fields, found, batch, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-6, atol=1e-6, msg=name)


def test_the_largest_number_of_hits_is_that_of_the_training_showers(showers):
    other = supa.simulate(10, "critical", seed=2)
    assert HitCoding.fit([showers, other]).most_hits == max(showers.num_hits.max(), other.num_hits.max())


def test_errors(showers, coding):
    with pytest.raises(ValueError, match=r"fields: 'split' was given, but it must be 'preset', or a numerical field"):
        HitCoding.fit(showers, ["split"])
    with pytest.raises(ValueError, match="readout layers of the training showers have slices"):
        HitCoding.fit(supa.simulate(9, "standard", seed=1)).encode(showers)
    with pytest.raises(ValueError, match="no hits"):
        HitCoding.fit(showers[:0])
    hit = {"offset": [0, 1], "incident_energy": [1.0], "x": [0.0], "y": [0.0]}
    with pytest.raises(ValueError, match="leaked energy is unknown"):
        coding.encode(supa.from_hits("critical", energy=[1.0], slice=[8], **hit))
    with pytest.raises(ValueError, match="slices of the hits are unknown"):
        coding.encode(supa.from_hits("critical", energy=[1.0], layer=[0], leaked_energy=[0.0], **hit))
    with pytest.raises(ValueError, match="energy of 0"):
        coding.encode(supa.from_hits("critical", energy=[0.0], slice=[8], leaked_energy=[1.0], **hit))
    with pytest.raises(
        ValueError, match=r"shower 0 and its leaked energy have 0\.75 GeV, but the incident energy is 1"
    ):
        coding.encode(supa.from_hits("critical", energy=[0.5], slice=[8], leaked_energy=[0.25], **hit))
    with pytest.raises(ValueError, match="d_model: 40 was given, but it must be a multiple of 32"):
        replace(GeneratorConfig(), d_model=40)
    with pytest.raises(ValueError, match="n_layer: 3 was given, but a hybrid model needs at least 4 layers"):
        GeneratorConfig(model="hybrid")

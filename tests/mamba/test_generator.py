"""Coding, densities and likelihood of the generator of showers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest

import supa
from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.hits import HitColumns
from supa_mamba.generator.mixtures import LOWEST_LOG_SCALE, NormalMixture, PlaneMixture, categorical_sample
from supa_mamba.generator.model import MOST_MOMENT, Previous, moments_of, previous_of
from supa_mamba.generator.number_bins import bin_edges
from supa_mamba.generator.profile import ProfileNetwork, ProfileRows
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


def test_numbers_and_remaining_energies(showers, coding):
    batch = coding.encode(showers)
    for number, shower in enumerate(showers):
        rows = slice(*batch.offset[number : number + 2].tolist())
        hits = len(shower.energy)
        assert batch.number[rows].tolist() == list(range(hits))
        same = shower.slice[:, None] == shower.slice
        assert batch.number_in_slice[rows].tolist() == np.tril(same, -1).sum(1).tolist()
        assert batch.left[rows].tolist() == np.triu(same).sum(1).tolist()
        rest = np.triu(same) @ shower.energy.astype(float) / shower.incident_energy
        np.testing.assert_allclose(batch.remaining[rows].exp(), rest, rtol=1e-5)
        weighted = shower.energy / shower.incident_energy * np.stack([np.ones(hits), shower.x, shower.y])
        before = np.cumsum(weighted, 1) - weighted
        units = np.array([1, coding.position_scale, coding.position_scale])
        np.testing.assert_allclose(batch.sums[rows] * 2.0**-SHARE_BITS * units, before.T, rtol=1e-5, atol=1e-6)
        expected = np.bincount(shower.slice - coding.slices[0], minlength=coding.num_slices)
        np.testing.assert_array_equal(batch.count[number], expected)
        assert batch.last_slice[number] == shower.slice.max() - coding.slices[0]
        energy = np.bincount(shower.slice - coding.slices[0], shower.energy, coding.num_slices) / shower.incident_energy
        np.testing.assert_allclose(np.where(expected > 0, batch.slice_energy[number].exp(), 0), energy, rtol=1e-5)
        np.testing.assert_allclose(
            batch.slice_remaining[number].exp(), np.cumsum(energy[::-1])[::-1], rtol=1e-4, atol=1e-10
        )
        share = torch.sigmoid(batch.slice_logit[number].double()) * batch.slice_remaining[number].double().exp()
        has_share = (expected > 0) & (np.arange(len(expected)) < int(batch.last_slice[number]))
        np.testing.assert_allclose(share[has_share], energy[has_share], rtol=1e-4)


def test_the_centre_that_would_balance_a_shower_is_that_of_the_remaining_energy():
    unit = 2**SHARE_BITS
    sums = torch.tensor([[0, 0, 0], [unit // 4, unit // 2, -unit], [unit, unit, -unit]])
    moments = torch.stack(moments_of(sums), 1)
    expected = torch.tensor([[0, 0, 0, 0], [0.5, -1, -2 / 3, 4 / 3], [1, -1, -MOST_MOMENT, MOST_MOMENT]])
    torch.testing.assert_close(moments, expected)


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
        previous, found = previous_of(batch), torch.zeros(len(batch.slice))
        for t in range(int(counts.max())):
            slots = torch.nonzero(counts > t)[:, 0]
            rows = batch.offset[slots] + t
            one = Previous(*(x[rows] for x in previous))
            hidden = model.stack.step(model.embed(one), state, slots)
            of_rows = {name: getattr(batch, name)[rows] for name in batch._fields[batch._fields.index("slice") :]}
            terms = model.log_likelihood(hidden, one, batch._replace(**of_rows))
            found[rows] = terms.energy + terms.position
    torch.testing.assert_close(found, parallel.energy + parallel.position, rtol=1e-4, atol=1e-4)


def test_the_likelihood_of_a_hit_does_not_depend_on_later_hits(showers, coding):
    model, batch = model_of(coding), coding.encode(showers)
    hidden = model.embed(previous_of(batch))
    row = int(batch.offset[3] + 4)
    changed = batch._replace(**{name: getattr(batch, name).clone() for name in ("position", "energy_logit")})
    changed.position[row] += 1
    changed.energy_logit[row] += 1
    assert not torch.equal(model.embed(previous_of(changed)), hidden)
    with torch.no_grad():
        before, after = model(batch), model(changed)
    for a, b in zip(before[2:], after[2:], strict=True):
        torch.testing.assert_close(a[:row], b[:row], rtol=0, atol=0)
    assert not torch.equal(before.position[row + 1 :], after.position[row + 1 :])


def test_the_likelihood_of_a_slice_does_not_depend_on_later_slices(coding):
    network = model_of(coding).profile
    slices, chosen = coding.num_slices, 5
    generator = torch.Generator().manual_seed(1)
    count = torch.randint(1, 9, (slices,), generator=generator).expand(slices, -1)
    energy = torch.randn(slices, generator=generator).expand(slices, -1)
    number, nothing = torch.arange(slices), torch.zeros(slices)
    rows = ProfileRows(number, count, energy, nothing, torch.zeros(slices, 1))
    later = number >= chosen
    other = rows._replace(count=torch.where(later, 3, count), log_energy=torch.where(later, 1.0, energy))
    before, after = (network(x) for x in (rows, other))
    torch.testing.assert_close(before[: chosen + 1], after[: chosen + 1], rtol=0, atol=0)
    assert not torch.equal(before[chosen + 1], after[chosen + 1])


def test_probabilities_of_numbers_of_hits_add_up_to_one(coding):
    """The largest possible number is in a bin of several numbers."""
    torch.manual_seed(0)
    network = ProfileNetwork(1, 3, 200, 1.0, 32, 4)
    edges = bin_edges(400)
    numbers = torch.arange(edges[-1])
    count = torch.zeros(len(numbers), 3, dtype=torch.int64)
    rows = ProfileRows(0 * numbers, count, count.float(), count[:, 0].float(), count[:, :1].float())
    for is_final in (False, True):
        flags = torch.full_like(numbers, is_final, dtype=torch.bool)
        chances = sum(
            network.log_likelihood(rows, numbers, torch.full_like(flags, is_last), flags, count[:, 0].float())[0].exp()
            for is_last in ([True] if is_final else [False, True])
        )
        # The end of an empty slice is certain, so it was counted twice.
        total = chances.sum() - (0.0 if is_final else 0.5 * chances[0])
        assert total.item() == pytest.approx(1, rel=1e-5)
        assert (chances[0] == 0) == is_final


def test_bins_of_numbers_of_hits():
    assert bin_edges(1) == [0, 1, 2]
    edges = np.array(bin_edges(5000))
    assert edges[-2] <= 5000 < edges[-1]
    assert (np.diff(edges)[edges[:-1] < 64] == 1).all()
    assert (np.diff(edges) <= np.maximum(1, edges[:-1] / 32)).all()


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
    in_first = np.array([(shower.slice == shower.slice.min(initial=99)).sum() for shower in showers])
    several = (in_first > 2) & (showers.num_hits > in_first)
    chosen = showers[int(np.flatnonzero(several & (showers.leaked_energy > 0))[0])]
    columns, batch = HitColumns.of(chosen), coding.encode(chosen)
    small = 1e-3 * columns.energy[0].item()

    def difference(name, *changes, place=0):
        """Move energy from another hit, or from the leak, to the first hit."""
        up, down = (
            getattr(coding.encode_columns(columns._replace(**change), batch.condition), name)[place].item()
            for change in changes
        )
        return (up - down) / (2 * small)

    def moved(sign):
        energy = columns.energy.clone()
        energy[0] += sign * small
        return energy

    with_next = [{"energy": torch.cat([moved(s)[:1], moved(0)[1:2] - s * small, moved(0)[2:]])} for s in (1, -1)]
    assert difference("energy_logit", *with_next) == pytest.approx(batch.energy_scale[0].exp().item(), rel=1e-2)
    with_last = [{"energy": torch.cat([moved(s)[:-1], moved(0)[-1:] - s * small])} for s in (1, -1)]
    place = int(batch.slice[0])
    found = difference("slice_logit", *with_last, place=(0, place))
    assert found == pytest.approx(batch.slice_scale[0, place].exp().item(), rel=1e-2)
    with_leak = [{"energy": moved(s), "leaked_energy": columns.leaked_energy - s * small} for s in (-1, 1)]
    assert difference("leak_logit", *with_leak) == pytest.approx(batch.leak_scale[0].exp().item(), rel=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available; run with -m gpu on a GPU")
def test_a_gpu_codes_the_same_values(showers, coding):
    columns, batch = HitColumns.of(showers), coding.encode(showers)
    found = coding.encode_columns(HitColumns(*(x.cuda() for x in columns)), batch.condition.cuda())
    for name, a, b in zip(found._fields, found, batch, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-6, atol=1e-6, msg=name)


def test_the_largest_number_of_hits_is_that_of_the_training_showers(showers):
    other = supa.simulate(10, "critical", seed=2)
    coding = HitCoding.fit([showers, other])
    assert coding.most_hits == max(showers.num_hits.max(), other.num_hits.max())
    assert coding.most_in_slice == max(np.unique(x.slice, return_counts=True)[1].max() for x in (*showers, *other))


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

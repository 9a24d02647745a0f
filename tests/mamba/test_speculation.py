"""Speculative sampling: the law of the model with any draft, states after rejections, and the same showers in every
batch."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from untrained import LEAKY, assert_equal, model_of

import supa
from supa_mamba import GeneratorConfig, HitCoding, Mamba2, ShowerGenerator, sample_showers
from supa_mamba.generator.model import previous_of
from supa_mamba.generator.sampling.cpu_stack import CpuStack
from supa_mamba.generator.sampling.sampler import model_name, new_draft
from supa_mamba.generator.sampling.speculation import batches
from supa_mamba.generator.sampling.speculation.drafts import ModelSteps, without_layers
from supa_mamba.generator.sampling.speculation.hit_densities import ModelLaw, log_density, propose
from supa_mamba.generator.sampling.speculation.length import best_length
from supa_mamba.generator.sampling.speculation.replays import ReplayStack, stack_state
from supa_mamba.generator.sampling.speculation.rounds import SpeculativeRounds, random_numbers
from supa_mamba.generator.sampling.uniforms import hit_uniforms, trial_uniforms
from supa_mamba.modules.states import clear_slots

KINDS = ["mamba", "mamba2", "hybrid", "transformer"]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def place(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is available; run with -m gpu on a machine with a GPU")
    return request.param


def draft_of(config, kind="mamba2", layers=1, **options):
    """Return a draft that differs from the model of `model_of`."""
    model = model_of(config, kind, layers=layers, **options)
    torch.manual_seed(7)
    with torch.no_grad():
        for head in (model.energy_head, model.position_head):
            head[2].bias.add_(0.8 * torch.randn_like(head[2].bias))
    return model


def sampled(model, draft, count, *, length=3, slots=64, config="critical", seed=5, first=0):
    """Return showers, and the numbers of tested and accepted hits."""
    run = supa.Run(
        config=supa.presets.as_config(config), seed=seed, first=first, engine="imported", keep="all", attempts=None,
        model=model_name(model),
    )  # fmt: skip
    rounds = batches.new_rounds(model, draft, seed, slots, length)
    queue = batches.Queue(model, run, seed, count, batches.profile_choice(model, run.config, seed))
    showers = supa.Showers.concatenate(batches.pieces_of(rounds, queue, slots))
    return showers, rounds.counts()


@pytest.mark.parametrize("draft", ["model", "table"])
def test_showers_have_the_law_of_the_model(place, draft):
    model = model_of(LEAKY, hits=1.5, ends=-1.0, layers=1).to(place)
    proposing = draft_of(LEAKY, hits=1.5).to(place) if draft == "model" else new_draft(model, LEAKY, "table")
    plain = sample_showers(model, LEAKY, 1500, seed=3)
    found, counts = sampled(model, proposing, 1500, slots=500, config=LEAKY, seed=3)
    assert 0.2 < counts.accepted.sum() / counts.tested.sum() < 0.95
    # What is sampled before the hits is the same, so the numbers of hits of all slices are.
    for name in ("offset", "slice", "incident_energy", "leaked_energy"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))

    def observed(showers):
        batch = model.coding.encode(showers)
        previous = previous_of(batch)
        goes_on, later = batch.left > 1, batch.number > 0
        away = (batch.position - previous.position)[later]
        return {
            "energy": batch.energy_logit[goes_on], "energy after energy": (batch.energy_logit - previous.energy_logit)
            [goes_on & later], "x": batch.position[:, 0], "y": batch.position[:, 1], "distance": away.norm(dim=1),
            "x with energy": (batch.position[:, 0] * batch.energy_logit)[goes_on],
        }  # fmt: skip

    one, other = observed(plain), observed(found)
    for name in one:
        assert ks_2samp(one[name].numpy(), other[name].numpy()).pvalue > 1e-3, name
    # The test can fail: the draft has another law.
    if draft == "model":
        drafted = observed(sample_showers(proposing, LEAKY, 1500, seed=3))
        assert min(ks_2samp(one[name].numpy(), drafted[name].numpy()).pvalue for name in one) < 1e-6


def test_the_share_of_accepted_hits_is_that_of_the_densities():
    model, draft = model_of(LEAKY, hits=1.5, ends=-1.0, layers=1), draft_of(LEAKY, hits=1.5)
    showers, counts = sampled(model, draft, 1000, length=1, slots=500, config=LEAKY)
    seen = counts.accepted[0] / counts.tested[0]
    batch = model.coding.encode(showers)
    assert counts.tested[0] == len(batch.slice)  # each hit is drafted once
    before = previous_of(batch)
    rest = (before.remaining.double().exp() * 2.0**40).round().long().maximum(before.left)
    with torch.no_grad():
        of_model, of_draft = (each.add_features(each.hidden(before, batch.offset), before) for each in (model, draft))
        uniform = torch.rand(len(rest), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        hits, density = propose(ModelLaw(draft), of_draft, before, rest, uniform)
        ratio = (log_density(ModelLaw(model), of_model, before, hits) - density).exp().clamp(max=1)
    error = np.sqrt((float(ratio.var()) + seen * (1 - seen)) / len(ratio))
    assert abs(seen - float(ratio.mean())) < 4 * error
    assert 0.2 < seen < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_drafts_for_itself_is_always_right(place, kind):
    model = model_of(LEAKY, kind, hits=1.5, ends=-1.0).to(place)
    showers, counts = sampled(model, model, 30, slots=16, config=LEAKY)
    assert counts.tested.min() > 5
    assert counts.accepted.sum() >= counts.tested.sum() - (place == "cuda")  # rounding
    assert counts.accepted.sum() <= len(showers.x)


@pytest.mark.parametrize("kind", [*KINDS, "paired", "mamba student"])
@pytest.mark.parametrize("is_broken", [False, True])
def test_states_after_random_rejections_are_those_of_a_plain_pass(place, kind, is_broken):
    model = model_of("critical", kind).to(place)
    stack, generator, slots, inputs = model.stack, torch.Generator().manual_seed(1), 3, 4
    replays = ReplayStack(stack, slots, inputs, 200)
    in_loops = stack_state(stack, slots, 200) if place == "cpu" else None
    loops = None if in_loops is None else CpuStack(stack, in_loops, inputs)
    accepted, worst = torch.zeros(slots, dtype=torch.int64, device=place), 0.0
    history = [torch.zeros(0, 32, device=place) for _ in range(slots)]
    with torch.no_grad():
        for turn in range(40):
            if turn == 20:  # a sequence leaves, and another one enters
                replays.clear(torch.tensor([1], device=place))
                if in_loops is not None:
                    clear_slots(in_loops, torch.tensor([1]))
                accepted[1], history[1] = 0, history[1][:0]
            x = torch.randn(slots, inputs, 32, generator=generator).to(place)
            broken = (accepted - 1).clamp(min=0) if is_broken and turn == 30 else accepted
            found = replays.score(x, broken)
            if loops is not None:
                rows = loops.score(x.flatten(0, 1).numpy().copy(), np.arange(slots), broken.numpy())
                torch.testing.assert_close(torch.from_numpy(rows).view_as(found), found, rtol=1e-4, atol=1e-5)
            lengths = torch.tensor([0, *(len(history[s]) + inputs for s in range(slots))], device=place)
            offset = lengths.cumsum(0)
            expected = stack(torch.cat([torch.cat([history[s], x[s]]) for s in range(slots)]), offset)
            last = offset[1:, None] - inputs + torch.arange(inputs, device=place)
            worst = max(worst, float((found - expected[last]).abs().max()))
            accepted = torch.randint(0, inputs + 1, (slots,), generator=generator).to(place)
            history = [torch.cat([history[s], x[s, : accepted[s]]]) for s in range(slots)]
    assert (worst > 1e-2) if is_broken else (worst < 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_states_of_a_draft_return_to_the_kept_step(place, kind):
    model = model_of("critical", kind).to(place)
    showers = supa.simulate(40, "critical", seed=1)
    batch = model.coding.encode(showers[np.argsort(showers.num_hits)[-3:]])
    batch = batch.to(place)
    before, first = previous_of(batch), batch.offset[:-1]
    steps, kept = ModelSteps(model, 3, 4, 200), torch.zeros(3, dtype=torch.int64, device=place)
    at, generator = torch.zeros_like(kept), torch.Generator().manual_seed(1)
    with torch.no_grad():
        expected = model.add_features(model.hidden(before, batch.offset), before)
        while int((at + 4 - batch.offset.diff()).max()) < 0:
            steps.begin(kept)
            for step in range(4):
                rows = first + at + step
                found = steps.known(step, type(before)(*(column[rows] for column in before)))
                torch.testing.assert_close(found, expected[rows], rtol=1e-3, atol=1e-3)
            kept = torch.randint(0, 5, (3,), generator=generator).to(place)
            at = at + kept
    assert int(at.min()) > 10


@pytest.mark.parametrize(("kind", "draft_kind"), [("hybrid", "mamba2"), ("mamba", "transformer")])
def test_a_shower_does_not_depend_on_the_others_or_on_the_length_of_the_draft(place, kind, draft_kind):
    model = model_of(LEAKY, kind, hits=2.0).to(place)
    draft = draft_of(LEAKY, draft_kind, hits=2.0).to(place)
    whole, _ = sampled(model, draft, 30, slots=30, length=4, config=LEAKY, first=100)
    assert whole.num_hits.max() > 5
    others = [{"slots": 7, "length": 4}, {"slots": 30, "length": 1}]
    for options in others if place == "cpu" else others[:1]:  # on a GPU, another length changes the last bits
        assert_equal(whole, sampled(model, draft, 30, config=LEAKY, first=100, **options)[0])
    assert_equal(whole[20:], sampled(model, draft, 10, slots=3, length=4, config=LEAKY, first=120)[0])


@pytest.mark.parametrize(("kind", "draft"), [("hybrid", "transformer"), ("mamba", "table")])
def test_compiled_loops_sample_the_showers_of_pytorch(monkeypatch, kind, draft):
    model = model_of(LEAKY, kind, hits=1.5, ends=-1.0)
    proposing = new_draft(model, LEAKY, "table") if draft == "table" else draft_of(LEAKY, draft, hits=1.5)
    found, counts = sampled(model, proposing, 25, slots=9, config=LEAKY)
    monkeypatch.setattr(batches, "new_rounds", SpeculativeRounds)
    expected, others = sampled(model, proposing, 25, slots=9, config=LEAKY)
    assert counts.tested.tolist() == others.tested.tolist()
    assert counts.accepted.tolist() == others.accepted.tolist()
    assert 0 < counts.accepted.sum() < counts.tested.sum()
    for name in ("offset", "slice", "index"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("x", "y", "energy"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("path", ["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_random_numbers_of_trials_are_the_same_on_every_device(path, device):
    index, number = np.repeat(np.arange(6) + 2**40, 10), np.tile(np.arange(10), 6)
    trial = np.arange(60) % 7
    expected = trial_uniforms(2**64 - 5, index, number, trial)
    bits = np.array([2**64 - 5], np.uint64).view(np.int64)
    given = (torch.from_numpy(x).to(device) for x in (bits, index, number, trial))
    assert torch.equal(random_numbers(*given).cpu(), torch.from_numpy(expected))
    others = hit_uniforms(2**64 - 5, index, number)
    assert len(np.unique(np.concatenate([expected.ravel(), others.ravel()]))) > 60 * 11 - 5


def test_the_default_length_is_measured(monkeypatch):
    lengths = []
    pieces = batches.speculative_pieces
    monkeypatch.setattr(
        "supa_mamba.generator.sampling.sampler.speculative_pieces",
        lambda *given: lengths.append(given[-1]) or pieces(*given),
    )
    model = model_of(LEAKY, hits=1.5, layers=1)
    draft = draft_of(LEAKY, hits=1.5)
    found = sample_showers(model, LEAKY, 5, seed=5, draft=draft)
    assert 1 <= lengths[0] <= 8
    assert_equal(found, sample_showers(model, LEAKY, 5, seed=5, draft=draft, draft_length=2))


def test_the_best_length_has_the_most_hits_per_time():
    assert best_length(np.full(8, 0.99), short=1.0, long=1.5) == 8
    assert best_length(np.zeros(8), short=1.0, long=1.5) == 1
    share, taken = np.full(8, 0.7), 1 + 0.2 * np.arange(8)
    hits = np.array([(0.7 ** np.arange(k)).sum() for k in range(1, 9)])
    assert best_length(share, short=taken[0], long=taken[-1]) == np.argmax(hits / taken) + 1 == 4


def test_skipped_layers_share_their_weights():
    model = model_of(LEAKY, hits=1.5)
    draft = new_draft(model, LEAKY, "skip-layers")
    assert len(draft.stack.layers) == 2
    assert len(model.stack.layers) == 4
    mine = {weights.data_ptr() for weights in model.parameters()}
    assert {weights.data_ptr() for weights in draft.parameters()} < mine
    assert isinstance(without_layers(model, [1]).stack.layers[0].mixer, Mamba2)


def test_drafts_that_do_not_fit_are_refused():
    model = model_of(LEAKY, layers=1)
    of_another_detector = model_of("critical", layers=1)
    with pytest.raises(ValueError, match="a draft must know the same detector, so train it on the showers of the mode"):
        sample_showers(model, LEAKY, 3, seed=1, draft=of_another_detector)
    for changes, message in (
        ({"position_scale": 1.2 * model.coding.position_scale}, "draft: its units of positions and conditions differ"),
        ({"conditions": HitCoding.fit(supa.simulate(9, LEAKY, seed=1), ["split_late"]).conditions}, "its conditions"),
    ):
        other = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), model.coding.replace(**changes))
        with pytest.raises(ValueError, match=f"{message}.*; train it on the same showers as the model, or use"):
            sample_showers(model, LEAKY, 3, seed=1, draft=other)
    with pytest.raises(ValueError, match="draft: the model has one layer, so none can be skipped; use the draft table"):
        sample_showers(model, LEAKY, 3, seed=1, draft="skip-layers")
    with pytest.raises(ValueError, match=r"draft: 'tables' was given, but it must be .* Did you mean 'table'"):
        sample_showers(model, LEAKY, 3, seed=1, draft="tables")
    with pytest.raises(ValueError, match="draft_length: it was given without a draft"):
        sample_showers(model, LEAKY, 3, seed=1, draft_length=3)
    with pytest.raises(ValueError, match="draft_length: 65 was given"):
        sample_showers(model, LEAKY, 3, seed=1, draft=copy.deepcopy(model), draft_length=65)

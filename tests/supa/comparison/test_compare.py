"""Comparison: calibration on equal samples, power to detect flaws, results and report."""

import dataclasses
import json

import numpy as np
import pytest

import supa
from supa import Ragged, compare
from supa.comparison.compute import _least_floor
from supa.comparison.hits import hit_results
from supa.comparison.sample_statistics import SampleStatistics
from supa.distances import edges_of, separation


def _with_hits(showers, **columns):
    hits = Ragged({**showers.hits.columns, **columns}, showers.offset)
    return dataclasses.replace(showers, hits=hits)


def _without(showers, dropped):
    kept = ~dropped
    counts = np.bincount(showers.hits.group_of_row()[kept], minlength=len(showers))
    columns = {name: column[kept] for name, column in showers.hits.columns.items()}
    return dataclasses.replace(showers, hits=Ragged(columns, np.concatenate([[0], np.cumsum(counts)])))


# ---------------------------------------------------------------------- calibration


@pytest.mark.slow
def test_false_alarm_rate_for_equal_samples():
    """Count alarms at the 5 % level in 200 pairs of true samples: joint, per observable, and of pulls."""
    joint, single, pulls = [], [], []
    for seed in range(200):
        true, made = (supa.simulate(400, seed=10_000 + 2 * seed + k) for k in (0, 1))
        result = compare(true, made, seed=seed, repeats=99, multivariate=False)
        joint.append(result.joint_p_value)
        single.append([o.p_value for o in result.observables if o.true_std > 1e-4])
        pulls += [[p.true_pull, p.generated_pull] for p in result.pulls if "2" not in p.name]
    # On average 10 of 200 pairs alarm, with a standard deviation of 3.1. The limit is 4 standard deviations.
    assert np.mean(np.array(joint) <= 0.05) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 200))
    assert np.mean(joint) == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / 200))
    # Observables are correlated. The scatter over pairs gives the error of the fraction.
    shares = np.array([np.mean(np.array(values) <= 0.05) for values in single])
    assert shares.mean() == pytest.approx(0.05, abs=4 * shares.std() / np.sqrt(len(shares)))
    pulls = np.array(pulls)
    alarms = (np.abs(pulls) > 1.96).reshape(200, -1).mean(axis=1)
    assert alarms.mean() == pytest.approx(0.05, abs=4 * alarms.std() / np.sqrt(200))
    assert pulls.std() == pytest.approx(1, abs=0.1)


# ---------------------------------------------------------------------- power, at 10,000 showers


@pytest.fixture(scope="module")
def true():
    return supa.simulate(10_000, seed=1)


@pytest.fixture(scope="module")
def made():
    return supa.simulate(10_000, seed=2)


def _found(result) -> list[str]:
    assert result.differs
    return [o.name for o in result.observables]


def test_anisotropy_detects_the_frame_of_the_reference_preset(true):
    result = compare(true, supa.simulate(10_000, "reference", seed=2), multivariate=False)
    assert _found(result)[0].startswith("anisotropy")
    assert {"anisotropy, layer 1", "anisotropy, layer 2"} <= set(_found(result)[:4])
    # Numbers of hits and energies do not depend on the frame.
    assert all(abs(pull.generated_pull) < 4 for pull in result.pulls)


def test_response_detects_a_wrong_energy_scale(true, made):
    result = compare(true, _with_hits(made, energy=made.energy * 1.01), multivariate=False)
    assert _found(result)[0] == "response"
    response = result.observables[0]
    assert response.generated_mean == pytest.approx(1.01, abs=1e-5)
    assert response.p_value == pytest.approx(1 / 501)
    pulls = {pull.name: pull.generated_pull for pull in result.pulls}
    assert pulls["energy fraction, layer 0"] > 3


def test_response_detects_dropped_hits(true, made):
    dropped = np.random.default_rng(0).random(made.hits.num_rows) < 0.01
    result = compare(true, _without(made, dropped), multivariate=False)
    assert _found(result)[0] == "response"
    assert result.observables[0].generated_mean == pytest.approx(0.99, abs=0.001)


def test_hits_and_energies_per_layer_detect_swapped_layers(true, made):
    layer = np.array([1, 0, 2], dtype=np.uint8)[made.layer]
    result = compare(true, _with_hits(made, layer=layer), multivariate=False)
    assert {"hits, layer 0", "hits, layer 1", "energy fraction, layer 0"} <= {
        o.name for o in result.observables if o.p_value == pytest.approx(1 / 501)
    }
    pulls = {pull.name: pull.generated_pull for pull in result.pulls}
    assert pulls["hits, layer 0"] > 50
    assert pulls["hits, layer 1"] < -50
    assert abs(pulls["hits"]) < 4


# ---------------------------------------------------------------------- single parts


@pytest.fixture(scope="module")
def pair():
    return supa.simulate(600, seed=3, record="particles"), supa.simulate(500, "symmetric", seed=4, record="particles")


@pytest.fixture(scope="module")
def result(pair):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return compare(*pair, names=("a", "b"), repeats=99)


def test_numbers_equal_plain_formulas(pair, result):
    from scipy.stats import ks_2samp, wasserstein_distance

    one, other = (sample.num_hits.astype(float) for sample in pair)
    (found,) = (o for o in result.observables if o.name == "num_hits")
    assert found.distance.value == pytest.approx(wasserstein_distance(one, other) / one.std())
    assert found.ks.statistic == pytest.approx(ks_2samp(one, other).statistic)
    assert (found.true_mean, found.generated_mean) == pytest.approx((one.mean(), other.mean()))
    (hits,) = (o for o in result.observables if o.name == "hit x")
    assert hits.distance.value == pytest.approx(wasserstein_distance(pair[0].x, pair[1].x) / pair[0].x.std(), rel=0.05)
    (pull,) = (p for p in result.pulls if p.name == "hits")
    assert pull.true_pull == pytest.approx((one.mean() - pull.exact) / (one.std(ddof=1) / np.sqrt(600)))


def test_every_score_has_a_noise_floor(result):
    scores = {score.name: score for score in result.scores}
    assert set(scores) == {
        "Frechet distance", "kernel distance", "precision", "recall", "density", "coverage", "classifier AUC"
    }  # fmt: skip
    assert scores["classifier AUC"].value.value > 0.8  # the symmetric preset is clearly different
    assert scores["classifier AUC"].p_value < 1e-6
    assert abs(scores["classifier AUC"].floor.value - 0.5) < 4 * scores["classifier AUC"].floor.error
    assert scores["Frechet distance"].value.value > 5 * abs(scores["Frechet distance"].floor.value)


def test_recorded_trees_are_compared(result):
    assert "mean generation" in {o.name for o in result.observables}
    assert result.left_out == ()


def test_results_depend_on_the_seed_only(pair, result):
    again = compare(*pair, names=("a", "b"), repeats=99, multivariate=False)
    assert again.observables == result.observables
    assert again.joint_p_value == result.joint_p_value
    other = compare(*pair, names=("a", "b"), repeats=99, multivariate=False, seed=1)
    assert other.observables != result.observables


def test_chunks_form_one_sample(pair, result):
    chunks = [[sample[k : k + 170] for k in range(0, len(sample), 170)] for sample in pair]
    again = compare(*chunks, names=("a", "b"), repeats=99, multivariate=False)
    whole = {o.name: o for o in result.observables}
    assert again.joint_p_value == result.joint_p_value
    for found in again.observables:
        if found.level == "shower":
            assert found.distance == pytest.approx(whole[found.name].distance, rel=1e-4)  # up to the resolution
    assert again.floor.startswith("two parts")  # chunks may come from an incomplete run
    assert again.pulls == result.pulls
    hits = {o.name: o.distance.value for o in again.observables if o.level == "hit"}
    assert hits == pytest.approx({name: whole[name].distance.value for name in hits}, rel=0.02)
    once = compare(iter(chunks[0]), (shower for shower in pair[1]), names=("a", "b"), repeats=99, multivariate=False)
    assert once.joint_p_value == result.joint_p_value


def test_floor_of_parts_has_the_sample_sizes():
    """A small generated sample and a large imported sample have the noise floor of the small sample."""
    sample = supa.simulate(2000, seed=5)[:]
    true = dataclasses.replace(sample, run=dataclasses.replace(sample.run, attempts=None))
    result = compare(true, supa.simulate(60, seed=6), repeats=19, multivariate=False)
    assert result.floor == "two parts of the true sample (1,940 and 60 showers)"
    ratio = [
        o.distance.value / o.distance_floor for o in result.observables if o.level == "shower" and o.distance_floor
    ]
    assert 0.5 < np.median(ratio) < 2


def test_imported_showers_are_compared_in_the_observables_they_have(pair):
    sample = pair[0]
    other = supa.from_hits(
        sample.config, offset=sample.offset, incident_energy=sample.incident_energy, x=sample.x, y=sample.y,
        energy=sample.energy, layer=sample.layer,
    )  # fmt: skip
    result = compare(other, sample, repeats=99, multivariate=False)
    assert result.floor == "two parts of the true sample (300 and 300 showers)"
    assert "depth mean" in result.left_out
    assert "hit z" not in {o.name for o in result.observables}
    for found in result.observables:
        assert found.distance.value == pytest.approx(0, abs=1e-9), found.name
    assert result.joint_p_value > 0.5


def test_file_and_memory_are_equal(pair, tmp_path):
    """A comparison must not detect the float32 rounding of files."""
    import supa_datasets

    supa_datasets.save(pair[0], tmp_path / "a.h5")
    with supa_datasets.ShowerFile(tmp_path / "a.h5") as file:
        result = compare(pair[0], file, repeats=99, multivariate=False)
    assert result.joint_p_value > 0.9
    assert result.floor == "the true sample and 600 new showers simulated with its config"


@pytest.mark.parametrize("preset", ["standard", "critical", "single-layer"])
def test_no_observable_detects_the_rounding_of_files(preset, tmp_path):
    import supa_datasets

    sample = supa.simulate(150, preset, seed=7)
    supa_datasets.save(sample, tmp_path / "a.h5")
    result = compare(sample, supa_datasets.load(tmp_path / "a.h5"), repeats=19, multivariate=False)
    for found in result.observables:
        assert found.distance.value == 0, found.name
        assert found.separation.value == 0, found.name
        assert found.ks is None or found.ks.statistic == 0, found.name


def test_observables_without_defined_values_are_accepted():
    """A single hit in layer 2 is in only one part of the noise floor, and in few folds of the classifier."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    x, layer = np.arange(120.0), np.tile([0, 1], 60)
    layer[7] = 2
    sample = supa.from_hits(
        "standard", offset=np.arange(0, 121, 2), incident_energy=np.full(60, 9.0), x=x, y=x, energy=np.full(120, 4.0),
        layer=np.sort(layer.reshape(60, 2)).ravel(),
    )  # fmt: skip
    result = compare(sample, sample, repeats=19)
    assert result.joint_p_value == 1
    empty = supa.from_hits("standard", offset=[0] * 61, incident_energy=np.ones(60), x=[], y=[], energy=[], layer=[])
    scores = {score.name: score.value.value for score in compare(empty, empty, repeats=19).scores}
    assert scores["classifier AUC"] == 0.5


def test_shared_showers_and_wrong_units_have_remarks(pair):
    def remarks(one, other):
        return compare(one, other, names=("a", "b"), repeats=19, multivariate=False).remarks

    sample = pair[0]
    assert remarks(*pair) == ()
    assert remarks(sample[:300], sample[300:]) == ()
    (shared,) = remarks(sample, sample[100:400])
    assert "showers of seed 3" in shared
    (wrong,) = remarks(sample, _with_hits(supa.simulate(100, seed=9), energy=supa.simulate(100, seed=9).energy * 1000))
    assert wrong == "b: showers have 1000 times their incident energy. Are the energies in GeV?"


def test_observables_with_equal_p_values_are_sorted_by_distance_over_floor(result):
    least = {
        "shower": np.sqrt(2 / np.pi * (1 / 600 + 1 / 500)),
        "hit": np.sqrt(2 / np.pi * sum(1 / result.statistics[name].hits for name in ("true", "generated"))),
    }
    keys = [(o.p_value, -o.distance.value / max(o.distance_floor, least[o.level])) for o in result.observables]
    assert keys == sorted(keys)
    assert keys[1][0] == keys[0][0] == 1 / 100  # smallest possible p-value
    assert {o.level for o in result.observables if o.p_value == 1 / 100} == {"shower", "hit"}


@pytest.mark.parametrize(("n", "m"), [(20, 300), (300, 20), (50, 50)])
def test_least_floor_is_the_mean_distance_of_two_means(n, m):
    random = np.random.default_rng(6)
    means = random.normal(size=(20_000, 2)) / np.sqrt([n, m])
    assert _least_floor(n, m) == pytest.approx(np.abs(means[:, 0] - means[:, 1]).mean(), rel=0.03)


def test_separations_use_the_edges_of_the_true_sample(result):
    for found in result.observables:
        if found.level == "shower":
            true, generated = (result.statistics[name].columns[found.name] for name in ("true", "generated"))
            assert found.separation.value == separation(true, generated, edges_of(true))
            assert found.true_undefined == pytest.approx(np.isnan(true).mean())
            assert found.generated_undefined == pytest.approx(np.isnan(generated).mean())
    assert any(found.generated_undefined for found in result.observables)


def test_floor_uses_a_new_sample_of_the_generated_size(pair, result):
    assert result.statistics["floor"].showers == 500
    true, generated = supa.simulate(60, seed=3), pair[1][:50]
    results = [compare(true, generated, repeats=19, multivariate=False, seed=seed) for seed in (0, 1)]
    floors = [{o.name: o.distance_floor for o in one.observables} for one in results]
    assert floors[0]["num_hits"] != floors[1]["num_hits"]
    assert compare(true[:59], generated, repeats=19, multivariate=False).floor.startswith("two parts")  # a selection


def test_one_shared_shower_has_a_remark_and_one_odd_shower_has_none():
    first, second, third = (supa.simulate(60, seed=1, first=k) for k in (0, 59, 60))
    odd = _with_hits(third, energy=np.where(third.hits.group_of_row() == 0, 1e6, 1) * third.energy)
    assert len(compare(first, second, repeats=19, multivariate=False).remarks) == 1
    assert compare(first, odd, repeats=19, multivariate=False).remarks == ()


def test_means_over_few_expected_hits_have_no_pull(pair):
    """The expected number of hits in the smaller sample must be at least 50."""
    true, generated = pair[0], pair[1][:100]
    exact = supa.expectation("standard")
    result = compare(true, generated, repeats=19, multivariate=False)
    kept = {pull.name for pull in result.pulls}
    assert {name for name in kept if "slice" in name} == {
        f"hits, slice {k}" for k in np.flatnonzero(100 * exact.hits >= 50)
    }
    assert np.count_nonzero(600 * exact.hits >= 50) > np.count_nonzero(100 * exact.hits >= 50)
    assert kept >= {f"{name}, layer {k}" for name in ("hits", "energy fraction") for k in range(3)}


def test_energy_fraction_of_a_layer_with_few_hits_has_no_pull():
    config = supa.preset("standard").replace(readout_layers=((7, 19), (20, 27)))
    exact = supa.expectation(config)
    assert 60 * exact.layer_hits[1] < 50 < 60 * exact.layer_hits[0]
    result = compare(*(supa.simulate(60, config, seed=k) for k in (1, 2)), repeats=19, multivariate=False)
    names = {pull.name for pull in result.pulls if "layer" in pull.name}
    assert names == {"hits, layer 0", "energy fraction, layer 0"}


def test_missing_layer_has_an_infinite_pull(pair):
    """The standard error is 0 if a generator never reaches a layer."""
    sample = supa.simulate(2000, seed=8)
    result = compare(sample, _without(sample, sample.layer == 2), repeats=19, multivariate=False)
    pulls = {pull.name: pull.generated_pull for pull in result.pulls}
    assert pulls["hits, layer 2"] == pulls["energy fraction, layer 2"] == -np.inf
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))


def test_p_values_of_hits_are_calibrated_for_different_sample_sizes():
    """Groups are merged until they have at least five showers of each sample."""
    shares = []
    for seed in range(100):
        true, made = supa.simulate(60, seed=20_000 + 2 * seed), supa.simulate(600, seed=20_001 + 2 * seed)
        first = SampleStatistics.of(true)
        second = SampleStatistics.of(made, first.edges)
        shares.append(np.mean([o.p_value <= 0.05 for o in hit_results(first, second, (first, first), seed, 99)]))
    assert np.mean(shares) == pytest.approx(0.05, abs=4 * np.std(shares) / np.sqrt(len(shares)))


def test_no_pulls_without_a_closed_form():
    result = compare(
        supa.simulate(60, "critical"), supa.simulate(60, "critical", seed=1), repeats=19, multivariate=False
    )
    assert result.pulls == ()
    assert "no closed form" in result.no_pulls


def test_the_numbers_are_json(result):
    numbers = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert numbers["joint_p_value"] == result.joint_p_value
    assert len(numbers["observables"]) == len(result.observables)
    assert numbers["observables"][0]["distance"].keys() == {"value", "error"}
    assert numbers["generated"]["preset"] == "symmetric"
    assert numbers["differs"] is True


@pytest.mark.slow
def test_report_is_one_self_contained_page(result, tmp_path):
    page, numbers = supa.write_report(result, tmp_path / "report")
    text = page.read_text()
    assert text.count("<img") == text.count("data:image/png;base64,") >= 5
    assert "src='http" not in text
    for found in result.observables:
        assert found.name in text
    assert json.loads(numbers.read_text())["seed"] == 0
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["comparison.json", "report.html"]
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (tmp_path / "report" / "report.html.new").symlink_to(mine)  # the report must not write to the target of the link
    page, _ = supa.write_report(result, tmp_path / "report")
    assert page.read_text() == text
    assert mine.read_text() == "mine"


def test_names_are_escaped_in_the_report(result, tmp_path):
    true, generated = (
        dataclasses.replace(facts, name=name) for facts, name in ((result.true, "<b>$x^$"), (result.generated, "&amp;"))
    )
    # Drawing all observables takes seconds.
    short = dataclasses.replace(result, true=true, generated=generated, observables=result.observables[:2])
    text = supa.write_report(short, tmp_path)[0].read_text()
    assert "&lt;b&gt;" in text
    assert "<b>" not in text


MISTAKES = {
    "few": (lambda a, b: compare(a[:20], b), "at least 50 showers, got 20 showers"),
    "none": (lambda a, b: compare(a, []), "generated: .* got 0 showers"),
    "layers": (lambda a, b: compare(a, supa.simulate(60, "single-layer")), "must have the same readout layers"),
    "a path": (lambda a, b: compare("a.h5", b), "A sample must be Showers"),
    "a number": (lambda a, b: compare(a, 3), "A sample must be Showers"),
    "configs": (lambda a, b: compare([a, b], b), "must have the same config"),
    "seed": (lambda a, b: compare(a, b, seed=-1), "seed"),
    "repeats": (lambda a, b: compare(a, b, repeats=3), "repeats"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_arguments_raise_a_clear_error(pair, make, message):
    with pytest.raises(ValueError, match=message):
        make(*pair)


def test_report_needs_a_folder(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="needs a folder"):
        supa.write_report(result, tmp_path / "file")


def test_showers_without_hits_are_compared_and_drawn_without_warnings():
    from supa.comparison.figures import correlation_figure, histogram_figures

    nothing: list[float] = []
    empty = supa.from_hits(
        "critical",
        offset=[0] * 61,
        incident_energy=np.full(60, 65.0),
        x=nothing,
        y=nothing,
        energy=nothing,
        layer=nothing,
    )
    comparison = supa.compare(empty, empty, repeats=19, multivariate=False)
    hits = tuple(result for result in comparison.observables if result.level == "hit")
    (figure,) = histogram_figures(dataclasses.replace(comparison, observables=hits[:2]))
    assert [axes.texts[0].get_text() for axes in figure.axes[::2]] == ["no hits in this range"] * 2
    (text,) = correlation_figure(comparison).texts
    assert text.get_text() == "no observable varies in both samples"


@pytest.mark.parametrize("value", [-0.0, 0.0])
def test_report_has_no_negative_zero(value):
    from supa.comparison.report import _number

    assert _number(value) == "0"


def test_means_of_rare_hits_have_no_pull():
    """The mean is not normally distributed with fewer than 50 expected hits in a sample."""
    true, generated = supa.simulate(60, seed=1), supa.simulate(90, seed=2)
    result = compare(true, generated, multivariate=False, repeats=20)
    expected = supa.expectation(true.run.config, keep=true.run.keep)
    frequent = np.flatnonzero(expected.hits * 60 >= 50)
    assert 0 < len(frequent) < len(np.flatnonzero(expected.hits))
    assert {p.name for p in result.pulls if "slice" in p.name} == {f"hits, slice {k}" for k in frequent}


def test_bins_match_discrete_values():
    from supa.comparison.figures import _edges

    random = np.random.default_rng(1)
    for step in (1.0, 1 / 288):
        values = step * random.poisson(60, size=5000)
        edges = _edges([values, values])
        width = (edges[1] - edges[0]) / step
        assert width == pytest.approx(round(width))
        assert (edges[0] / step) % 1 == pytest.approx(0.5)
        assert len(edges) <= 42
    np.testing.assert_allclose(_edges([np.ones(9), np.ones(5)]), [0.85, 0.95, 1.05, 1.15])
    continuous = random.normal(size=1000)
    assert len(_edges([continuous])) == 41

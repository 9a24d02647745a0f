"""Comparison of generated with true showers."""

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np

from supa.arrays import FloatArray
from supa.checks import LARGEST, check_int, counted
from supa.comparison.hits import hit_results
from supa.comparison.resolution import merge_unresolved, resolutions
from supa.comparison.results import Comparison, ObservableResult, Pull, SampleFacts, Score
from supa.comparison.sample_statistics import RESOLUTION, SampleLike, SampleStatistics
from supa.distances import (
    Estimate,
    classifier_auc,
    edges_of,
    frechet_distance,
    kernel_distance,
    kolmogorov_smirnov,
    neighbour_scores,
    permutation_test,
    separation,
    separation_estimate,
    wasserstein_distances,
)
from supa.distances.samples import std_of
from supa.expectations import NoClosedFormError, expectation
from supa.observables import label
from supa.presets import preset_name
from supa.showers import Run
from supa.simulation import stream

FEWEST_SHOWERS = 50
_TOO_MUCH = 2.0  # response above which the energies are probably not in GeV
_FLOOR_SEED = 0x9E3779B97F4A7C15  # arbitrary constant; separates the seed of the floor from seeds that users choose


def compare(
    true: SampleLike,
    generated: SampleLike,
    *,
    names: tuple[str, str] = ("true", "generated"),
    seed: int = 0,
    repeats: int = 500,
    multivariate: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Compare generated showers with true showers.

    Every number has a noise floor: the same number between two true samples, of which the second has the size of the
    generated sample. If the true showers are a complete simulated run, the second true sample is a new simulation with
    the same config. Otherwise, the two samples are parts of the true sample. The page *Compare a
    generator with true showers* of the documentation explains all numbers.

    Args:
        true: `Showers`, an open `supa_datasets.ShowerFile`, or an iterable over chunks of `Showers`. At least 50
            showers.
        generated: Generated showers, in one of the same forms. At least 50 showers.
        names: Names of the two samples in the report.
        seed: Random seed of the permutations, the bootstrap samples and the noise floor.
        repeats: Number of permutations. No p-value is smaller than 1 / (1 + repeats).
        multivariate: Whether to compute the scores of all observables together, which takes most of the time.
        progress: Function to call with the name of each step.

    Returns:
        The comparison. Pass it to `write_report` for a report with figures.

    Raises:
        ValueError: If a sample has fewer than 50 showers, if the samples have different numbers of readout layers, if
            the showers of a sample have different configs, if the generated showers have weights or were refined with
            some of the true ones, or if the seed or the number of repeats is out of range.

    Example:
        Compare two presets that differ in the angles and energies of the children of a split:

        >>> import supa
        >>> true, generated = supa.simulate(200, seed=1), supa.simulate(200, "symmetric", seed=2)
        >>> result = supa.compare(true, generated, repeats=99, multivariate=False)
        >>> result.differs, result.joint_p_value
        (True, 0.01)
        >>> worst = result.observables[0]
        >>> worst.name, worst.p_value
        ('hit log energy fraction', 0.01)
    """
    check_int(0, 2**63 - 1, "seed", seed)
    check_int(19, 10**6, "repeats", repeats)
    progress = progress or (lambda _step: None)
    progress(f"reading {names[0]}")
    first = SampleStatistics.of(true)
    progress(f"reading {names[1]}")
    second = SampleStatistics.of(generated, first.edges)
    _check(first, second, names)
    _check_refinement(first, second, names)
    progress("computing the noise floor")
    floor, described = _floor(true, first, second.showers, seed)
    common = [name for name in first.columns if name in second.columns]
    left_out = sorted(set(first.columns) ^ set(second.columns))
    progress("comparing observables of showers")
    resolution = resolutions(first, common)
    merge_unresolved([first, second, *(sample for sample in floor if sample is not first)], resolution)
    results = _observables(first, second, floor, resolution, seed, repeats)
    progress("comparing observables of hits")
    hits = hit_results(first, second, floor, seed, repeats)
    scores: tuple[Score, ...] = ()
    if multivariate:
        scores = _scores(
            (_features(first, resolution), _features(second, resolution)),
            (_features(floor[0], resolution), _features(floor[1], resolution)),
            seed,
            progress,
        )
    pulls, no_pulls = _pulls(first, second)
    least = {"shower": _least_floor(first.showers, second.showers), "hit": _least_floor(first.hits, second.hits)}
    observables = sorted(
        [*results[0], *hits], key=lambda o: (o.p_value, -o.distance.value / max(o.distance_floor, least[o.level]))
    )
    return Comparison(
        true=_facts(names[0], first),
        generated=_facts(names[1], second),
        floor=described,
        joint_p_value=results[1],
        observables=tuple(observables),
        pulls=pulls,
        no_pulls=no_pulls,
        scores=scores,
        left_out=tuple(left_out),
        remarks=tuple(_remarks(first, second, names)),
        seed=seed,
        repeats=repeats,
        versions={name: importlib.metadata.version(name) for name in ("supa-showers", "numpy", "scipy")},
        statistics={"true": first, "generated": second, "floor": floor[1]},
    )


def _check(first: SampleStatistics, second: SampleStatistics, names: tuple[str, str]) -> None:
    for name, sample in zip(names, (first, second), strict=True):
        if sample.showers < FEWEST_SHOWERS:
            given = counted(sample.showers, "shower")
            raise ValueError(f"{name}: a comparison needs at least {FEWEST_SHOWERS} showers, got {given}.")
    if first.config.num_layers != second.config.num_layers:
        raise ValueError(
            "Both samples must have the same readout layers, got "
            f"{counted(first.config.num_layers, 'layer')} in {names[0]} and {second.config.num_layers} in {names[1]}."
        )


def _check_refinement(first: SampleStatistics, second: SampleStatistics, names: tuple[str, str]) -> None:
    """Check that the showers that judge a refined sample are not those that refined it."""
    one, other = first.run, second.run
    assert one is not None
    assert other is not None
    if other.refinement is None:
        return
    if other.refinement.by == "weights":
        raise ValueError(
            f"{names[1]}: its showers have weights, which a comparison does not use. Compare a sample that was refined "
            "by rejection or resampling."
        )
    if one.config == other.config and other.refinement.used(one.seed, *first.index_range):
        raise ValueError(
            f"{names[1]}: the sample was refined with showers of {names[0]}: by {other.refinement}. These showers "
            "cannot judge it; compare with others, such as those of another seed."
        )


def _floor(
    true: SampleLike, first: SampleStatistics, size: int, seed: int
) -> tuple[tuple[SampleStatistics, SampleStatistics], str]:
    """Return two true samples and their description."""
    run = getattr(true, "run", first.run)
    assert isinstance(run, Run)
    if _simulable(run):
        other = (run.seed or 0) ^ _FLOOR_SEED ^ seed
        anew = SampleStatistics(first.edges)
        for chunk in stream(size, run.config, seed=other & (2**63 - 1), keep=run.keep, record=_record(first)):
            anew.add(chunk)
        return (first, anew), f"the true sample and {counted(size, 'new shower')} simulated with its config"
    parts = first.parts(min(0.5, size / first.showers))
    return parts, f"two parts of the true sample ({parts[0].showers:,} and {parts[1].showers:,} showers)"


def _simulable(run: Run) -> bool:
    return run.engine in ("cpu", "reference") and run.seed is not None and run.attempts is not None


def _record(first: SampleStatistics) -> Literal["hits", "particles"]:
    return "particles" if "mean generation" in first.columns else "hits"


def _matrix(sample: SampleStatistics, names: Iterable[str]) -> FloatArray:
    return np.column_stack([sample.columns[name] for name in names])


def _features(sample: SampleStatistics, resolution: dict[str, float]) -> FloatArray:
    """Return the columns in units of their resolution, the spread that ``standardised`` then uses for constants."""
    with np.errstate(over="ignore"):
        return np.clip(_matrix(sample, resolution) / list(resolution.values()), -LARGEST, LARGEST)


def _least_floor(n: int, m: int) -> float:
    """Return the mean noise floor of an observable whose samples differ in their means only.

    It is a lower limit for most observables. The measured floor is a single random value, which may be close to 0 by
    chance and is 0 for constants.
    """
    return float(np.sqrt(2 / np.pi * (1 / max(n, 1) + 1 / max(m, 1))))


def _observables(
    first: SampleStatistics,
    second: SampleStatistics,
    floor: tuple[SampleStatistics, SampleStatistics],
    resolution: dict[str, float],
    seed: int,
    repeats: int,
) -> tuple[list[ObservableResult], float]:
    samples = (_matrix(sample, resolution) for sample in (first, second, *floor))
    smallest = list(resolution.values())
    test = permutation_test(next(samples), next(samples), repeats=repeats, seed=seed, resolution=smallest)
    at_rest = wasserstein_distances(next(samples), next(samples), resolution=smallest)
    results = []
    for k, name in enumerate(resolution):
        true, generated = first.columns[name], second.columns[name]
        one, other = floor[0].columns[name], floor[1].columns[name]
        edges = edges_of(true)
        defined = [values[~np.isnan(values)] for values in (true, generated)]
        nowhere = not len(defined[0]) or not len(defined[1])
        unknown = nowhere or np.isnan(one).all() or np.isnan(other).all()
        results.append(
            ObservableResult(
                name=name,
                level="shower",
                label=label(name),
                true_mean=_mean(defined[0]),
                true_std=_std(defined[0]),
                generated_mean=_mean(defined[1]),
                generated_std=_std(defined[1]),
                distance=Estimate(float(test.distances[k]), float(test.errors[k])),
                distance_floor=float(at_rest[k]),
                p_value=float(test.p_values[k]),
                separation=separation_estimate(true, generated, edges, seed=seed),
                separation_floor=separation(one, other, edges),
                ks=None if nowhere else kolmogorov_smirnov(true, generated),
                ks_floor=None if unknown else kolmogorov_smirnov(one, other).statistic,
                true_undefined=1 - len(defined[0]) / len(true),
                generated_undefined=1 - len(defined[1]) / len(generated),
            )
        )
    return results, test.joint_p_value


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _std(values: FloatArray) -> float:
    return std_of(values) if len(values) else float("nan")


def _scores(
    samples: tuple[FloatArray, FloatArray],
    floor: tuple[FloatArray, FloatArray],
    seed: int,
    progress: Callable[[str], None],
) -> tuple[Score, ...]:
    rows = max(len(sample) for sample in samples)
    scores = []
    for name, distance in (("Frechet distance", frechet_distance), ("kernel distance", kernel_distance)):
        progress(name)
        value, at_rest = distance(*samples, seed=seed), distance(*floor, seed=seed)
        scores.append(Score(name, value, at_rest, 0.0, None, rows))
    progress("nearest neighbours")
    neighbours, neighbours_floor = neighbour_scores(*samples, seed=seed), neighbour_scores(*floor, seed=seed)
    used = max(neighbours.rows_true, neighbours.rows_generated)
    for name in ("precision", "recall", "density", "coverage"):
        scores.append(Score(name, getattr(neighbours, name), getattr(neighbours_floor, name), float("nan"), None, used))
    progress("classifier")
    try:
        found, at_floor = classifier_auc(*samples, seed=seed), classifier_auc(*floor, seed=seed)
    except ValueError as error:
        if "scikit-learn" not in str(error):
            raise
        progress(f"skipping the classifier: {error}")
    else:
        used = max(found.rows_true, found.rows_generated)
        areas = Estimate(found.auc, found.error), Estimate(at_floor.auc, at_floor.error)
        scores.append(Score("classifier AUC", *areas, 0.5, found.p_value, used))
    return tuple(scores)


def _pulls(first: SampleStatistics, second: SampleStatistics) -> tuple[tuple[Pull, ...], str]:
    """Compare the means of both samples with the exact expectations of the true config.

    Return the pulls, and the reason if there are none.
    """
    assert first.run is not None
    try:
        exact = expectation(first.config, keep=first.run.keep)
    except NoClosedFormError as error:
        return (), str(error)
    truths = {
        "hits": np.array([exact.total_hits]),
        "hits, layer": exact.layer_hits,
        "energy fraction, layer": exact.layer_energy,
        "hits, slice": exact.hits,
    }
    hits_of = truths | {"energy fraction, layer": exact.layer_hits}
    pulls = []
    for name, truth in truths.items():
        if name not in first.moments or name not in second.moments:
            continue
        mean1, error1 = first.moments[name].mean, first.moments[name].standard_error
        mean2, error2 = second.moments[name].mean, second.moments[name].standard_error
        if mean1.shape != mean2.shape:
            continue
        # Sums over rare hits are not normally distributed, so a pull would have no meaning.
        rare = hits_of[name] * min(first.showers, second.showers) < FEWEST_SHOWERS
        smallest = RESOLUTION * truth
        for k in np.flatnonzero(~rare & ((error1 > 0) | (error2 > 0))):
            pulls.append(
                Pull(
                    name=name if name == "hits" else f"{name} {k}",
                    exact=float(truth[k]),
                    true_mean=float(mean1[k]),
                    true_pull=_pull(mean1[k] - truth[k], error1[k], smallest[k]),
                    generated_mean=float(mean2[k]),
                    generated_pull=_pull(mean2[k] - truth[k], error2[k], smallest[k]),
                )
            )
    return tuple(pulls), ""


def _remarks(first: SampleStatistics, second: SampleStatistics, names: tuple[str, str]) -> Iterator[str]:
    """Yield warnings about the choice of the samples."""
    one, other = first.run, second.run
    assert one is not None
    assert other is not None
    overlap = max(first.index_range[0], second.index_range[0]) <= min(first.index_range[1], second.index_range[1])
    if (
        one.seed is not None
        and (one.seed, one.engine, one.config) == (other.seed, other.engine, other.config)
        and overlap
    ):
        yield f"Both samples contain showers of seed {one.seed} with the same indices. These showers are identical."
    for name, sample in zip(names, (first, second), strict=True):
        response = float(np.nanmedian(sample.columns["response"]))
        if response > _TOO_MUCH:
            yield f"{name}: showers have {response:.4g} times their incident energy. Are the energies in GeV?"


def _pull(difference: float, error: float, smallest: float) -> float:
    if abs(difference) <= smallest:  # rounding
        return 0.0
    return float(difference / error) if error > 0 else float(np.copysign(np.inf, difference))


def _facts(name: str, sample: SampleStatistics) -> SampleFacts:
    run = sample.run
    assert run is not None
    return SampleFacts(
        name=name,
        showers=sample.showers,
        hits=sample.hits,
        preset=preset_name(run.config),
        incident_energy=str(run.config.spectrum),
        keep=run.keep,
        engine=run.engine,
        seed=run.seed,
    )

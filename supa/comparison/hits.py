"""Comparison of observables of hits, from histograms of groups of showers."""

from typing import Any

import numpy as np

from supa.arrays import FloatArray
from supa.comparison.results import ObservableResult
from supa.comparison.sample_statistics import GROUPS, SampleStatistics
from supa.distances import Estimate
from supa.distances.histograms import error_of_squares, separation_of_counts
from supa.observables import label

_FEWEST = 5  # showers per group; smaller groups of samples of different sizes are not exchangeable
_BOOTSTRAP_SAMPLES = 200
_BLOCK = 2000


def hit_results(
    first: SampleStatistics,
    second: SampleStatistics,
    floor: tuple[SampleStatistics, SampleStatistics],
    seed: int,
    repeats: int,
) -> list[ObservableResult]:
    """Compare the histograms of hits.

    Distances and separation powers are computed from fine histograms. The hits of a shower are not independent.
    Bootstrap samples and permutations therefore use groups of complete showers.

    Args:
        first: Statistics of the true sample.
        second: Statistics of the generated sample.
        floor: Statistics of two true samples.
        seed: Random seed of the bootstrap samples and permutations.
        repeats: Number of permutations.

    Returns:
        One result per observable that both samples have.
    """
    results = []
    assert first.edges is not None
    for number, (name, edges) in enumerate(first.edges.items()):
        if name not in first.hit_counts or name not in second.hit_counts:
            continue
        groups = max(2, min(GROUPS, first.showers // _FEWEST, second.showers // _FEWEST))
        true, generated = _fewer(first.hit_counts[name], groups), _fewer(second.hit_counts[name], groups)
        middle = _middles(edges)
        gaps = np.diff(middle)
        random = np.random.default_rng([seed, number])

        def both(one: Any, other: Any, gaps: FloatArray = gaps) -> tuple[FloatArray, FloatArray]:
            return _distance(one, other, gaps), separation_of_counts(one, other)

        distance, separation = both(true.sum(axis=0), generated.sum(axis=0))
        weights = [random.multinomial(groups, [1 / groups] * groups, size=_BOOTSTRAP_SAMPLES) for _ in range(2)]
        bootstrap = both(weights[0] @ true, weights[1] @ generated)
        pooled = np.concatenate([true / first.showers, generated / second.showers])
        null = []
        for start in range(0, repeats, _BLOCK):
            dealt = np.argsort(random.random((min(_BLOCK, repeats - start), 2 * groups)), axis=1) < groups
            null.append(np.stack(both(dealt @ pooled, ~dealt @ pooled)))
        observed, _ = both(pooled[:groups].sum(axis=0), pooled[groups:].sum(axis=0))
        null_values = np.concatenate(null, axis=1)
        as_far = np.count_nonzero(null_values[0] >= observed * (1 - 1e-12))
        floors = both(floor[0].hit_counts[name].sum(axis=0), floor[1].hit_counts[name].sum(axis=0))
        mean, std = _moments(true.sum(axis=0), middle)
        mean2, std2 = _moments(generated.sum(axis=0), middle)
        unit = max(std, float(gaps[0]))  # a bin is the resolution of the histogram
        results.append(
            ObservableResult(
                name=f"hit {name}",
                level="hit",
                label=label(name),
                true_mean=mean,
                true_std=std,
                generated_mean=mean2,
                generated_std=std2,
                distance=Estimate(float(distance) / unit, float(bootstrap[0].std()) / unit),
                distance_floor=float(floors[0]) / unit,
                p_value=float((1 + as_far) / (1 + repeats)),
                separation=Estimate(float(separation), error_of_squares(bootstrap[1].var(), null_values[1].var())),
                separation_floor=float(floors[1]),
                ks=None,
                ks_floor=None,
                true_undefined=0.0,
                generated_undefined=0.0,
            )
        )
    return results


def _middles(edges: FloatArray) -> FloatArray:
    """Return the centre of each bin, and points half a bin outside the edges for underflow and overflow."""
    width = np.diff(edges)
    return np.concatenate([[edges[0] - width[0] / 2], edges[:-1] + width / 2, [edges[-1] + width[-1] / 2]])


def _fewer(counts: Any, groups: int) -> Any:
    """Merge groups into a smaller number of groups."""
    return np.stack([counts[k::groups].sum(axis=0) for k in range(groups)])


def _shares(counts: Any) -> FloatArray:
    total = counts.sum(axis=-1, keepdims=True)
    return np.asarray(counts / np.where(total > 0, total, 1))


def _distance(one: Any, other: Any, gaps: FloatArray) -> FloatArray:
    difference = np.cumsum(_shares(one) - _shares(other), axis=-1)[..., :-1]
    return np.asarray((np.abs(difference) * gaps).sum(axis=-1))


def _moments(counts: Any, middle: FloatArray) -> tuple[float, float]:
    shares = _shares(counts)
    mean = float((shares * middle).sum())
    return mean, float(np.sqrt(max((shares * (middle - mean) ** 2).sum(), 0.0)))

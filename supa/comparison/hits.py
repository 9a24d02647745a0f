"""Observables of hits: histograms by groups of showers, since the hits of one shower are not independent."""

from typing import Any

import numpy as np

from supa.arrays import FloatArray
from supa.comparison.measured import GROUPS, Measured
from supa.comparison.results import ObservableResult
from supa.distances import Estimate
from supa.observables import label


def hit_results(
    first: Measured, second: Measured, floor: tuple[Measured, Measured], seed: int, repeats: int
) -> list[ObservableResult]:
    """Compare the histograms of hits.

    Distances and separation are those of fine histograms. For errors and p-values whole groups of showers are drawn
    with replacement, or dealt out anew.

    Args:
        first: the true sample.
        second: the generated sample.
        floor: two true samples.
        seed: of the groups that are drawn.
        repeats: number of permutations.

    Returns:
        A result for each observable that both samples have.
    """
    results = []
    assert first.edges is not None
    for number, (name, edges) in enumerate(first.edges.items()):
        if name not in first.hit_counts or name not in second.hit_counts:
            continue
        true, made = first.hit_counts[name], second.hit_counts[name]
        middle = _middles(edges)
        gaps = np.diff(middle)
        random = np.random.default_rng([seed, number])

        def both(one: Any, other: Any, gaps: FloatArray = gaps) -> tuple[FloatArray, FloatArray]:
            return _distance(one, other, gaps), _separation(one, other)

        distance, separation = both(true.sum(axis=0), made.sum(axis=0))
        drawn: list[Any] = [random.multinomial(GROUPS, [1 / GROUPS] * GROUPS, size=repeats) @ c for c in (true, made)]
        errors = [values.std() for values in both(drawn[0], drawn[1])]
        pooled = np.concatenate([_per_shower(true, first.showers), _per_shower(made, second.showers)])
        dealt = np.argsort(random.random((repeats, 2 * GROUPS)), axis=1) < GROUPS
        null, _ = both(dealt @ pooled, ~dealt @ pooled)
        observed, _ = both(pooled[:GROUPS].sum(axis=0), pooled[GROUPS:].sum(axis=0))
        floors = both(floor[0].hit_counts[name].sum(axis=0), floor[1].hit_counts[name].sum(axis=0))
        mean, spread = _moments(true.sum(axis=0), middle)
        mean2, spread2 = _moments(made.sum(axis=0), middle)
        unit = spread or 1.0
        results.append(
            ObservableResult(
                name=f"hit {name}",
                level="hit",
                label=label(name),
                true_mean=mean,
                true_spread=spread,
                generated_mean=mean2,
                generated_spread=spread2,
                distance=Estimate(float(distance) / unit, float(errors[0]) / unit),
                distance_floor=float(floors[0]) / unit,
                p_value=float((1 + np.count_nonzero(null >= observed * (1 - 1e-12))) / (1 + repeats)),
                separation=Estimate(float(separation), float(errors[1])),
                separation_floor=float(floors[1]),
                smirnov=None,
                smirnov_floor=None,
                true_undefined=0.0,
                generated_undefined=0.0,
            )
        )
    return results


def _middles(edges: FloatArray) -> FloatArray:
    """Give a place to each bin: its middle; to under- and overflow, half a bin beyond the edge."""
    width = np.diff(edges)
    return np.concatenate([[edges[0] - width[0] / 2], edges[:-1] + width / 2, [edges[-1] + width[-1] / 2]])


def _per_shower(counts: Any, showers: int) -> FloatArray:
    return np.asarray(counts / showers)


def _shares(counts: Any) -> FloatArray:
    total = counts.sum(axis=-1, keepdims=True)
    return np.asarray(counts / np.where(total > 0, total, 1))


def _distance(one: Any, other: Any, gaps: FloatArray) -> FloatArray:
    difference = np.cumsum(_shares(one) - _shares(other), axis=-1)[..., :-1]
    return np.asarray((np.abs(difference) * gaps).sum(axis=-1))


def _separation(one: Any, other: Any) -> FloatArray:
    h1, h2 = _shares(one), _shares(other)
    return np.asarray(0.5 * ((h1 - h2) ** 2 / np.where(h1 + h2 > 0, h1 + h2, 1.0)).sum(axis=-1))


def _moments(counts: Any, middle: FloatArray) -> tuple[float, float]:
    shares = _shares(counts)
    mean = float((shares * middle).sum())
    return mean, float(np.sqrt(max((shares * (middle - mean) ** 2).sum(), 0.0)))

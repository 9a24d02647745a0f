"""Resolution of observables in single precision.

Files store positions and energies as float32, and models compute in float32. Observables therefore have an uncertainty
of several roundings of 2^-24. Values closer than the resolution are made equal before the comparison, and the unit of a
distance is at least the resolution. As a result, an observable that is constant up to rounding has distance 0, and an
observable with a wrong constant value has a large but finite distance.
"""

import numpy as np

from supa.arrays import FloatArray
from supa.comparison.sample_statistics import RESOLUTION, SampleStatistics
from supa.compiler import kernel
from supa.observables.tables import is_count, is_length


def resolutions(true: SampleStatistics, names: list[str]) -> dict[str, float]:
    """Compute the smallest relevant difference of each observable.

    Args:
        true: Statistics of the true sample.
        names: Names of observables of showers.

    Returns:
        Dictionary from names to resolutions. The resolution is 1 for counts. For all others, it is 2^-18 times a scale:
        the largest true coordinate of a hit for lengths, the largest true value for fractions, and the largest true
        value or 1, whichever is larger, for all other observables.
    """
    found = {}
    for name in names:
        if is_count(name):
            found[name] = 1.0
            continue
        values = np.abs(true.columns[name])
        size = float(np.nanmax(values)) if not np.isnan(values).all() else 0.0
        if is_length(name):
            size = max(size, true.reach)
        elif "fraction" not in name:
            size = max(size, 1.0)
        found[name] = RESOLUTION * (size or 1.0)
    return found


def merge_unresolved(samples: list[SampleStatistics], resolution: dict[str, float]) -> None:
    """Make values closer than the resolution equal, in the same way in all samples.

    Args:
        samples: Samples whose columns are replaced.
        resolution: Dictionary from names to resolutions, from ``resolutions``.
    """
    sizes = np.cumsum([sample.showers for sample in samples])[:-1]
    merged = {
        name: np.split(_merged(np.concatenate([s.columns[name] for s in samples]), smallest), sizes)
        for name, smallest in resolution.items()
    }
    for number, sample in enumerate(samples):
        sample.replace({name: parts[number] for name, parts in merged.items()})


def _merged(values: FloatArray, resolution: float) -> FloatArray:
    """Replace each value by that of the middle member of its group."""
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
    result = values.copy()
    result[order] = _middles(values[order], resolution)
    return result


@kernel
def _middles(ascending: FloatArray, resolution: float) -> FloatArray:
    """Group ascending values without NaN; each group is narrower than the resolution."""
    result = np.empty_like(ascending)
    start = 0
    for end in range(1, len(ascending) + 1):
        if end == len(ascending) or ascending[end] - ascending[start] >= resolution:
            result[start:end] = ascending[(start + end - 1) // 2]
            start = end
    return result

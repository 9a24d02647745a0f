"""What single precision cannot tell apart is equal.

Files hold positions and energies as float32, and models compute in it, so an observable is known to a few roundings of
2^-24 only. Values closer than the resolution are made equal before anything is computed, and the spread over which a
distance is given is at least the resolution. So an observable that is constant but for rounding has no difference, and
one that is constant and wrong has a large but finite one.
"""

import numpy as np

from supa.arrays import FloatArray
from supa.comparison.sample_statistics import RESOLUTION, SampleStatistics
from supa.compiler import kernel
from supa.observables.tables import is_count, is_length


def resolutions(true: SampleStatistics, names: list[str]) -> dict[str, float]:
    """Compute the smallest difference that counts, for each observable.

    Args:
        true: the true sample, which alone decides.
        names: observables of showers.

    Returns:
        1 for numbers of something. Else 2^-18 times the size of the numbers from which the observable is computed: for
        lengths the largest true coordinate of a hit, for fractions the largest true value, for all else that or 1.
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
    """Make values that are closer than the resolution equal, in all samples alike.

    Args:
        samples: their columns are replaced.
        resolution: by observable, as ``resolutions`` returns it.
    """
    sizes = np.cumsum([sample.showers for sample in samples])[:-1]
    merged = {
        name: np.split(_merged(np.concatenate([s.columns[name] for s in samples]), smallest), sizes)
        for name, smallest in resolution.items()
    }
    for number, sample in enumerate(samples):
        sample.replace({name: parts[number] for name, parts in merged.items()})


def _merged(values: FloatArray, resolution: float) -> FloatArray:
    """Return each value that of the middle member of its group."""
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
    result = values.copy()
    result[order] = _middles(values[order], resolution)
    return result


@kernel
def _middles(ascending: FloatArray, resolution: float) -> FloatArray:
    """Group ascending values from below, each group narrower than the resolution; there is no NaN among them."""
    result = np.empty_like(ascending)
    start = 0
    for end in range(1, len(ascending) + 1):
        if end == len(ascending) or ascending[end] - ascending[start] >= resolution:
            result[start:end] = ascending[(start + end - 1) // 2]
            start = end
    return result

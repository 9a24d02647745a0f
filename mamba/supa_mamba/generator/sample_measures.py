"""Measurement of samples during a fine-tuning: means, widths and coverage against true showers."""

import math

import numpy as np

from supa import Showers, compare
from supa.arrays import FloatArray
from supa.distances import neighbour_scores
from supa_learning.task import Figures
from supa_mamba.generator.sample_comparison import auc_of, observables_of

WIDTHS = ("num_hits", "hits", "energy fraction", "depth mean", "mean radius", "width r")
"""Observables whose standard deviations are reported, in total or in each layer."""

_ENERGY_BINS = 4
_MOST_JUDGED = 2_000
"""Number of showers of each sample for the classifier and the coverage of a bin."""
_FEWEST_DEFINED = 50
_ENERGY = "log incident energy"


class SampleMeasures:
    """Measure samples of a generator with true showers that no reward has seen.

    Args:
        true: True showers of one config.

    Example:
        >>> import supa
        >>> from supa_mamba.generator.sample_measures import SampleMeasures
        >>> measures = SampleMeasures(supa.simulate(200, "standard", seed=1))
        >>> figures = measures(supa.simulate(200, "standard", seed=2))  # stands for a sample of a model
        >>> sorted(figures), 0.9 < figures["width ratio"]["num_hits"] < 1.1
        (['coverage', 'sample', 'width ratio'], True)
    """

    def __init__(self, true: Showers) -> None:
        self._true = true

    def __call__(self, sample: Showers) -> Figures:
        """Measure a sample.

        Args:
            sample: The sample, with the config of the true showers.

        Returns:
            ``sample``: largest absolute pull of a mean against its exact expectation, largest absolute pull of a
            standard deviation against the true one, and area under the ROC curve of a classifier; a figure is missing
            if it has no closed form, or without scikit-learn. ``width ratio``: standard deviations over true ones.
            ``coverage``: fraction of the true showers that have a sampled one in their neighbourhood, for all showers
            and in quarters of the incident energies in ascending order.
        """
        comparison = compare(self._true, sample, repeats=19, multivariate=False)
        true, generated = comparison.statistics["true"].columns, comparison.statistics["generated"].columns
        names = [name for name in true if name in generated and name.split(",")[0] in WIDTHS]
        ratios: dict[str, float] = {}
        pulls: list[float] = []
        for name in names:
            one, other = _width(true[name]), _width(generated[name])
            if one[0] > 0:
                ratios[name] = other[0] / one[0]
                pulls.append(abs(other[0] - one[0]) / math.hypot(one[1], other[1]))
        of_means = [abs(pull.generated_pull) for pull in comparison.pulls if math.isfinite(pull.generated_pull)]
        found = {"largest_width_pull": max(pulls)} if pulls else {}
        if of_means:
            found["largest_pull"] = max(of_means)
        features = [rows[:_MOST_JUDGED] for rows in observables_of(comparison)]
        if (area := auc_of(*features)) is not None:
            found["auc"] = area
        return {"sample": found, "width ratio": ratios, "coverage": _coverage(true, generated, names)}


def _width(values: FloatArray) -> tuple[float, float]:
    """Return the standard deviation of the defined values, and its standard error; 0 for few values."""
    defined = values[~np.isnan(values)]
    if len(defined) < _FEWEST_DEFINED:
        return 0.0, 0.0
    squares = np.square(defined - defined.mean())
    width = float(np.sqrt(squares.mean()))
    return width, float(squares.std() / (2 * width * np.sqrt(len(defined)))) if width > 0 else 0.0


def _coverage(true: dict[str, FloatArray], generated: dict[str, FloatArray], names: list[str]) -> dict[str, float]:
    edges = np.quantile(true[_ENERGY], np.arange(1, _ENERGY_BINS) / _ENERGY_BINS)
    samples = [np.column_stack([columns[name] for name in names]) for columns in (true, generated)]
    bins = [np.searchsorted(edges, columns[_ENERGY]) for columns in (true, generated)]
    found = {"all": _covered(*samples)}
    if len(np.unique(bins[0])) == _ENERGY_BINS:
        for number in range(_ENERGY_BINS):
            inside = [rows[of_rows == number] for rows, of_rows in zip(samples, bins, strict=True)]
            found[f"quarter {number}"] = _covered(*inside)
    return found


def _covered(true: FloatArray, generated: FloatArray) -> float:
    if not len(generated):
        return 0.0
    return neighbour_scores(true[:_MOST_JUDGED], generated[:_MOST_JUDGED]).coverage.value

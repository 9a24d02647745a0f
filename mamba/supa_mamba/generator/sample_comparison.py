"""Comparison of sampled showers with true ones during the training of a generator."""

import copy
import math
from collections.abc import Sequence

import numpy as np

from supa import Comparison, ShowerConfig, Showers, compare
from supa.arrays import FloatArray
from supa.checks import check_int
from supa.distances import classifier_auc
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.sampler import sample_showers

_FEWEST_SHOWERS = 50  # of a comparison
_MOST_SHOWERS = 2_000
_SEED = 0x2545F4914F6CDD1D
"""Arbitrary constant, which separates the seed of the samples from those of true showers."""

_ENERGY = "response"
"""The energy of the hits over the incident energy, which is 1 up to rounding in true and in sampled showers."""


class SampleComparison:
    """Sample showers from a generator, and compare them with validation showers.

    Args:
        valid: Validation showers. At most 2,000 of each config are used.
        every: Number of epochs from one comparison to the next.
        seed: Random seed of the samples.

    Raises:
        ValueError: If there are fewer than 50 showers of a config.

    Example:
        >>> import supa
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator
        >>> from supa_mamba.generator.sample_comparison import SampleComparison
        >>> showers = supa.simulate(60, supa.ShowerConfig(num_slices=10, readout_layers=((6, 9),)), seed=1)
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), HitCoding.fit(showers))  # untrained
        >>> figures = SampleComparison([showers], every=1, seed=0).figures(model)
        >>> figures["largest_pull"] > 5
        True
    """

    def __init__(self, valid: Sequence[Showers], *, every: int, seed: int) -> None:
        self._every = check_int(1, 10**6, "compare_every", every)
        by_config: dict[ShowerConfig, list[Showers]] = {}
        for part in valid:
            if len(part):
                by_config.setdefault(part.config, []).append(part)
        self._valid = [Showers.concatenate(parts)[:_MOST_SHOWERS] for parts in by_config.values()]
        self._seed = seed ^ _SEED
        fewest = min(map(len, self._valid))
        if fewest < _FEWEST_SHOWERS:
            raise ValueError(
                f"compare_every (--compare-every): a comparison of samples needs at least {_FEWEST_SHOWERS} validation "
                f"showers of each config, but there are {fewest}; provide more showers."
            )

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Return whether showers are compared after an epoch.

        Args:
            epoch: Number of the epoch, from 0.
            epochs: Maximum number of epochs, the last of which is compared.

        Returns:
            True if the epoch is one of those to compare.
        """
        return (epoch + 1) % self._every == 0 or epoch + 1 == epochs

    def figures(self, model: ShowerGenerator) -> dict[str, float]:
        """Compare samples of a model with the validation showers.

        Args:
            model: The generator, on whose device the showers are sampled.

        Returns:
            ``largest_pull``: largest absolute pull of a mean against its exact expectation; ``classifier_auc``: area
            under the ROC curve of a classifier of all observables except the response. With several configs, the
            largest values. A figure is missing if it has no closed form, or without scikit-learn.
        """
        model = copy.deepcopy(model).eval()
        found: dict[str, list[float]] = {}
        for part in self._valid:
            sample = sample_showers(model, part.config, len(part), seed=self._seed)
            comparison = compare(part, sample, repeats=19, multivariate=False)
            # A constant observable has no standard error.
            pulls = [abs(pull.generated_pull) for pull in comparison.pulls if math.isfinite(pull.generated_pull)]
            if pulls:
                found.setdefault("largest_pull", []).append(max(pulls))
            if (area := auc_of(*observables_of(comparison))) is not None:
                found.setdefault("classifier_auc", []).append(area)
        return {name: max(values) for name, values in found.items()}


def observables_of(comparison: Comparison) -> list[FloatArray]:
    """Return the observables of showers that a classifier compares: all except the response.

    Args:
        comparison: Comparison of two samples.

    Returns:
        (n, k) observables of the true and of the generated sample.
    """
    true, generated = comparison.statistics["true"].columns, comparison.statistics["generated"].columns
    names = [name for name in true if name in generated and name != _ENERGY]
    return [np.column_stack([columns[name] for name in names]) for columns in (true, generated)]


def auc_of(true: FloatArray, generated: FloatArray) -> float | None:
    """Return the area under the ROC curve of a classifier, if there is one.

    Args:
        true: (n, k) observables of true showers.
        generated: (m, k) observables of generated showers.

    Returns:
        The area, or None without scikit-learn.
    """
    try:
        return classifier_auc(true, generated).auc
    except ValueError as error:
        if "scikit-learn" not in str(error):
            raise
        return None

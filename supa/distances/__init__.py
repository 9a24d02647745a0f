"""Distances between true and generated showers, for single observables and for many features together."""

from supa.distances.classifier import ClassifierResult, classifier_auc
from supa.distances.frechet import frechet_distance, frechet_gaussian
from supa.distances.histograms import edges_of, separation, separation_estimate
from supa.distances.mmd import kernel_distance
from supa.distances.one_dimensional import (
    KolmogorovSmirnov,
    PermutationResult,
    WassersteinResult,
    kolmogorov_smirnov,
    permutation_test,
    wasserstein,
    wasserstein_distances,
)
from supa.distances.precision_recall import NeighbourScores, neighbour_scores
from supa.distances.reweighting import CalibrationBin, DensityRatio, density_ratio
from supa.distances.samples import Estimate, standardised

__all__ = [
    "CalibrationBin",
    "ClassifierResult",
    "DensityRatio",
    "Estimate",
    "KolmogorovSmirnov",
    "NeighbourScores",
    "PermutationResult",
    "WassersteinResult",
    "classifier_auc",
    "density_ratio",
    "edges_of",
    "frechet_distance",
    "frechet_gaussian",
    "kernel_distance",
    "kolmogorov_smirnov",
    "neighbour_scores",
    "permutation_test",
    "separation",
    "separation_estimate",
    "standardised",
    "wasserstein",
    "wasserstein_distances",
]

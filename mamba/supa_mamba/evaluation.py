"""Evaluation of encoders against baselines and the Bayes-optimal estimate."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from supa import ShowerConfig
from supa.arrays import Array, FloatArray, IntArray
from supa.bins import MOST_SEPARATE, distinct_bins
from supa.checks import check_int
from supa.observables.principal_axis import principal_axis_frame
from supa.posterior import energy_posterior
from supa_datasets.loaders.source import ShowerSource
from supa_learning.count_baseline import CountBaseline
from supa_learning.metrics import confusion_matrix
from supa_mamba.encoder import ShowerEncoder
from supa_mamba.packed_showers import TaskEncoding, packed_showers
from supa_mamba.prediction import check_symmetry, predict_mean

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "model": "model",
        "constant": "constant",
        "hit_count": "number of hits",
        "axis_side": "side of the axis",
        "bayes": "Bayes-optimal",
    }
)
"""Estimators, and their names in tables and plots."""

MOST_ROTATIONS = 1000
"""Largest number of rotations."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Predictions of an encoder and of baselines for some showers, with the targets.

    The estimators are ``"model"``, the encoder; ``"constant"``, the most frequent class or the mean; ``"hit_count"``,
    a prediction from the number of hits; ``"axis_side"``, which divides the hits of two primaries along the principal
    axis; and ``"bayes"``, the Bayes-optimal estimate of the energy. Only those that apply to the target are present.

    Args:
        encoding: Conversion of showers into tensors and targets.
        target: (showers,) or (hits,) true classes, or natural logarithms of the energy in GeV.
        predictions: Predictions of each estimator, the model first. Each array has the shape of ``target``.
        counts: (showers,) number of hits of each shower.
        bayes_std: (showers,) posterior standard deviation of ln E given the particle tree, or None if it is unknown.
        unseen_configs: Shower configs that do not occur among the training showers.
        rotations: Number of rotations over which the predictions of the model are averaged.

    Example:
        >>> import supa, supa_mamba
        >>> showers = supa.simulate(200, "critical", seed=1, record="particles")
        >>> config = supa_mamba.TrainingConfig(target="incident_energy", d_model=8, n_layer=1, epochs=1)
        >>> task = supa_mamba.train(showers, config).task
        >>> evaluation = supa_mamba.evaluate(task.encoder, task.encoding, task.baseline, showers, split="all")
        >>> evaluation
        <Evaluation of incident_energy: 200 showers, predictions of model, constant, hit_count, bayes>
        >>> evaluation.error("bayes").shape
        (200,)
    """

    encoding: TaskEncoding
    target: Array
    predictions: dict[str, FloatArray]
    counts: IntArray
    bayes_std: FloatArray | None = None
    unseen_configs: tuple[ShowerConfig, ...] = ()
    rotations: int = 1

    def __repr__(self) -> str:
        showers = "1 shower" if len(self.counts) == 1 else f"{len(self.counts):,} showers"
        return f"<Evaluation of {self.encoding.name}: {showers}, predictions of {', '.join(self.predictions)}>"

    def correct(self, estimator: str) -> FloatArray:
        """Return which predictions are correct.

        The two primaries of a shower are interchangeable. For each shower the assignment with more correct hits counts.

        Args:
            estimator: Name of the estimator.

        Returns:
            Array of the shape of ``target``, 1 for a correct and 0 for a wrong prediction.
        """
        right: FloatArray = np.equal(self.predictions[estimator], self.target).astype(np.float64)
        if self.encoding.name != "primary":
            return right
        shower = np.arange(len(self.counts)).repeat(self.counts)
        share = np.bincount(shower, right, len(self.counts)) / np.maximum(self.counts, 1)
        return np.asarray(np.where((share < 0.5)[shower], 1 - right, right))

    def accuracy(self, estimator: str) -> float:
        """Return the fraction of correct predictions, as defined by `correct`.

        Args:
            estimator: Name of the estimator.

        Returns:
            Accuracy from 0 to 1.
        """
        return float(self.correct(estimator).mean())

    def confusion(self) -> IntArray:
        """Return the confusion matrix of the model.

        Returns:
            (classes, classes) int64 counts, with the true class in the row and the predicted class in the column.
        """
        target, predicted = (
            torch.from_numpy(part.astype(np.int64)) for part in (self.target, self.predictions["model"])
        )
        return confusion_matrix(target, predicted, len(self.encoding.classes)).numpy()

    def error(self, estimator: str) -> FloatArray:
        """Return the errors of a regression.

        Args:
            estimator: Name of the estimator.

        Returns:
            (showers,) prediction minus target, in ln E.
        """
        return np.asarray(self.predictions[estimator] - self.target.astype(np.float64))

    def figures(self) -> dict[str, Any]:
        """Summarise the evaluation.

        Returns:
            Dictionary of plain values. For classes: the accuracy of each estimator. For energies: the bias, the
            resolution (standard deviation of the error) and the root mean square error of ln E of each estimator, and
            the Bayes-optimal root mean square error if it is known.
        """
        facts: dict[str, Any] = {"target": self.encoding.name}
        if self.encoding.classes:
            accuracies = {estimator: self.accuracy(estimator) for estimator in self.predictions}
            return facts | {"showers": len(self.counts), "accuracy": accuracies}
        return facts | self._errors(np.arange(len(self.counts)))

    def by_energy(self, bins: int) -> list[dict[str, Any]]:
        """Summarise the errors of energies in bins of the true energy.

        Args:
            bins: Maximum number of bins with about equal numbers of showers. There are fewer if a bin would hold fewer
                than ten showers. If there are at most 20 different energies, each energy has its own bin.

        Returns:
            One dictionary per bin in ascending order: the values of `figures` and, under ``"GeV"``, the lowest and the
            highest energy.
        """
        parts = distinct_bins(self.target, bins, least=10, separate=MOST_SEPARATE)
        ends = [np.exp(self.target[part[[0, -1]]].astype(np.float64)).tolist() for part in parts]
        return [{"GeV": end, **self._errors(part)} for end, part in zip(ends, parts, strict=True)]

    def _errors(self, part: IntArray) -> dict[str, Any]:
        errors = {estimator: self.error(estimator)[part] for estimator in self.predictions}
        facts = {
            "showers": len(part),
            "bias": {estimator: float(error.mean()) for estimator, error in errors.items()},
            "resolution": {estimator: float(error.std()) for estimator, error in errors.items()},
            "rms": {estimator: root_mean_square(error) for estimator, error in errors.items()},
        }
        if self.bayes_std is not None:
            facts["bayes_rms"] = root_mean_square(self.bayes_std[part])
        return facts


def root_mean_square(values: FloatArray) -> float:
    """Return the root mean square.

    Args:
        values: (n,) values.

    Returns:
        The root mean square.
    """
    return float(np.sqrt(np.square(values).mean()))


def evaluate(
    encoder: ShowerEncoder,
    encoding: TaskEncoding,
    baseline: CountBaseline,
    showers: Any,
    *,
    split: str = "test",
    device: str | torch.device = "cpu",
    rotations: int = 1,
) -> Evaluation:
    """Evaluate an encoder on showers and compare it with baselines.

    Args:
        encoder: The encoder. It is moved to the device.
        encoding: Conversion of showers into tensors and targets, fitted to the training showers.
        baseline: Baseline that predicts from the number of hits, fitted to the training showers.
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these.
        split: Split to evaluate: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``.
        device: Device of the computation.
        rotations: Number of rotations about the axis over which the predictions of the encoder are averaged. Rotated
            showers are as probable as the showers themselves, but an encoder learns this only approximately.

    Returns:
        The evaluation. It includes the Bayes-optimal estimate if the target is the incident energy and the showers
        were simulated with ``record="particles"``.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the split is empty, the showers cannot be used for the task, or there are several rotations of
            showers with a preferred azimuth.

    Example:
        >>> import supa, supa_mamba
        >>> showers = supa.simulate(200, "critical", seed=1, record="particles")
        >>> config = supa_mamba.TrainingConfig(target="incident_energy", d_model=8, n_layer=1, epochs=1)
        >>> task = supa_mamba.train(showers, config).task
        >>> evaluation = supa_mamba.evaluate(task.encoder, task.encoding, task.baseline, showers, rotations=4)
        >>> sorted(evaluation.figures()["rms"])  # root mean square errors of ln E on the test split
        ['bayes', 'constant', 'hit_count', 'model']
    """
    check_int(1, MOST_ROTATIONS, "rotations", rotations)
    source = ShowerSource(showers)
    packed = packed_showers(source.parts, split, encoding)
    if rotations > 1:
        check_symmetry(source.configs(packed.number))
    outputs = predict_mean(encoder.to(device).eval(), encoding, packed.to(device), rotations)
    target: Array = packed.target.numpy()
    if encoding.classes:
        model = outputs.argmax(1).astype(np.float64)
    else:
        model = outputs[:, 0] * encoding.std + encoding.mean
        target = target.astype(np.float64) * encoding.std + encoding.mean
    predictions = {"model": model, "constant": np.full(len(target), baseline.constant)}
    if encoding.task.level == "shower":
        predictions["hit_count"] = baseline.predict(packed.counts)
    if encoding.name == "primary":
        points = encoding.normalisation.invert(packed.points.numpy().astype(np.float64))
        predictions["axis_side"] = sides(points[:, 0], points[:, 1], points[:, 3], packed.counts)
    bayes_std = None
    if encoding.name == "incident_energy" and _has_posterior(source):
        predictions["bayes"], bayes_std = energy_posterior(source.take(packed.number).showers)
    unseen = tuple(config for config in source.configs(packed.number) if config not in encoding.configs)
    return Evaluation(encoding, target, predictions, packed.counts, bayes_std, unseen, rotations)


def sides(x: FloatArray, y: FloatArray, energy: FloatArray, counts: IntArray) -> FloatArray:
    """Divide the hits of each shower at its centre along its principal transverse axis.

    Args:
        x: (hits,) x coordinates of the hits, one shower after another.
        y: (hits,) y coordinates.
        energy: (hits,) energies.
        counts: (showers,) number of hits of each shower.

    Returns:
        (hits,) float64, 1 on one side of the centre and 0 on the other.
    """
    shower = np.arange(len(counts)).repeat(counts)
    u, _ = principal_axis_frame(x, y, energy, shower, len(counts))
    return (u > 0).astype(np.float64)


def _has_posterior(source: ShowerSource) -> bool:
    config = source.runs[0].config
    known = source.has_particles and config.critical_energy > 0 and config.spectrum.law == "log-uniform"
    return known and all(run.config == config for run in source.runs)

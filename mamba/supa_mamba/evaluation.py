"""Evaluation of encoders, beside baselines and the Bayes-optimal estimate."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from supa import ShowerConfig
from supa.arrays import Array, FloatArray, IntArray
from supa.bins import MOST_SEPARATE, distinct_bins
from supa.observables.principal_axis import principal_axis_frame
from supa.posterior import energy_posterior
from supa_datasets.loaders.source import ShowerSource
from supa_learning.count_baseline import CountBaseline
from supa_learning.metrics import confusion_matrix
from supa_mamba.encoder import ShowerEncoder
from supa_mamba.packed_showers import PackedShowers, TaskEncoding, packed_showers

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "model": "model",
        "constant": "constant",
        "hit_count": "number of hits",
        "axis_side": "side of the axis",
        "bayes": "Bayes-optimal",
    }
)
"""The estimators, and how tables and pictures call them."""

_BLOCK_SHOWERS = 512
"""Showers that are predicted together."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Predictions of several estimators for some showers, and the targets.

    Args:
        encoding: how showers become tensors and targets.
        target: (showers,) or (hits,) true classes, or natural logarithms of GeV.
        predictions: by estimator (a key of ``LABELS``), the model first: arrays like ``target``.
        counts: (showers,) number of hits of each shower.
        bayes_std: (showers,) posterior standard deviation of ln E given the whole tree; None where it is not known.
        unseen_configs: configs of these showers that no training shower had.
    """

    encoding: TaskEncoding
    target: Array
    predictions: dict[str, FloatArray]
    counts: IntArray
    bayes_std: FloatArray | None = None
    unseen_configs: tuple[ShowerConfig, ...] = ()

    def __repr__(self) -> str:
        showers = "1 shower" if len(self.counts) == 1 else f"{len(self.counts):,} showers"
        return f"<Evaluation of {self.encoding.name}: {showers}, predictions of {', '.join(self.predictions)}>"

    def correct(self, estimator: str) -> FloatArray:
        """Return which predictions are correct.

        Args:
            estimator: name of the estimator.

        Returns:
            Like ``target``, 1 or 0. The two primaries of a shower have no order: the assignment that makes more of its
            hits correct counts.
        """
        right: FloatArray = np.equal(self.predictions[estimator], self.target).astype(np.float64)
        if self.encoding.name != "primary":
            return right
        shower = np.arange(len(self.counts)).repeat(self.counts)
        share = np.bincount(shower, right, len(self.counts)) / np.maximum(self.counts, 1)
        return np.asarray(np.where((share < 0.5)[shower], 1 - right, right))

    def accuracy(self, estimator: str) -> float:
        """Return the fraction of correct predictions; up to exchange for the primaries of hits.

        Args:
            estimator: name of the estimator.

        Returns:
            From 0 to 1.
        """
        return float(self.correct(estimator).mean())

    def confusion(self) -> IntArray:
        """Count the model's predictions.

        Returns:
            (classes, classes) int64, by true class (row) and predicted class (column).
        """
        target, predicted = (
            torch.from_numpy(part.astype(np.int64)) for part in (self.target, self.predictions["model"])
        )
        return confusion_matrix(target, predicted, len(self.encoding.classes)).numpy()

    def error(self, estimator: str) -> FloatArray:
        """Return the errors of values.

        Args:
            estimator: name of the estimator.

        Returns:
            (showers,) prediction minus target.
        """
        return np.asarray(self.predictions[estimator] - self.target.astype(np.float64))

    def figures(self) -> dict[str, Any]:
        """Summarise the evaluation.

        Returns:
            Plain values: the accuracy of each estimator; or bias, resolution (standard deviation of the error) and root
            mean square error of ln E of each, and the Bayes-optimal root mean square error.
        """
        facts: dict[str, Any] = {"target": self.encoding.name}
        if self.encoding.classes:
            accuracies = {estimator: self.accuracy(estimator) for estimator in self.predictions}
            return facts | {"showers": len(self.counts), "accuracy": accuracies}
        return facts | self._errors(np.arange(len(self.counts)))

    def by_energy(self, bins: int) -> list[dict[str, Any]]:
        """Summarise the errors of energies in bins of the true energy, from low to high.

        Args:
            bins: number of bins of about equal size, at most; fewer where a bin would hold fewer than ten showers.
                Where there are at most 20 different energies, each has a bin.

        Returns:
            For each bin what ``figures`` returns, and its lowest and highest energy in GeV.
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
        values: (n,) numbers.

    Returns:
        The root.
    """
    return float(np.sqrt(np.square(values).mean()))


@torch.no_grad()
def predict(encoder: ShowerEncoder, showers: PackedShowers) -> FloatArray:
    """Predict with an encoder.

    Args:
        encoder: the encoder, on the device of the showers.
        showers: the showers.

    Returns:
        (units, outputs) float64.
    """
    parts = [encoder(batch.points, batch.offset) for batch in showers.batches(np.arange(len(showers)), _BLOCK_SHOWERS)]
    return torch.cat(parts).double().cpu().numpy()


def evaluate(
    encoder: ShowerEncoder,
    encoding: TaskEncoding,
    baseline: CountBaseline,
    showers: Any,
    *,
    split: str = "test",
    device: str | torch.device = "cpu",
) -> Evaluation:
    """Evaluate an encoder on showers, beside baselines.

    Args:
        encoder: the encoder; it is moved to the device.
        encoding: how showers become tensors and targets.
        baseline: predictions from the number of hits.
        showers: Showers, a ShowerFile, a path, or a list of these.
        split: the split to evaluate: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``.
        device: the device.

    Returns:
        The evaluation. It includes the Bayes-optimal estimate if the target is the energy and the particles are
        recorded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the split is empty, or the showers cannot be used for the task.
    """
    source = ShowerSource(showers)
    packed = packed_showers(source.parts, split, encoding)
    outputs = predict(encoder.to(device).eval(), packed.to(device))
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
    return Evaluation(encoding, target, predictions, packed.counts, bayes_std, unseen)


def sides(x: FloatArray, y: FloatArray, energy: FloatArray, counts: IntArray) -> FloatArray:
    """Divide the hits of each shower by their side of its centre along its principal axis.

    Args:
        x: (hits,) x of the hits of all showers behind each other.
        y: (hits,) their y.
        energy: (hits,) their energies.
        counts: (showers,) number of hits of each shower.

    Returns:
        (hits,) 0 or 1.
    """
    shower = np.arange(len(counts)).repeat(counts)
    u, _ = principal_axis_frame(x, y, energy, shower, len(counts))
    return (u > 0).astype(np.float64)


def _has_posterior(source: ShowerSource) -> bool:
    config = source.runs[0].config
    known = source.has_particles and config.critical_energy > 0 and config.spectrum.law == "log-uniform"
    return known and all(run.config == config for run in source.runs)

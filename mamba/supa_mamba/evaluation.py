"""How good an encoder is on showers, beside answers that hardly look at them and beside the best that could be."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from supa import ShowerConfig
from supa.arrays import Array, FloatArray, IntArray
from supa.bins import MOST_SEPARATE, distinct_bins
from supa.observables.principal_axis import principal_axis_frame
from supa.posterior import energy_posterior
from supa_datasets.loaders.source import ShowerSource
from supa_mamba.encoder import ShowerEncoder
from supa_mamba.rivals import Rivals
from supa_mamba.showers import PackedShowers, Reading, packed_showers

_BLOCK_SHOWERS = 512
"""Showers that are predicted together."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Answers for some showers, and the truth.

    Args:
        reading: what the numbers mean.
        target: (showers,) or (hits,) true classes, or natural logarithms of GeV.
        answers: by who gives them, the model first: arrays like ``target``.
        counts: (showers,) number of hits of each shower.
        least: (showers,) standard deviation of ln E that is left to who knows the whole tree; None where that is not
            known.
        foreign: configs of these showers that the encoder has not learnt from.
    """

    reading: Reading
    target: Array
    answers: dict[str, FloatArray]
    counts: IntArray
    least: FloatArray | None = None
    foreign: tuple[ShowerConfig, ...] = ()

    def __repr__(self) -> str:
        showers = "1 shower" if len(self.counts) == 1 else f"{len(self.counts):,} showers"
        return f"<Evaluation of {self.reading.task}: {showers}, answers of {', '.join(self.answers)}>"

    def right(self, who: str) -> FloatArray:
        """Tell which answers are right.

        Args:
            who: who gives them.

        Returns:
            Like ``target``, 1 or 0; for the primaries of hits under the names that make more of a shower's hits right.
        """
        right: FloatArray = np.equal(self.answers[who], self.target).astype(np.float64)
        if self.reading.task != "primary":
            return right
        shower = np.arange(len(self.counts)).repeat(self.counts)
        share = np.bincount(shower, right, len(self.counts)) / np.maximum(self.counts, 1)
        return np.asarray(np.where((share < 0.5)[shower], 1 - right, right))

    def accuracy(self, who: str) -> float:
        """Give the share of right answers; up to exchange for the primaries of hits.

        Args:
            who: who gives them.

        Returns:
            From 0 to 1.
        """
        return float(self.right(who).mean())

    def confusion(self) -> IntArray:
        """Count the model's answers.

        Returns:
            (classes, classes) int64, by true class (row) and answer (column).
        """
        k = len(self.reading.classes)
        pairs = k * self.target.astype(np.int64) + self.answers["model"].astype(np.int64)
        return np.bincount(pairs, minlength=k * k).reshape(k, k)

    def error(self, who: str) -> FloatArray:
        """Give the errors of values.

        Args:
            who: who gives them.

        Returns:
            (showers,) answer minus truth.
        """
        return np.asarray(self.answers[who] - self.target.astype(np.float64))

    def figures(self) -> dict[str, Any]:
        """Sum everything up.

        Returns:
            Plain values: accuracies by who answers; or bias, resolution (standard deviation of the error) and root mean
            square of ln E by who answers, and the least root mean square that there can be.
        """
        facts: dict[str, Any] = {"target": self.reading.task}
        if self.reading.classes:
            accuracies = {who: self.accuracy(who) for who in self.answers}
            return facts | {"showers": len(self.counts), "accuracy": accuracies}
        return facts | self._errors(np.arange(len(self.counts)))

    def by_energy(self, bins: int) -> list[dict[str, Any]]:
        """Sum the errors of energies up in bins of the true energy, from low to high.

        Args:
            bins: number of bins of about equal size, at most; fewer where a bin would hold fewer than ten showers.
                Where there are at most 20 different energies, each has a bin.

        Returns:
            Of each bin what ``figures`` gives, and its least and greatest energy in GeV.
        """
        parts = distinct_bins(self.target, bins, least=10, separate=MOST_SEPARATE)
        ends = [np.exp(self.target[part[[0, -1]]].astype(np.float64)).tolist() for part in parts]
        return [{"GeV": end, **self._errors(part)} for end, part in zip(ends, parts, strict=True)]

    def _errors(self, part: IntArray) -> dict[str, Any]:
        errors = {who: self.error(who)[part] for who in self.answers}
        facts = {
            "showers": len(part),
            "bias": {who: float(error.mean()) for who, error in errors.items()},
            "resolution": {who: float(error.std()) for who, error in errors.items()},
            "rms": {who: root_mean_square(error) for who, error in errors.items()},
        }
        if self.least is not None:
            facts["least_rms"] = root_mean_square(self.least[part])
        return facts


def root_mean_square(values: FloatArray) -> float:
    """Give the root of the mean square.

    Args:
        values: (n,) numbers.

    Returns:
        The root.
    """
    return float(np.sqrt(np.square(values).mean()))


@torch.no_grad()
def predicted(encoder: ShowerEncoder, showers: PackedShowers) -> FloatArray:
    """Let an encoder answer.

    Args:
        encoder: on the device of the showers.
        showers: read as it was taught.

    Returns:
        (units, outputs) float64.
    """
    parts = [encoder(batch.points, batch.offset) for batch in showers.batches(np.arange(len(showers)), _BLOCK_SHOWERS)]
    return torch.cat(parts).double().cpu().numpy()


def evaluated(
    encoder: ShowerEncoder,
    reading: Reading,
    rivals: Rivals,
    showers: Any,
    *,
    split: str = "test",
    device: str | torch.device = "cpu",
) -> Evaluation:
    """Evaluate an encoder on showers.

    Args:
        encoder: the encoder; it is moved to the device.
        reading: how showers are read for it.
        rivals: who hardly looks at them.
        showers: Showers, a ShowerFile, a path, or a list of these.
        split: which of them.
        device: where to compute.

    Returns:
        The evaluation; with the ideal, where energies are asked for and the particles are recorded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the split is empty, or the showers cannot be used for the task.
    """
    source = ShowerSource(showers)
    packed = packed_showers(source.parts, split, reading)
    outputs = predicted(encoder.to(device).eval(), packed.to(device))
    target: Array = packed.target.numpy()
    if reading.classes:
        model = outputs.argmax(1).astype(np.float64)
    else:
        model = outputs[:, 0] * reading.spread + reading.mean
        target = target.astype(np.float64) * reading.spread + reading.mean
    answers = {"model": model}
    answers["one class for all" if reading.classes else "one value for all"] = np.full(len(target), rivals.constant)
    if reading.about.level == "shower":
        answers["number of hits"] = rivals.of_counts(packed.counts)
    if reading.task == "primary":
        points = reading.normalisation.invert(packed.points.numpy().astype(np.float64))
        answers["side of the axis"] = sides(points[:, 0], points[:, 1], points[:, 3], packed.counts)
    least = None
    if reading.task == "incident_energy" and _tree_tells(source):
        answers["whole tree (truth)"], least = energy_posterior(source.take(packed.number).showers)
    foreign = tuple(config for config in source.configs(packed.number) if config not in reading.configs)
    return Evaluation(reading, target, answers, packed.counts, least, foreign)


def sides(x: FloatArray, y: FloatArray, energy: FloatArray, counts: IntArray) -> FloatArray:
    """Part the hits of each shower by their side of its centre, along the axis where its energy spreads most.

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


def _tree_tells(source: ShowerSource) -> bool:
    config = source.runs[0].config
    known = source.has_particles and config.critical_energy > 0 and config.spectrum.law == "log-uniform"
    return known and all(run.config == config for run in source.runs)

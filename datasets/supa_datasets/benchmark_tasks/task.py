"""Benchmark tasks by name: showers that a config, a seed and ranges of indices define."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from supa import CALOGAN, Grid, ShowerConfig, Showers, preset, simulate
from supa.arrays import Array, FloatArray
from supa.checks import check_int, check_name
from supa_datasets.benchmark_tasks.definitions import benchmark_names, definitions

Kind = Literal["generation", "labelling", "regression", "classification"]
Part = Literal["train", "validation", "test"]

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class BenchmarkTask:
    """A task whose showers are defined by a config, a seed and ranges of indices, so that nobody has to send them.

    `benchmark_task` returns the tasks of this package by name. The page *Benchmark tasks* of the documentation
    describes each of them. A change of a task that changes a score increases its version.

    Args:
        name: Name of the task.
        version: Version of the task. Scores of different versions are not comparable.
        title: Description in one line.
        difficulty: 1 (easy) to 4 (hard).
        kind: ``"generation"`` of showers; or prediction: ``"labelling"`` (of hits), ``"regression"`` or
            ``"classification"`` (of showers).
        form: Form of the data: ``"points"``, ``"images"`` or ``"graphs"``.
        predicted: What a model generates or predicts.
        num_showers: Number of showers of a standard score.
        rank_by: Name of the metric that orders the scores of a table.
        config: Physics of the showers.
        record: ``"particles"`` if the showers include their trees, else ``"hits"``.
        seed: Random seed of the showers.
        train: Indices of the showers for training.
        validation: Indices of the showers for validation.
        test: Indices of the showers that a score uses.
        conditions: Indices of the showers whose incident energies are the conditions of a generated sample. None if all
            showers have the same energy, and for predictions.
        floor: Indices of true showers that define the noise floor of a score. None for predictions.
        metrics: Pairs of the name of a metric and the largest number of showers of each sample that it uses.

    Example:
        >>> import supa
        >>> from supa_datasets import benchmark_task
        >>> task = benchmark_task("standard-points")
        >>> task.config == supa.preset("standard"), task.kind, len(task.train), len(task.test)
        (True, 'generation', 100000, 20000)
        >>> task.simulate("train", num=1000)
        <Showers: 1,000 of standard at 65.0 GeV, seed 202205012; 72,030 hits, 72.0 per shower>
    """

    name: str
    version: int
    title: str
    difficulty: int
    kind: Kind
    form: Literal["points", "images", "graphs"]
    predicted: str
    num_showers: int
    rank_by: str
    config: ShowerConfig
    record: Literal["hits", "particles"]
    seed: int
    train: range
    validation: range
    test: range
    conditions: range | None
    floor: range | None
    metrics: tuple[tuple[str, int], ...]

    @property
    def grid(self) -> Grid | None:
        """Cells of the images; None for other forms."""
        return CALOGAN if self.form == "images" else None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their numbers; empty if the task does not predict classes."""
        if self.kind == "labelling":
            return ("first primary", "second primary")
        if self.kind == "classification":
            return tuple(f"{energy:g} GeV" for energy in self.config.spectrum.values)
        return ()

    def simulate(self, part: Part, num: int | None = None, *, skip: int = 0) -> Showers:
        """Simulate showers of the task.

        Args:
            part: ``"train"``, ``"validation"`` or ``"test"``.
            num: Number of showers. By default all showers of the part after the skipped ones.
            skip: Number of showers at the start of the part to leave out.

        Returns:
            The showers, with their trees if ``record`` is ``"particles"``.

        Raises:
            ValueError: If there is no such part, or if the part does not have this many showers.
        """
        check_name(PARTS, "a part of a task", part)
        return self.simulate_range(getattr(self, part), num, skip=skip)

    def simulate_range(self, indices: range, num: int | None = None, *, skip: int = 0) -> Showers:
        """Simulate the showers of a range of indices.

        Args:
            indices: Indices of showers, such as ``floor``.
            num: Number of showers. By default all showers of the range after the skipped ones.
            skip: Number of showers at the start of the range to leave out.

        Returns:
            The showers.

        Raises:
            ValueError: If the range does not have this many showers.
        """
        skip = check_int(0, len(indices), "skip", skip)
        left = len(indices) - skip
        num = left if num is None else check_int(0, left, "num", num, "in this range of the task")
        return simulate(num, self.config, seed=self.seed, first=indices.start + skip, record=self.record)

    def incident_energies(self, num: int | None = None) -> FloatArray:
        """Return the incident energies for which a generation task expects showers.

        Args:
            num: Number of showers of the generated sample. By default ``num_showers``.

        Returns:
            (num,) float64 incident energy of each shower to generate (GeV).

        Raises:
            ValueError: If there are not this many conditions.
        """
        num = check_int(0, len(self.test), "num", self.num_showers if num is None else num)
        if self.conditions is None:
            return np.full(num, self.config.spectrum.mean)
        return self.simulate_range(self.conditions, num).incident_energy

    def targets(self, showers: Showers) -> Array:
        """Return what a model predicts for showers of the task.

        Args:
            showers: Showers of the task.

        Returns:
            (hits,) int64 primaries for labelling, (showers,) float64 incident energies (GeV) for regression, or
            (showers,) int64 class numbers for classification.

        Raises:
            ValueError: If the task generates showers.
        """
        if self.kind == "labelling":
            return showers.primary.astype(np.int64)
        if self.kind == "regression":
            return showers.incident_energy
        if self.kind == "classification":
            return np.searchsorted(np.array(self.config.spectrum.values), showers.incident_energy).astype(np.int64)
        raise ValueError(f"The task {self.name} generates showers; it has no targets.")


def benchmark_task(name: str) -> BenchmarkTask:
    """Return a benchmark task.

    Args:
        name: Name of the task, one of `benchmark_names`.

    Returns:
        The task.

    Raises:
        ValueError: If there is no task of this name.

    Example:
        >>> from supa_datasets import benchmark_task
        >>> task = benchmark_task("conditional-points")
        >>> str(task.config.spectrum), task.incident_energies(3).round(2).tolist()
        ('log:1.0:100.0', [1.63, 1.43, 22.91])
        >>> benchmark_task("standard-point")
        Traceback (most recent call last):
        ValueError: 'standard-point' was given, but a benchmark task is one of standard-points, ... Did you mean
        'standard-points'?
    """
    check_name(benchmark_names(), "a benchmark task", name)
    return _from_values(dict(definitions()[name]))


def _from_values(values: dict[str, Any]) -> BenchmarkTask:
    config = preset(values.pop("preset")).replace(**values.pop("changes", {}))
    ranges = {name: range(*ends) for name, ends in values.pop("ranges").items()}
    metrics = tuple(values.pop("metrics").items())
    values |= {"conditions": None, "floor": None, **ranges}
    return BenchmarkTask(**values, config=config, metrics=metrics)

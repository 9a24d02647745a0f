"""Reading of a generated sample, and its checks: number, geometry, incident energies, origin."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from supa import Run, ShowerConfig, Showers
from supa.checks import counted
from supa_datasets.benchmark_tasks.cells import binned
from supa_datasets.benchmark_tasks.fingerprints import shared_showers
from supa_datasets.benchmark_tasks.predictions import is_prediction_file
from supa_datasets.benchmark_tasks.task import PARTS, BenchmarkTask
from supa_datasets.conversion.formats import Choices
from supa_datasets.conversion.registry import source_format
from supa_datasets.conversion.untrusted_input import named_errors

FEWEST_SHOWERS = 200
"""Smallest sample with a score. The metrics of smaller samples have no useful noise floor."""

_GEOMETRY = ("num_slices", "slice_spacing", "readout_layers")
_TOLERANCE = 1e-6
"""Largest relative difference of two equal incident energies, some roundings of float32."""


@dataclass(frozen=True)
class _TaskChoices(Choices):
    """The task provides the physics of files that do not store it."""

    def config_for(self, stored: ShowerConfig | None, default: str = "standard") -> ShowerConfig:
        config = stored or self.config
        return super().config_for(None, default) if config is None else config


def read_sample(task: BenchmarkTask, path: Path) -> Showers:
    """Read a generated sample from a file of any format that can be converted.

    Args:
        task: A task of generation.
        path: Path of the file.

    Returns:
        The showers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or in no known format, or if it has too few or too many showers.
    """
    if not path.is_file():
        raise (
            ValueError(f"{path}: it is not a file.")
            if path.exists()
            else FileNotFoundError(f"{path}: there is no such file.")
        )
    if is_prediction_file(path):
        raise ValueError(f"{path}: it contains predictions, but the task {task.name} needs generated showers.")
    reader = source_format(path, None).reader
    assert reader is not None
    with named_errors(path), reader(path, _TaskChoices(task.config, None, None, lambda _note: None)) as source:
        _check_number(task, source.total)
        return Showers.concatenate(source.chunks)


def check_sample(task: BenchmarkTask, sample: Showers) -> None:
    """Check that a sample can be compared with the test showers of a task.

    Args:
        task: A task of generation.
        sample: The generated showers.

    Raises:
        ValueError: If the number of showers, the geometry or the incident energies are not those of the task, if
            showers were selected, if the sample contains showers of the task itself, if it has weights, or if it was
            refined with test showers.
    """
    _check_number(task, len(sample))
    _check_geometry(task, sample.config)
    _check_origin(task, sample.run, sample)
    _check_refinement(task, sample.run)
    _check_energies(task, sample)
    compared = binned(task, sample)
    for part in PARTS:
        place, number = shared_showers(compared, task, getattr(task, part))
        if number:
            raise ValueError(
                f"{number:,} of the {counted(len(sample), 'shower')} of the sample {'is' if number == 1 else 'are'} in "
                f"the {_name(part)} range of {task.name} (the first is shower {place} of the sample). Copies of known "
                "showers have no score; generate new ones."
            )


def _check_number(task: BenchmarkTask, number: int) -> None:
    if not FEWEST_SHOWERS <= number <= len(task.test):
        raise ValueError(
            f"the sample has {counted(number, 'shower')}, but a score of {task.name} needs {FEWEST_SHOWERS} to "
            f"{len(task.test):,}; the standard number is {task.num_showers:,}"
        )


def _check_geometry(task: BenchmarkTask, config: ShowerConfig) -> None:
    names = ("readout_layers",) if task.form == "images" else _GEOMETRY
    wrong = [
        f"{name} = {getattr(config, name)} instead of {getattr(task.config, name)}"
        for name in names
        if getattr(config, name) != getattr(task.config, name)
    ]
    if wrong:
        raise ValueError(
            f"The sample has another geometry than {task.name}: {', '.join(wrong)}. Build it with the config of the "
            "task: supa.from_hits(task.config, ...)."
        )


def _check_origin(task: BenchmarkTask, run: Run, sample: Showers) -> None:
    if run.keep != "all":
        raise ValueError(
            f"The sample contains selected showers only (keep = {run.keep!r}), but {task.name} compares all showers."
        )
    if run.engine != "cpu" or run.seed != task.seed or run.config != task.config:
        return
    for part in (*PARTS, "conditions", "floor"):
        indices = getattr(task, part)
        if indices and ((sample.index >= indices.start) & (sample.index < indices.stop)).any():
            raise ValueError(
                f"The sample was simulated with the seed {run.seed} of {task.name} and contains indices of its "
                f"{_name(part)} range, {indices.start:,} to {indices.stop - 1:,}. These showers are known; generate "
                "new ones, or simulate with another seed."
            )


def _check_refinement(task: BenchmarkTask, run: Run) -> None:
    refinement = run.refinement
    if refinement is None:
        return
    if refinement.by == "weights":
        raise ValueError(
            "The showers of the sample have weights, which a score does not use. Score a sample that was refined by "
            "rejection or resampling."
        )
    test = task.test
    if run.config == task.config and refinement.used(task.seed, test.start, test.stop - 1):
        raise ValueError(
            f"The sample was refined with test showers of {task.name}: by {refinement}. They cannot judge it; refine "
            "the sample with other showers."
        )


def _name(part: str) -> str:
    return {"train": "training", "floor": "noise floor"}.get(part, part)


def _check_energies(task: BenchmarkTask, sample: Showers) -> None:
    """Compare the incident energies with the conditions. Their order has no influence on a score."""
    expected, given = task.incident_energies(len(sample)), sample.incident_energy
    one, other = np.sort(expected), np.sort(given)
    if np.allclose(one, other, rtol=_TOLERANCE, atol=0):
        return
    if task.conditions is None:
        wrong = np.flatnonzero(~np.isclose(given, expected, rtol=_TOLERANCE, atol=0))
        raise ValueError(
            f"The showers of {task.name} have an incident energy of {expected[0]:g} GeV, but {len(wrong):,} of the "
            f"{len(sample):,} showers of the sample have another one (shower {wrong[0]}: {given[wrong[0]]:g} GeV)."
        )
    wrong = np.flatnonzero(~np.isclose(given, expected, rtol=_TOLERANCE, atol=0))
    low, high = (f"{values.min():.4g} to {values.max():.4g}" for values in (given, expected))
    raise ValueError(
        f"The incident energies of the sample are not the conditions of {task.name}: {len(wrong):,} of {len(sample):,} "
        f"differ (shower {wrong[0]}: {given[wrong[0]]:.6g} GeV instead of {expected[wrong[0]]:.6g}); the sample has "
        f"{low} GeV with a mean of {given.mean():.4g}, the conditions have {high} GeV with a mean of "
        f"{expected.mean():.4g}. Generate one shower for each energy of task.incident_energies({len(sample)})."
    )

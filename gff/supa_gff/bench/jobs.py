"""Jobs of a benchmark and their results."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from supa.checks import format_value


@dataclass(frozen=True)
class Job:
    """Training of a method on one fold, and its test.

    Args:
        dataset: Name of the dataset, one of `supa_datasets.graph_benchmarks.BENCHMARKS`.
        method: Name of the method or baseline.
        conv: Name of the convolution. Empty if the method has none.
        folds: Number of folds.
        fold: Index of the test fold, from 0.
        seed: Random seed of the training. The folds do not depend on it.
        settings: Configuration of the method as JSON from `canonical`. It is part of the identity of the job.
    """

    dataset: str
    method: str
    conv: str
    folds: int
    fold: int
    seed: int
    settings: str = "{}"

    @property
    def row(self) -> str:
        """Name of the method in tables."""
        return f"{self.method} ({self.conv})" if self.conv else self.method


@dataclass(frozen=True)
class Cost:
    """Time, memory and energy of a job.

    Args:
        wall_seconds: Wall-clock time in seconds.
        cpu_seconds: Processor time of all threads of the process in seconds.
        peak_memory_bytes: Peak memory minus the memory before the job, in bytes.
        device: ``"cpu"``: memory of the process; ``"cuda"``: memory of PyTorch's allocator on the GPU.
        energy_joules: Energy of the GPU in joules, which includes what other processes used at the same time. None if
            it is unknown.
        members: Number of jobs that were trained together as one. The time, memory and energy of a job are equal shares
            of those of all of them.
        processes: Number of worker processes of the benchmark that may have used the same device at the same time.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    device: str
    energy_joules: float | None = None
    members: int = 1
    processes: int = 1

    def share(self, members: int) -> "Cost":
        """Return the share of one of several jobs that were trained together.

        Args:
            members: Number of jobs.

        Returns:
            The cost of one job.
        """
        return replace(
            self,
            wall_seconds=self.wall_seconds / members,
            cpu_seconds=self.cpu_seconds / members,
            peak_memory_bytes=self.peak_memory_bytes // members,
            energy_joules=None if self.energy_joules is None else self.energy_joules / members,
            members=members,
        )


@dataclass(frozen=True)
class JobResult:
    """Result of a job.

    Args:
        test_accuracy: Accuracy on the test part in percent.
        valid_accuracy: Accuracy on the validation part in percent. None if the method does not use it.
        epochs: Number of epochs, summed over layers for greedy training. 0 for a method without epochs.
        parameters: Number of trained parameters.
        cost: Time and memory of training and test. None until `run_job` sets it.
        sizes: Numbers of training, validation and test items. None until `run_job` sets them.

    Raises:
        ValueError: If an accuracy is not a percentage.
    """

    test_accuracy: float
    valid_accuracy: float | None
    epochs: int
    parameters: int
    cost: Cost | None = None
    sizes: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        for name, value in (("test", self.test_accuracy), ("validation", self.valid_accuracy)):
            if value is not None and not (math.isfinite(value) and 0 <= value <= 100):
                raise ValueError(f"The {name} accuracy must be between 0 and 100 percent, got {format_value(value)}.")


def canonical(settings: Mapping[str, Any]) -> str:
    """Serialise a configuration in a canonical form, so that equal configurations have equal strings.

    Args:
        settings: Configuration with JSON values.

    Returns:
        JSON with sorted keys.
    """
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)

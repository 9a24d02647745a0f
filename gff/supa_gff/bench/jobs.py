"""A job of a benchmark, and its result."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supa.checks import format_value


@dataclass(frozen=True)
class Job:
    """One training and its test.

    Args:
        dataset: name of a benchmark.
        method: name of a method.
        conv: name of a convolution; empty if the method has none.
        folds: number of folds.
        fold: which of them, from 0.
        seed: random seed of the training; the folds do not depend on it.
        settings: the configuration of the method as ``canonical`` JSON; it is part of the identity of a job.
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
        """Name of the method in a table."""
        return f"{self.method} ({self.conv})" if self.conv else self.method


@dataclass(frozen=True)
class Cost:
    """Time and memory of a job.

    Args:
        wall_seconds: wall time.
        cpu_seconds: processor time of the process, all threads.
        peak_memory_bytes: peak memory, without the memory before the job.
        device: ``"cpu"``: memory of the process; ``"cuda"``: memory of PyTorch's allocator on the GPU.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    device: str


@dataclass(frozen=True)
class JobResult:
    """Result of a job.

    Args:
        test_accuracy: percent of the test part.
        valid_accuracy: percent of the validation part; None if there is none.
        epochs: number of trained epochs, summed over layers; 0 for a method without epochs.
        parameters: number of trained parameters.
        cost: time and memory of training and test; None: `run_job` measures them.
        sizes: numbers of training, validation and test items; None: `run_job` fills them in.

    Raises:
        ValueError: an accuracy is not a percentage.
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
                raise ValueError(f"The {name} accuracy is {format_value(value)}, but it must be a percentage.")


def canonical(settings: Mapping[str, Any]) -> str:
    """Serialise a configuration; equal configurations give equal texts.

    Args:
        settings: names and JSON values.

    Returns:
        JSON with sorted keys.
    """
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)

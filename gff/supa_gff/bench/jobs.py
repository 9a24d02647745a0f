"""A job of a benchmark, and what it measures."""

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
        conv: name of a convolution; empty where the method has none.
        folds: number of folds.
        fold: which of them, from 0.
        seed: of everything random in the training; the folds do not depend on it.
        settings: the configuration of the method as ``canonical`` JSON. Two jobs that differ in it are two jobs.
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
        """What a table calls the method."""
        return f"{self.method} ({self.conv})" if self.conv else self.method


@dataclass(frozen=True)
class Cost:
    """What a job took.

    Args:
        wall_seconds: time on the clock.
        cpu_seconds: processor time of the process, all threads.
        peak_memory_bytes: at its peak, beyond what was held before.
        device: ``"cpu"``: memory of the process; ``"cuda"``: memory of PyTorch's allocator on the GPU.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    device: str


@dataclass(frozen=True)
class JobResult:
    """What a job measured.

    Args:
        test_accuracy: percent of the test part.
        valid_accuracy: percent of the validation part; None where there is none.
        epochs: epochs that were trained, all layers together; 0 for a method without.
        parameters: number of trained numbers.
        cost: what training and test took; None: the job's runner measures it around them.
        sizes: numbers of items that train, validate and test; None: the job's runner knows.

    Raises:
        ValueError: an accuracy is no percentage.
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
    """Write a configuration so that equal ones are equal texts.

    Args:
        settings: names and values that JSON can hold.

    Returns:
        JSON with sorted keys.
    """
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)

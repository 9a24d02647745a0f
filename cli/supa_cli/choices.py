"""Allowed names of options, for shell completion. Each list is imported on demand."""

from collections.abc import Iterable
from typing import get_args


def datasets() -> Iterable[str]:
    """Return the names of the graph benchmarks."""
    from supa_datasets.graph_benchmarks import BENCHMARKS

    return BENCHMARKS


def formats() -> Iterable[str]:
    """Return the names of the file formats."""
    from supa_datasets.conversion.names import SUFFIXES

    return SUFFIXES


def benchmark_tasks() -> Iterable[str]:
    """Return the names of the benchmark tasks."""
    from supa_datasets import benchmark_names

    return benchmark_names()


def generation_tasks() -> Iterable[str]:
    """Return the names of the benchmark tasks for generators."""
    from supa_datasets.benchmark_tasks.definitions import definitions

    return [name for name, values in definitions().items() if values["kind"] == "generation"]


def sequence_models() -> Iterable[str]:
    """Return the kinds of layers of a generator."""
    from supa_mamba.generator.config import Mixing

    return get_args(Mixing)


def targets() -> Iterable[str]:
    """Return the names of the targets of an encoder."""
    from supa_datasets.loaders.tasks import SHOWER_TASKS

    return SHOWER_TASKS


def trained_methods() -> Iterable[str]:
    """Return the names of the methods that train a network."""
    from supa_gff.names import METHODS

    return METHODS


def methods() -> Iterable[str]:
    """Return the names of the methods of a benchmark, the baselines first."""
    from supa_learning.graph_baselines import BASELINES

    return [*BASELINES, *trained_methods()]


def convolutions() -> Iterable[str]:
    """Return the names of the convolutions."""
    from supa_gff.names import CONVOLUTIONS

    return CONVOLUTIONS

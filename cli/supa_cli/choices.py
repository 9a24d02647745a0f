"""The names that options take, for the completion by the shell; each list is loaded when it is asked for."""

from collections.abc import Iterable


def datasets() -> Iterable[str]:
    """Name the graph benchmarks."""
    from supa_datasets.graph_benchmarks import BENCHMARKS

    return BENCHMARKS


def formats() -> Iterable[str]:
    """Name the formats of conversions."""
    from supa_datasets.conversion.names import SUFFIXES

    return SUFFIXES


def targets() -> Iterable[str]:
    """Name what an encoder can predict."""
    from supa_datasets.loaders.tasks import SHOWER_TASKS

    return SHOWER_TASKS


def trained_methods() -> Iterable[str]:
    """Name the methods that train a network."""
    from supa_gff.names import METHODS

    return METHODS


def methods() -> Iterable[str]:
    """Name the methods of a bench, the trivial baselines first."""
    from supa_learning.graph_baselines import BASELINES

    return [*BASELINES, *trained_methods()]


def convolutions() -> Iterable[str]:
    """Name the convolutions."""
    from supa_gff.names import CONVOLUTIONS

    return CONVOLUTIONS

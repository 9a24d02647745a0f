"""The files that define the benchmark tasks, and their names, available without Numba."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any


@cache
def definitions() -> Mapping[str, Mapping[str, Any]]:
    """Return the contents of the files of the tasks.

    Returns:
        Values of each task by its name, in the order of `benchmark_names`.
    """
    folder = files("supa_datasets.benchmark_tasks") / "tasks"
    texts = [file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".toml")]
    found = sorted(map(tomllib.loads, texts), key=lambda v: (v["kind"] != "generation", v["difficulty"], v["name"]))
    return MappingProxyType({values["name"]: values for values in found})


def benchmark_names() -> tuple[str, ...]:
    """Return the names of the benchmark tasks, from easy to hard; tasks of generation first.

    Returns:
        The names.

    Example:
        >>> from supa_datasets import benchmark_names
        >>> benchmark_names()[-1]
        'primary-labels'
    """
    return tuple(definitions())

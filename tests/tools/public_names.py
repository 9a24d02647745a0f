"""The public names of all packages."""

import importlib
import importlib.util
import inspect

PACKAGES = (
    "supa",
    "supa.comparison",
    "supa.distances",
    "supa.observables",
    "supa.plotting",
    "supa_datasets",
    "supa_datasets.graph_benchmarks",
    "supa_learning",
    "supa_gff",
    "supa_mamba",
)


def public_names() -> list[tuple[str, str]]:
    """Return (package, name) of every public class and function, each once."""
    found: dict[int, tuple[str, str]] = {}
    for package in PACKAGES:
        if package.startswith(("supa_learning", "supa_gff", "supa_mamba")) and not _installed("torch"):
            continue
        module = importlib.import_module(package)
        for name in module.__all__:
            try:
                value = getattr(module, name)
            except ImportError:
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                found.setdefault(id(value), (package, name))
    return list(found.values())


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None

"""The public names of all packages."""

import importlib
import importlib.util
import inspect
from dataclasses import is_dataclass
from types import ModuleType

from public_packages import PACKAGES


def public_names() -> list[tuple[str, str]]:
    """Return (package, name) of every public class and function, each once."""
    found: dict[int, tuple[str, str]] = {}
    for package in PACKAGES:
        if package.startswith(("supa_learning", "supa_gff", "supa_mamba")) and not _installed("torch"):
            continue
        module = importlib.import_module(package)
        for name in _names(module):
            try:
                value = getattr(module, name)
            except ImportError:
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                found.setdefault(id(value), (package, name))
    return list(found.values())


def _names(module: ModuleType) -> list[str]:
    """Return the names in ``__all__``. For a module without it: the dataclasses that the module defines.

    The modules with the parts of a method define each part as a dataclass; their other classes and functions are
    internal.
    """
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [n for n, value in vars(module).items() if is_dataclass(value) and value.__module__ == module.__name__]


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None

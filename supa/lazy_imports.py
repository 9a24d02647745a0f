"""Packages that import their modules on first use, because PyTorch, HDF5 and Numba take seconds to load."""

import ast
import importlib
import pkgutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

_HEAVY = ("torch", "torch_geometric")
"""Packages that are installed by the extra ``learn`` only."""


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    The public names are those that the ``__init__.py`` of the package imports for type checkers, under
    ``if TYPE_CHECKING``. Submodules are attributes of the package, too.

    Args:
        package: Dotted name of the package.

    Returns:
        Functions ``__getattr__`` and ``__dir__``, and list ``__all__``.
    """
    modules: dict[str, str] = {}
    source = ast.parse(pkgutil.get_data(package, "__init__.py") or b"")
    for node in (node for block in source.body if isinstance(block, ast.If) for node in block.body):
        if isinstance(node, ast.ImportFrom):
            modules |= {alias.asname or alias.name: str(node.module) for alias in node.names}

    def get(name: str) -> Any:
        if modules.get(name, package) != package:
            try:
                return getattr(importlib.import_module(modules[name]), name)
            except ModuleNotFoundError as error:
                if error.name not in _HEAVY:
                    raise
                extra = "pip install 'supa-showers[learn]'"
                raise ImportError(f"{package}.{name} needs the package {error.name}: {extra}.") from None
        if not name.startswith("_") and find_spec(f"{package}.{name}"):
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    names = sorted(modules)
    return get, lambda: sorted({*vars(importlib.import_module(package)), *names}), names

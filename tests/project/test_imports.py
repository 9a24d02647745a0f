"""Modules have unique dotted names, imports are acyclic, and packages list their public names."""

import ast
import functools
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {path.parent.name: path.parent for depth in ("*", "*/*") for path in ROOT.glob(f"{depth}/py.typed")}
FILES = {
    ".".join((package, *file.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): file
    for package, folder in FOLDERS.items()
    for file in folder.rglob("*.py")
}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}
PACKAGES = [name for name, file in FILES.items() if file.name == "__init__.py"]
LAZY = [name for name in PACKAGES if "lazy_names(__name__)" in ast.unparse(TREES[name])]


def test_every_package_is_found():
    assert {"supa", "supa_datasets", "supa_learning", "supa_gff", "supa_mamba", "supa_cli"} <= FOLDERS.keys()


@pytest.mark.parametrize("package", FOLDERS)
def test_dotted_names_lead_to_modules(package):
    """``import a.b.c as m`` returns the attribute ``c`` of ``a.b``, which a function of this name would hide."""
    hidden = []
    for name in sorted(name for name in FILES if name == package or name.startswith(f"{package}.")):
        if name.endswith("__main__"):
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
            continue
        scope: dict[str, object] = {}
        exec(f"import {name} as module", scope)
        if scope["module"] is not sys.modules[name]:
            hidden.append(name)
    assert hidden == []


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_differ_from_names_of_modules(package):
    """This includes lazy packages, which have no attribute until first use."""
    modules = {name.rpartition(".")[2] for name in FILES if name.rpartition(".")[0] == package}
    module = importlib.import_module(package)
    hidden = modules & set(getattr(module, "__all__", ()))
    assert [name for name in hidden if not isinstance(getattr(module, name), ModuleType)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_list_all_public_names(package):
    """``__all__`` contains the names that a package imports from its own modules, and no others."""
    module, offered = importlib.import_module(package), _offered(package)
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names))
    assert {name for name in names if not name.startswith("__")} == offered
    assert [name for name in names if not hasattr(module, name)] == []
    if offered and package in LAZY:
        assert set(names) <= set(dir(module))


@pytest.mark.parametrize("package", LAZY)
def test_lazy_packages_support_dir_and_reject_unknown_names(package):
    module = importlib.import_module(package)
    assert "__dir__" in vars(module)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        module.no_such_name  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_seeds_and_devices_have_the_same_default_everywhere(package):
    """The default of ``seed`` is 0. The default of ``device`` is the CPU, or PyTorch's default for modules."""
    module = importlib.import_module(package)
    for public in (getattr(module, name) for name in getattr(module, "__all__", ())):
        constructed = isinstance(public, type) and not is_dataclass(public) and not issubclass(public, Exception)
        if constructed or isinstance(public, FunctionType):
            for name, defaults in (("seed", (0,)), ("device", (None, "cpu"))):
                argument = inspect.signature(public).parameters.get(name)
                if argument is not None and argument.default is not argument.empty:
                    assert argument.kind is argument.KEYWORD_ONLY, (public, name)
                    assert argument.default in defaults, (public, name)


def test_imports_are_acyclic():
    """Imports in functions, for type checkers and by strings count, too."""
    circles = [" <-> ".join(sorted(circle)) for circle in _circles({name: set(_imported(name)) for name in FILES})]
    assert circles == []


def test_cycles_are_found():
    assert [set(circle) for circle in _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d"}})] == [{"b", "c"}]


def _offered(package: str) -> set[str]:
    """Return the public names of a package, which it imports from its own modules."""
    names: set[str] = set()
    for node in ast.walk(TREES[package]):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{package}."):
            names |= {alias.asname or alias.name for alias in node.names}
    return {name for name in names - {"lazy_names"} if not name.startswith("_")}


def _imported(name: str) -> Iterator[str]:
    """Yield the modules that a module imports, immediately or later."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: import from {'.' * node.level}{node.module}: use the absolute name"
            yield from (_source(node.module or "", alias.name) for alias in node.names if node.module in FILES)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            module = node.value.partition(":")[0]
            if "." in module and module in FILES and module != name:
                yield module


@functools.cache
def _source(module: str, name: str) -> str:
    """Return the module that defines the name in ``from module import name``."""
    if f"{module}.{name}" in FILES:
        return f"{module}.{name}"
    for node in ast.walk(TREES[module]) if module in PACKAGES else ():
        if isinstance(node, ast.ImportFrom) and node.module in FILES:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _source(node.module, alias.name)
    return module


def _circles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Yield the strongly connected components of two or more modules."""
    reach = {name: _reached(graph, name) for name in graph}
    left = set(graph)
    while left:
        name = left.pop()
        group = [name, *(other for other in left if other in reach[name] and name in reach[other])]
        left -= set(group)
        if len(group) > 1:
            yield group


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    front = {start}
    while front:
        front = {other for name in front for other in graph.get(name, ())} - reached
        reached |= front
    return reached

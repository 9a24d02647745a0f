"""Graphs from a function of the user, which is named as ``module:function``."""

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supa.checks import did_you_mean, format_value
from supa_gff.own_data.conversion import described

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

_SHOWN = 8
"""Number of functions that a message lists."""


def names_function(text: str) -> bool:
    """Return whether a text has the form ``module:function``.

    Args:
        text: Text from a user.

    Returns:
        True if both parts are dotted names.
    """
    return _NAME.fullmatch(text) is not None


def call_function(name: str) -> Any:
    """Import a function, call it without arguments, and return its result.

    The current folder is searched first.

    Args:
        name: Name of the function as ``module:function``.

    Returns:
        The result of the function.

    Raises:
        ValueError: If the module or the function does not exist, the function needs arguments, or its code raises.
    """
    module_name, _, function_name = name.partition(":")
    with _current_folder_first():
        with _errors_of_user_code(f"{name}: importing {module_name} failed"):
            try:
                module: Any = importlib.import_module(module_name)
            except ModuleNotFoundError as error:
                _explain_missing(name, module_name, error)
        function = _attribute(name, module, function_name)
        with _errors_of_user_code(f"{name}: the function failed"):
            return function()


def _explain_missing(name: str, module_name: str, error: ModuleNotFoundError) -> None:
    parents = module_name.split(".")
    if error.name in {".".join(parents[: k + 1]) for k in range(len(parents))}:
        raise ValueError(
            f"{name}: there is no module {error.name} in the current folder, {Path.cwd()}, or among the installed "
            "packages. The name of a module has no .py and no slashes."
        ) from None
    raise ValueError(
        f"{name}: the module {module_name} needs the package {error.name}, which is not installed; install it."
    ) from None


def _attribute(name: str, module: Any, function_name: str) -> Callable[[], Any]:
    found = module
    for part in function_name.split("."):
        if not hasattr(found, part):
            own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
            functions = [key for key in own if callable(vars(module)[key]) and not key.startswith("_")]
            listed = f"; it has {', '.join(functions[:_SHOWN])}" if functions else ""
            raise ValueError(
                f"{name}: the module {module.__name__} has no function {function_name}{listed}."
                f"{did_you_mean(function_name, functions)}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(
            f"{name}: {function_name} is {described(found)}, but it must be a function that returns the graphs."
        )
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise ValueError(
            f"{name}: {function_name} must be callable without arguments, but {format_value(str(error))[1:-1]}. Give "
            "its arguments defaults, or write a function that calls it."
        ) from None
    except ValueError:  # a function of an extension module, whose signature is unknown
        pass
    made: Callable[[], Any] = found
    return made


@contextmanager
def _current_folder_first() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


@contextmanager
def _errors_of_user_code(what: str) -> Iterator[None]:
    """Report an exception of the user's code as one error with its place, instead of a traceback through ours."""
    try:
        yield
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        if isinstance(error, ValueError) and not frames:
            raise  # an error of this module
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(Path.cwd())] or frames
        place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
        if isinstance(error, SyntaxError) and error.filename:
            place = f" ({error.filename}, line {error.lineno})"
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"{what} with {type(error).__name__}: {text}{place}.") from error

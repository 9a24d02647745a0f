"""Functions that return one of several observables computed together."""

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any, ParamSpec, get_type_hints

import numpy.typing as npt

P = ParamSpec("P")


def field_function(
    compute: Callable[P, object], field: str, summary: str, returns: str, example: str = ""
) -> Callable[P, npt.NDArray[Any]]:
    """Create a function that computes one observable.

    The docstring of the function takes the sections "Args" and "Raises" from ``compute``.

    Args:
        compute: Function that computes several observables together.
        field: Attribute of its result that holds the observable; also the name of the new function.
        summary: First sentence of the docstring.
        returns: Section "Returns" of the docstring: shape, dtype and unit.
        example: Section "Example" of the docstring: lines of a doctest.

    Returns:
        The function. It takes the arguments of ``compute``.
    """

    def observable(*args: P.args, **kwargs: P.kwargs) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = getattr(compute(*args, **kwargs), field)
        return values

    observable.__name__ = observable.__qualname__ = field
    observable.__module__ = compute.__module__
    sections = {"Args": _section(compute, "Args"), "Returns": returns, "Raises": _section(compute, "Raises")}
    sections["Example"] = inspect.cleandoc(example)
    observable.__doc__ = "\n\n".join(
        [summary, *(f"{name}:\n{_indented(text)}" for name, text in sections.items() if text)]
    )
    signature = inspect.signature(compute)
    observable.__signature__ = signature.replace(  # type: ignore[attr-defined]
        return_annotation=get_type_hints(signature.return_annotation)[field]
    )
    return observable


def _section(function: Callable[..., object], name: str) -> str:
    found = re.search(rf"^{name}:\n((?:    .*\n?)+)", inspect.getdoc(function) or "", re.MULTILINE)
    return textwrap.dedent(found[1]).rstrip() if found else ""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())

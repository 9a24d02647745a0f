"""Types in the reference as users write them.

Sphinx prints ``ArrayLike`` as the union of a dozen protocols, ``NDArray`` with the type of its shape, and ``Annotated``
with all its checks. This extension prints the short forms.
"""

import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import numpy.typing as npt
from sphinx.application import Sphinx

_ARRAY_LIKE = set(get_args(npt.ArrayLike))
_SEPARATOR = " | "


def short(annotation: Any) -> str:
    """Return an annotation as text that Sphinx turns into links."""
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, list | tuple):
        return f"[{', '.join(map(short, annotation))}]"
    if isinstance(annotation, str | typing.TypeVar):
        return str(annotation).lstrip("~+-")
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return short(arguments[0])
    if origin is Literal:
        return f"~typing.Literal[{', '.join(map(repr, arguments))}]"
    if origin in (Union, types.UnionType):
        return _SEPARATOR.join(_union(arguments))
    if origin is np.ndarray:
        return f"~numpy.typing.NDArray[{short(get_args(arguments[1])[0])}]"
    if origin is not None:
        return f"{_name(origin)}[{', '.join(map(short, arguments))}]" if arguments else _name(origin)
    return _name(annotation)


def _union(arguments: tuple[Any, ...]) -> list[str]:
    if set(arguments) >= _ARRAY_LIKE:
        rest = [argument for argument in arguments if argument not in _ARRAY_LIKE]
        return ["~numpy.typing.ArrayLike", *map(short, rest)]
    return list(map(short, arguments))


def _name(value: Any) -> str:
    if value in (Any, typing.Self):
        return f"~typing.{value}".replace("typing.typing", "typing")
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", str(value))
    return name if module == "builtins" else f"~{module}.{name}"


def _rewrite(app: Sphinx, kind: str, name: str, value: Callable[..., Any], *_: object) -> None:
    recorded = app.env.current_document.get("annotations", {}).get(name)
    if not recorded:
        return
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return
    for parameter in signature.parameters.values():
        if parameter.name in recorded:
            recorded[parameter.name] = short(parameter.annotation)
    if "return" in recorded:
        recorded["return"] = short(signature.return_annotation)


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrite the annotations after autodoc recorded them."""
    app.connect("autodoc-process-signature", _rewrite, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Functions that return one field of several observables that are computed together."""

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy.typing as npt

P = ParamSpec("P")


def field_function(
    compute: Callable[P, object], field: str, summary: str, returns: str
) -> Callable[P, npt.NDArray[Any]]:
    """Make a function that computes one observable.

    Args:
        compute: computes several observables together.
        field: the attribute of its result that holds the observable; also the name of the function.
        summary: the first sentence of the docstring.
        returns: what the docstring says of the result: shape, type and unit.

    Returns:
        The function, with the arguments of ``compute``.
    """

    def observable(*args: P.args, **kwargs: P.kwargs) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = getattr(compute(*args, **kwargs), field)
        return values

    observable.__name__ = observable.__qualname__ = field
    observable.__module__ = compute.__module__
    observable.__doc__ = f"{summary}\n\nTakes the arguments of ``{compute.__name__}``.\n\nReturns:\n    {returns}"
    observable.__signature__ = inspect.signature(compute).replace(  # type: ignore[attr-defined]
        return_annotation=npt.NDArray[Any]
    )
    return observable

"""Functions that return one field of several observables that are computed together."""

import inspect
from collections.abc import Callable
from typing import ParamSpec

from supa.arrays import FloatArray

P = ParamSpec("P")


def field_function(compute: Callable[P, object], field: str, summary: str, returns: str) -> Callable[P, FloatArray]:
    """Make a function that computes one observable.

    Args:
        compute: computes several observables together.
        field: the attribute of its result that holds the observable; also the name of the function.
        summary: the first sentence of the docstring.
        returns: what the docstring says of the result: shape, type and unit.

    Returns:
        The function, with the arguments of ``compute``.
    """

    def observable(*args: P.args, **kwargs: P.kwargs) -> FloatArray:
        values: FloatArray = getattr(compute(*args, **kwargs), field)
        return values

    signature = inspect.signature(compute)
    observable.__name__ = observable.__qualname__ = field
    observable.__module__ = compute.__module__
    observable.__doc__ = f"{summary}\n\nTakes the arguments of ``{compute.__name__}``.\n\nReturns:\n    {returns}"
    observable.__signature__ = signature.replace(return_annotation=FloatArray)  # type: ignore[attr-defined]
    return observable

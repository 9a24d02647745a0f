"""Checks of the options of modules."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

Init = TypeVar("Init", bound=Callable[..., None])
SPEED_ONLY = ("chunk_size", "use_mem_eff_path", "use_fast_path", "layer_idx", "process_group", "sequence_parallel")
"""Options of mamba_ssm's mixers that do not change their results."""


def named_options(init: Init) -> Init:
    """Let a constructor raise one clear error for an option that it does not have.

    Args:
        init: ``__init__`` of a module.

    Returns:
        A function with the same signature, which raises ``ValueError`` where its arguments do not fit.
    """

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        check_options(type(self).__name__, init, self, *args, **options)
        init(self, *args, **options)

    return cast(Init, checked)


def check_options(name: str, made: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Check that a constructor takes the given options.

    Args:
        name: the class.
        made: its constructor.
        args: what the constructor gets by position.
        options: what it gets by name.

    Raises:
        ValueError: It does not take them.
    """
    signature = inspect.signature(made)
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        known = ", ".join(name for name in signature.parameters if name not in ("self", "d_model"))
        idle = ", ".join(option for option in options if option in SPEED_ONLY)
        hint = f" Leave out {idle}, which cannot change the results." if idle else ""
        raise ValueError(f"{name}: {error}; besides d_model it takes {known}.{hint}") from None


def check_at_least(least: int, **numbers: int) -> None:
    """Check integers.

    Args:
        least: the smallest number allowed.
        numbers: the numbers, by their names.

    Raises:
        ValueError: One is not an integer, or is smaller.
    """
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"{name}: {number!r} was given, but it must be a whole number of at least {least}.")


def check_states(d_state: int) -> None:
    """Check the number of states of a channel.

    Args:
        d_state: the number.

    Raises:
        ValueError: It is not an integer from 1 to 256, the limit of the operations.
    """
    check_at_least(1, d_state=d_state)
    if d_state > 256:
        raise ValueError(f"d_state: {d_state} was given, but a channel has 1 to 256 states.")


def resolve_dt_rank(d_model: int, dt_rank: int | Literal["auto"]) -> int:
    """Return the number of features from which steps are computed.

    Args:
        d_model: features of a row.
        dt_rank: the number; "auto" is d_model / 16, rounded up.

    Returns:
        The number.

    Raises:
        ValueError: One of them is not an integer of at least 1.
    """
    check_at_least(1, d_model=d_model)
    rank = math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank
    check_at_least(1, dt_rank=rank)
    return rank


def resolve_d_inner(d_model: int, expand: float) -> int:
    """Return the width inside a mixer.

    Args:
        d_model: features of a row.
        expand: how much wider the mixer is inside.

    Returns:
        Their product.

    Raises:
        ValueError: It is not an integer of at least 1.
    """
    width = expand * d_model
    if not math.isfinite(width) or width != int(width) or width < 1:
        raise ValueError(f"expand: {expand} was given for d_model {d_model}, but their product must be a whole number.")
    return int(width)

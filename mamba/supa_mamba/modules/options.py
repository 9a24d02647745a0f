"""Checks of the options of modules."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast, get_args

from supa.checks import counted

Init = TypeVar("Init", bound=Callable[..., None])
BlockKind = Literal["pre-norm", "outlier-protected"]
Activation = Literal["silu", "identity"]
ConvertedMixer = Literal["mamba", "mamba2"]
SPEED_ONLY = ("chunk_size", "use_mem_eff_path", "use_fast_path", "layer_idx", "process_group", "sequence_parallel")
"""Options of mamba_ssm's mixers that do not change their results."""


def named_options(init: Init) -> Init:
    """Decorate a constructor so that unknown options raise a ``ValueError`` with a helpful message.

    Args:
        init: ``__init__`` of a module.

    Returns:
        A function with the same signature.
    """

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        check_options(type(self).__name__, init, self, *args, **options)
        init(self, *args, **options)

    return cast(Init, checked)


def check_options(name: str, constructor: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Check that a constructor accepts the given options.

    Args:
        name: Name of the class, for the message.
        constructor: The constructor.
        args: Positional arguments of the constructor.
        options: Keyword arguments of the constructor.

    Raises:
        ValueError: If the constructor does not accept the arguments.
    """
    signature = inspect.signature(constructor)
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        known = ", ".join(name for name in signature.parameters if name not in ("self", "d_model"))
        idle = ", ".join(option for option in options if option in SPEED_ONLY)
        hint = f" Leave out {idle}, which cannot change the results." if idle else ""
        raise ValueError(f"{name}: {error}; besides d_model it accepts {known}.{hint}") from None


def check_activation(activation: Activation) -> None:
    """Check the activation of a mixer.

    Args:
        activation: The activation.

    Raises:
        ValueError: If the activation is unknown.
    """
    if activation not in get_args(Activation):
        raise ValueError(f"activation: {activation!r} was given, but it must be 'silu' or 'identity'.")


def convolution_activation(activation: Activation) -> Literal["silu"] | None:
    """Return the activation of a mixer as the convolution takes it.

    Args:
        activation: The activation.

    Returns:
        ``"silu"``, or None for no activation.
    """
    return "silu" if activation == "silu" else None


def check_at_least(least: int, **numbers: int) -> None:
    """Check integers.

    Args:
        least: The smallest allowed value.
        numbers: The values, by argument name.

    Raises:
        ValueError: If a value is not an integer, or too small.
    """
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"{name}: {number!r} was given, but it must be a whole number of at least {least}.")


def check_rotary(rotary_emb_dim: int, head_dim: int) -> None:
    """Check the number of rotated features of an attention head.

    Args:
        rotary_emb_dim: The number, 0 for none.
        head_dim: Number of features of a head.

    Raises:
        ValueError: If the number is negative, odd or larger than the head.
    """
    check_at_least(0, rotary_emb_dim=rotary_emb_dim)
    if rotary_emb_dim % 2 or rotary_emb_dim > head_dim:
        raise ValueError(
            f"rotary_emb_dim: {rotary_emb_dim} was given, but it must be an even number up to the "
            f"{counted(head_dim, 'feature')} of a head."
        )


def check_states(d_state: int) -> None:
    """Check the number of states per channel.

    Args:
        d_state: The number.

    Raises:
        ValueError: If it is not an integer from 1 to 256, the limit of the operations.
    """
    check_at_least(1, d_state=d_state)
    if d_state > 256:
        raise ValueError(f"d_state: {d_state} was given, but it must be at most 256.")


def resolve_dt_rank(d_model: int, dt_rank: int | Literal["auto"]) -> int:
    """Return the rank of the projection of the step sizes.

    Args:
        d_model: Number of features per row.
        dt_rank: The rank; ``"auto"`` is ``d_model / 16``, rounded up.

    Returns:
        The rank.

    Raises:
        ValueError: If an argument is not an integer of at least 1.
    """
    check_at_least(1, d_model=d_model)
    rank = math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank
    check_at_least(1, dt_rank=rank)
    return rank


def resolve_d_inner(d_model: int, expand: float) -> int:
    """Return the number of inner channels of a mixer.

    Args:
        d_model: Number of features per row.
        expand: Expansion factor.

    Returns:
        The product of both.

    Raises:
        ValueError: If the product is not an integer of at least 1.
    """
    width = expand * d_model
    if not math.isfinite(width) or width != int(width) or width < 1:
        raise ValueError(f"expand: {expand} was given for d_model {d_model}, but their product must be a whole number.")
    return int(width)

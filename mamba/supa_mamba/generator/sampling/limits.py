"""Largest number of hits of a sampled shower, and states with room for them."""

from typing import Any

import torch

from supa.checks import counted
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.profile import LONGER
from supa_mamba.modules.hybrid import HybridStack
from supa_mamba.modules.states import StackState


def most_hits_of(model: ShowerGenerator) -> int:
    """Return the largest number of hits of a sampled shower.

    Args:
        model: The generator.

    Returns:
        The number.
    """
    return LONGER * model.coding.most_hits


def initial_state(model: ShowerGenerator, slots: int) -> StackState:
    """Return the state of the model for new showers.

    Args:
        model: The generator.
        slots: Number of showers.

    Returns:
        The states of the layers, float32.
    """
    stack: Any = model.stack
    longest = (most_hits_of(model),) if isinstance(stack, HybridStack) else ()
    try:
        state: StackState = stack.init_state(slots, *longest, dtype=torch.float32)
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise MemoryError(
            f"batch_size: the states of {counted(slots, 'shower')} do not fit into the memory; choose a smaller one."
        ) from None
    return state

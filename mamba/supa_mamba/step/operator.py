"""One step as a custom operator, so that ``torch.compile`` sees it as one step that changes its state."""

import torch
from torch import Tensor

from supa_mamba.dispatch import device_of, path


@torch.library.custom_op("supa_mamba::selective_state_update", mutates_args=("state",))
def selective_state_update_operator(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    rows: Tensor,
    delta_softplus: bool,
) -> Tensor:
    """Take one step in place; arguments and result as in ``launch.update``."""
    given = (state, x, delta, A, B, C, D, z, delta_bias, rows)
    with device_of(state):
        y: Tensor = path(state, __package__).update(*given, delta_softplus)
    return y


@selective_state_update_operator.register_fake
def _(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    rows: Tensor,
    delta_softplus: bool,
) -> Tensor:
    return x.new_empty(x.shape)

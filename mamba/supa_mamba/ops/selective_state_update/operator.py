"""Steps as a custom operator, so that ``torch.compile`` sees one step that changes its state."""

import torch
from torch import Tensor

from supa_mamba.ops.backend import device_of, path


@torch.library.custom_op("supa_mamba::selective_state_step", mutates_args=("state", "cache_x", "cache_dt", "cache_B"))
def selective_state_step_operator(
    state: Tensor,
    cache_x: Tensor | None,
    cache_dt: Tensor | None,
    cache_B: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    accepted: Tensor | None,
    rows: Tensor,
    dt_softplus: bool,
) -> Tensor:
    """Take steps in place; arguments and result as in ``launch.step``."""
    caches, given = (cache_x, cache_dt, cache_B), (x, dt, A, B, C, D, z, dt_bias, accepted, rows)
    with device_of(state):
        y: Tensor = path(state, __package__).step(state, *caches, *given, dt_softplus)
    return y


@selective_state_step_operator.register_fake
def _(
    state: Tensor,
    cache_x: Tensor | None,
    cache_dt: Tensor | None,
    cache_B: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    accepted: Tensor | None,
    rows: Tensor,
    dt_softplus: bool,
) -> Tensor:
    return x.new_empty(x.shape)

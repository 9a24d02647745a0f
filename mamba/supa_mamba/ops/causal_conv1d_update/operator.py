"""Steps of the convolution as a custom operator, so that ``torch.compile`` sees one step that changes its state."""

import torch
from torch import Tensor

from supa_mamba.ops.backend import device_of, path


@torch.library.custom_op("supa_mamba::causal_conv1d_step", mutates_args=("state", "cache"))
def causal_conv1d_step_operator(
    state: Tensor,
    cache: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    accepted: Tensor | None,
    begins: Tensor | None,
    rows: Tensor,
    use_silu: bool,
) -> Tensor:
    """Take steps in place; arguments and result as in ``launch.step``."""
    with device_of(state):
        y: Tensor = path(state, __package__).step(state, cache, x, weight, bias, accepted, begins, rows, use_silu)
    return y


@causal_conv1d_step_operator.register_fake
def _(
    state: Tensor,
    cache: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    accepted: Tensor | None,
    begins: Tensor | None,
    rows: Tensor,
    use_silu: bool,
) -> Tensor:
    return x.new_empty(x.shape)

"""Selective scan on a CPU: compiled loops, or operations of PyTorch where their derivatives are needed."""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from supa_mamba.ops.packing import check_offsets
from supa_mamba.ops.selective_scan.inputs import ScanInputs, ScanOptions
from supa_mamba.ops.selective_scan.walk import Walk
from supa_mamba.ops.selective_scan.walk_compiled import walk as walk_compiled
from supa_mamba.ops.selective_scan.walk_recorded import walk as walk_recorded
from supa_mamba.ops.transforms import is_transformed


def forward(inputs: ScanInputs, options: ScanOptions, return_final_states: bool) -> tuple[Tensor, Tensor]:
    """Scan packed sequences; see ``operators.sequence_operator``.

    Raises:
        ValueError: If the offset does not match the rows.
    """
    u, delta, A, B, C, D, z, delta_bias, offset, initial_states = inputs
    check_offsets(offset, u.shape[0])
    with torch.autocast("cpu", enabled=False):
        x, step, enter, leave = (v.to(A.dtype) for v in (u, delta, B, C))
        step = step if delta_bias is None else step + delta_bias
        step = softplus(step) if options.delta_softplus else step
        given = Walk(x, step, A, enter, leave, initial_states, offset)
        if is_transformed(*given):
            y, final_states = walk_recorded(given, reverse=options.reverse)
        else:
            y, final_states = walk_compiled(given, reverse=options.reverse, return_final_states=return_final_states)
        y = y if D is None else y + D * x
        y = y if z is None else y * silu(z.to(A.dtype))
    return y.to(u.dtype), final_states if return_final_states else inputs.new_final_states(0)

"""Public function for one step of Mamba-1 or Mamba-2."""

from torch import Tensor

from supa_mamba.ops.selective_state_update.inputs import StepTensors, canonicalize, check_step_inputs
from supa_mamba.ops.selective_state_update.operator import state_step
from supa_mamba.ops.state_slots import check_no_gradients, normalize_slots


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """Take one step of `selective_scan` or `ssd` for M sequences and update their states in place.

    For each sequence and channel, with N states h::

        Delta = softplus(dt + dt_bias)                      (without softplus by default)
        h = exp(Delta A) h + Delta B x
        y = (<C, h> + D x) silu(z)

    The arguments are those of mamba_ssm's function of the same name. The states are stored in a table with R slots, and
    ``state_batch_indices`` is the slot of each sequence. When a sequence ends, another one can reuse its slot without
    moving any state. The function has no gradients.

    In the shapes below, Mamba-1 has D channels. Mamba-2 has H heads of P channels, in G groups that share B and C. In
    Mamba-2, ``dt``, ``A``, ``D`` and ``dt_bias`` have one entry per head or one per channel. Entries per channel that
    were expanded from one per head (``A[:, None, None].expand(H, P, N)``, stride 0) are as fast as entries per head.

    Sums are computed in float32, or in float64 if the states are float64. A state in half precision is rounded once,
    when it is written; y is computed from the state before rounding.

    Args:
        state: (R, D, N) or (R, H, P, N) state table; float16, bfloat16, float32 or float64, with any strides. The slots
            of the M sequences are overwritten.
        x: (M, D) or (M, H, P) input; float16, bfloat16, float32 or float64, like all other tensors.
        dt: (M, D), or (M, H) or (M, H, P) step sizes before bias and softplus.
        A: (D, N), or (H,) or (H, P, N) decay rates, usually negative.
        B: (M, N) or (M, G, N) input matrix.
        C: (M, N) or (M, G, N) output matrix.
        D: (D,), or (H,) or (H, P) skip weights; no skip connection by default.
        z: (M, D) or (M, H, P) gate; no gate by default.
        dt_bias: (D,), or (H,) or (H, P) bias of the step sizes; none by default.
        dt_softplus: Whether to apply softplus to ``dt + dt_bias``.
        state_batch_indices: (M,) integers, the slot of each sequence, without duplicates; 0 to M - 1 by default. A
            negative slot marks a finished sequence, which is skipped. The values are checked on a CPU only; on a GPU,
            a slot beyond the table accesses memory out of bounds.

    Returns:
        y, of the shape and the dtype of ``x``; zeros for finished sequences.

    Raises:
        ValueError: If shapes, dtypes or devices do not match, or gradients are required.

    Example:
        >>> import torch
        >>> from supa_mamba import selective_state_update
        >>> states, A = torch.zeros(8, 64, 16), -torch.rand(64, 16)  # (R, D, N), (D, N)
        >>> slots = torch.tensor([5, 0])  # two sequences in a table with 8 slots
        >>> for _ in range(3):
        ...     x, dt, B, C = torch.randn(2, 64), torch.randn(2, 64), torch.randn(2, 16), torch.randn(2, 16)
        ...     y = selective_state_update(states, x, dt, A, B, C, dt_softplus=True, state_batch_indices=slots)
        >>> y.shape
        torch.Size([2, 64])
        >>> states.flatten(1).any(1)  # only slots 0 and 5 have changed
        tensor([ True, False, False, False, False,  True, False, False])

    Source:
        Mamba (arXiv 2312.00752), equation 2a, with the discretisation of section 3.3; Mamba-2 (arXiv 2405.21060),
        section 7.
    """
    given = StepTensors(state, x, dt, A, B, C, D, z, dt_bias)
    check_step_inputs(given, "M")
    check_no_gradients("selective_state_update", "selective_scan or ssd", *given)
    gate = None if z is None else z[:, None]
    table, *inputs = canonicalize(
        StepTensors(state, x[:, None], dt[:, None], A, B[:, None], C[:, None], D, gate, dt_bias)
    )
    slots = normalize_slots("state_batch_indices", state_batch_indices, x, state)
    y: Tensor = state_step(table, None, None, None, *inputs, None, slots, dt_softplus)
    return y.view(x.shape)

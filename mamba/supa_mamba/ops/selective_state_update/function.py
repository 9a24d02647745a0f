"""One step of the selective scan, on a CPU or a GPU."""

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
    """Take one step of ``selective_scan``, or of Mamba-2's ``ssd``, for M sequences, and change their states in place.

    The arguments are those of mamba_ssm's function of this name. The states lie in a table of R slots, and
    ``state_batch_indices`` holds the slot of each sequence: sequences can end, and others take their slots, while no
    state is moved. No gradients flow. In the shapes below, D are the channels of Mamba-1, and H heads of P channels
    those of Mamba-2, whose G groups share B and C.

    Steps, rates, D and dt_bias of Mamba-2 have one entry a head, or one a channel. A tensor with one entry a channel
    that was expanded from one a head (``A[:, None, None].expand(H, P, N)``, stride 0) takes as long as the latter.

    Sums are made in float32, or in float64 where the states are float64. A table in half precision is rounded once,
    when the step is written; y is computed from the states before that rounding.

    Args:
        state: (R, D, N) or (R, H, P, N), float16, bfloat16, float32 or float64, with any strides; the slots of the M
            sequences are overwritten.
        x: (M, D) or (M, H, P) input; float16, bfloat16, float32 or float64, as the other tensors.
        dt: (M, D), or (M, H) or (M, H, P), steps before their bias and softplus.
        A: (D, N), or (H,) or (H, P, N), decay rates.
        B: (M, N) or (M, G, N), how the input enters the states.
        C: (M, N) or (M, G, N), how the states leave.
        D: (D,), or (H,) or (H, P), the part of the input that passes beside the states.
        z: (M, D) or (M, H, P), the gate.
        dt_bias: (D,), or (H,) or (H, P), added to dt.
        dt_softplus: Whether steps are softplus of dt plus bias, or that sum itself.
        state_batch_indices: (M,) integers, the slot of each sequence, each at most once; negative for one that has
            finished, which is skipped. 0 to M - 1 if not given. Their values are checked on the CPU only: on a GPU a
            slot beyond the table is read and written outside of it.

    Returns:
        y, of the shape and the dtype of x; zeros where a sequence has finished.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit, or gradients are required.

    Source: Mamba (arXiv 2312.00752), equation 2a, with the discretisation of section 3.3; Mamba-2 (arXiv 2405.21060),
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

"""One step of the selective scan, on whatever device its inputs lie."""

from torch import Tensor

from supa_mamba.rows import check_no_gradients, rows_of
from supa_mamba.step.inputs import check_step_inputs, in_one_form
from supa_mamba.step.operator import selective_state_step_operator


def selective_state_update(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    rows: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """Take one step of ``selective_scan``, or of Mamba-2's ``ssd``, for M sequences, and change their states in place.

    The states lie in a table of R rows, and ``rows`` tells which belong to the M sequences; so sequences can end, and
    others take their rows, while no state is moved. No gradients flow. Shapes behind "or" are those of Mamba-2, whose
    H heads of P channels have one step and one decay each, and share B and C in G groups.

    Args:
        state: (R, D, N) or (R, H, P, N), float32 or float64, contiguous; the rows named are overwritten.
        x: (M, D) or (M, H, P) input; float16, bfloat16, float32 or float64, as the other tensors.
        delta: (M, D) or (M, H), steps before their bias and softplus.
        A: (D, N) or (H,), decay rates.
        B: (M, N) or (M, G, N), how the input enters the states.
        C: (M, N) or (M, G, N), how the states leave.
        D: (D,) or (H,), what of the input passes beside the states.
        z: (M, D) or (M, H, P), the gate.
        delta_bias: (D,) or (H,), what is added to delta.
        rows: (M,) int64, the row of each sequence, each at most once; negative for one that has finished, which is
            skipped. 0 to M - 1 if not given. What they hold is looked at on the CPU only: on a GPU a row beyond the
            table would be read and written where something else lies.
        delta_softplus: whether steps are softplus of delta plus bias, or that sum itself.

    Returns:
        y, of the shape and the dtype of x; zeros where a sequence has finished.

    Raises:
        ValueError: shapes, kinds or devices do not fit, or gradients are asked for.

    Source: Mamba (arXiv 2312.00752), equation 2a, with the discretisation of section 3.3; Mamba-2 (arXiv 2405.21060),
    section 7.
    """
    check_step_inputs(state, x, delta, A, B, C, D, z, delta_bias, "M")
    check_no_gradients("selective_state_update", "selective_scan or ssd", state, x, delta, A, B, C, D, z, delta_bias)
    gate = None if z is None else z[:, None]
    table, inputs = in_one_form(state, x[:, None], delta[:, None], A, B[:, None], C[:, None], D, gate, delta_bias)
    y: Tensor = selective_state_step_operator(
        table, None, None, None, *inputs, None, rows_of(rows, x, state), delta_softplus
    )
    return y.view(x.shape)

"""Steps with a buffer of inputs on a CPU, for all slots at once."""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from supa_mamba.ops.buffered_state_update.inputs import BufferedInputs
from supa_mamba.ops.state_slots import active_slots


def step(given: BufferedInputs) -> Tensor:
    """Update states and buffers in place and return y, of the shape of ``x``.

    Raises:
        ValueError: If a slot does not exist, or a length is out of range.
    """
    state, buffer_x, buffer_dt, buffer_B, lengths, x, dt, A, B, C, D, z, dt_bias, slots, dt_softplus = given
    inputs, most, dtype = x.shape[1], buffer_x.shape[1], A.dtype
    per_group = x.shape[2] // B.shape[2]
    live, places = active_slots("state_batch_indices", slots, state)
    before = lengths[places]
    if before.shape[0] and (before.min() < 0 or before.max() > most):
        raise ValueError(
            f"buffer.lengths: {int(before.min())} to {int(before.max())} was given, but it must be 0 to {most}, the "
            "number of inputs that the buffer can store."
        )

    def of_steps(dt: Tensor) -> Tensor:
        step = dt.to(dtype) if dt_bias is None else dt.to(dtype) + dt_bias
        return softplus(step) if dt_softplus else step

    def of_heads(v: Tensor) -> Tensor:
        return v.to(dtype).repeat_interleave(per_group, -2)

    with torch.autocast("cpu", enabled=False):
        new_x, new_dt, new_B = (v.index_select(0, live) for v in (x, dt, B))
        held = (torch.arange(most) < before[:, None])[..., None]
        steps = of_steps(buffer_dt[places]).where(held, 0)
        after = steps.flip(1).cumsum(1).flip(1) - steps
        inflow = (steps * torch.exp(after * A))[..., None] * buffer_x[places].to(dtype)
        h = torch.exp(steps.sum(1) * A)[..., None, None] * state.index_select(0, places).to(dtype)
        h += torch.einsum(
            "mlhp,mlhn->mhpn", inflow.where(held[..., None], 0), of_heads(buffer_B[places]).where(held[..., None], 0)
        )
        full = before + inputs > most
        state.index_copy_(0, places[full], h[full].to(state.dtype))
        begin = before.where(~full, 0)
        columns = begin[:, None] + torch.arange(inputs)
        for table, new in ((buffer_x, new_x), (buffer_dt, new_dt), (buffer_B, new_B)):
            table[places[:, None], columns] = new.to(table.dtype)
        lengths.index_copy_(0, places, begin + inputs)
        y = x.new_zeros(x.shape)
        for i in range(inputs):
            latest, step = new_x[:, i].to(dtype), of_steps(new_dt[:, i])
            inflow = step[..., None] * latest
            h = torch.exp(step * A)[..., None, None] * h + inflow[..., None] * of_heads(new_B[:, i])[:, :, None]
            found = (h @ of_heads(C[live, i])[..., None])[..., 0]
            found = found if D is None else found + D[:, None] * latest
            found = found if z is None else found * silu(z[live, i].to(dtype))
            y[live, i] = found.to(x.dtype)
        return y

"""Custom operator for steps with a buffer of inputs."""

from supa_mamba.ops.buffered_state_update.inputs import BufferedInputs
from supa_mamba.ops.operators import step_operator

buffered_step = step_operator(
    "buffered_state_update",
    __package__,
    BufferedInputs,
    ("state", "buffer_x", "buffer_dt", "buffer_B", "lengths"),
)

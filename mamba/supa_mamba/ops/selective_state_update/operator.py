"""Custom operator for steps of Mamba-1 and Mamba-2."""

from supa_mamba.ops.operators import step_operator
from supa_mamba.ops.selective_state_update.inputs import StateStepInputs

state_step = step_operator(
    "selective_state_step", __package__, StateStepInputs, ("state", "cache_x", "cache_dt", "cache_B")
)

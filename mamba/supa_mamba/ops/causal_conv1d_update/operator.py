"""Custom operator for steps of the convolution."""

from supa_mamba.ops.causal_conv1d_update.inputs import ConvStepInputs
from supa_mamba.ops.operators import step_operator

conv_step = step_operator("causal_conv1d_step", __package__, ConvStepInputs, ("state", "cache"))

"""Custom operator of the causal convolution."""

from supa_mamba.ops.causal_conv1d.inputs import ConvInputs, ConvOptions
from supa_mamba.ops.operators import sequence_operator

run_conv = sequence_operator("causal_conv1d", __package__, ConvInputs, ConvOptions)

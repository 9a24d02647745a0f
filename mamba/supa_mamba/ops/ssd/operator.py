"""Custom operator of the recurrence of Mamba-2."""

from supa_mamba.ops.operators import sequence_operator
from supa_mamba.ops.ssd.inputs import SsdInputs, SsdOptions

run_ssd = sequence_operator("ssd", __package__, SsdInputs, SsdOptions)

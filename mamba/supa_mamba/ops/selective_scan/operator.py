"""Custom operator of the selective scan."""

from supa_mamba.ops.operators import sequence_operator
from supa_mamba.ops.selective_scan.inputs import ScanInputs, ScanOptions

run_scan = sequence_operator("selective_scan", __package__, ScanInputs, ScanOptions)

"""Sequence modules with selective state spaces for ragged batches, on GPU and CPU."""

from supa_mamba.conv.function import causal_conv1d
from supa_mamba.scan.function import selective_scan
from supa_mamba.ssd.function import ssd
from supa_mamba.step.function import selective_state_update

__all__ = ["causal_conv1d", "selective_scan", "selective_state_update", "ssd"]

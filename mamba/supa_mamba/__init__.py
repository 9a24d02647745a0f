"""Sequence modules with selective state spaces for ragged batches, on GPU and CPU."""

from supa_mamba.conv.function import causal_conv1d
from supa_mamba.modules.bimamba import BiMamba
from supa_mamba.modules.block import MambaBlock
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.stack import MambaStack
from supa_mamba.modules.states import MambaState
from supa_mamba.modules.weights import optimizer_groups
from supa_mamba.scan.function import selective_scan
from supa_mamba.step.function import selective_state_update

__all__ = [
    "BiMamba",
    "Mamba",
    "MambaBlock",
    "MambaStack",
    "MambaState",
    "causal_conv1d",
    "optimizer_groups",
    "selective_scan",
    "selective_state_update",
]

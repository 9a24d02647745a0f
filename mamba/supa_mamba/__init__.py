"""Sequence modules with selective state spaces for ragged batches, on GPU and CPU."""

from supa_mamba.chunk_scan.function import ssd
from supa_mamba.conv.function import causal_conv1d
from supa_mamba.conv_step.function import causal_conv1d_update
from supa_mamba.conv_step.replay import causal_conv1d_replay
from supa_mamba.encoder import EncoderConfig, ShowerEncoder
from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.bimamba import BiMamba
from supa_mamba.modules.block import MambaBlock
from supa_mamba.modules.hybrid import HybridStack
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.pretrained import from_mamba_ssm
from supa_mamba.modules.stack import MambaStack
from supa_mamba.modules.states import AttentionState, MambaState
from supa_mamba.modules.weights import optimizer_groups
from supa_mamba.scan.function import selective_scan
from supa_mamba.step.cache import ReplayCache
from supa_mamba.step.function import selective_state_update
from supa_mamba.step.replay import selective_state_replay

__all__ = [
    "AttentionState",
    "BiMamba",
    "CausalAttention",
    "EncoderConfig",
    "HybridStack",
    "Mamba",
    "Mamba2",
    "MambaBlock",
    "MambaStack",
    "MambaState",
    "ReplayCache",
    "ShowerEncoder",
    "causal_conv1d",
    "causal_conv1d_replay",
    "causal_conv1d_update",
    "from_mamba_ssm",
    "optimizer_groups",
    "selective_scan",
    "selective_state_replay",
    "selective_state_update",
    "ssd",
]

"""Sequence modules with selective state spaces for ragged batches, on GPU and CPU."""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supa_mamba.checkpoint import Checkpoint
    from supa_mamba.config import TrainingConfig
    from supa_mamba.encoder import EncoderConfig, ShowerEncoder
    from supa_mamba.evaluation import Evaluation, evaluate
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
    from supa_mamba.ops.causal_conv1d.function import causal_conv1d
    from supa_mamba.ops.causal_conv1d_update.function import causal_conv1d_update
    from supa_mamba.ops.causal_conv1d_update.replay import causal_conv1d_replay
    from supa_mamba.ops.selective_scan.function import selective_scan
    from supa_mamba.ops.selective_state_update.cache import ReplayCache
    from supa_mamba.ops.selective_state_update.function import selective_state_update
    from supa_mamba.ops.selective_state_update.replay import selective_state_replay
    from supa_mamba.ops.ssd.function import ssd
    from supa_mamba.training import train, training_task

_MODULES = {
    "checkpoint": ("Checkpoint",),
    "config": ("TrainingConfig",),
    "evaluation": ("Evaluation", "evaluate"),
    "training": ("train", "training_task"),
    "encoder": ("EncoderConfig", "ShowerEncoder"),
    "modules.attention": ("CausalAttention",),
    "modules.bimamba": ("BiMamba",),
    "modules.block": ("MambaBlock",),
    "modules.hybrid": ("HybridStack",),
    "modules.mamba": ("Mamba",),
    "modules.mamba2": ("Mamba2",),
    "modules.pretrained": ("from_mamba_ssm",),
    "modules.stack": ("MambaStack",),
    "modules.states": ("AttentionState", "MambaState"),
    "modules.weights": ("optimizer_groups",),
    "ops.causal_conv1d.function": ("causal_conv1d",),
    "ops.causal_conv1d_update.function": ("causal_conv1d_update",),
    "ops.causal_conv1d_update.replay": ("causal_conv1d_replay",),
    "ops.selective_scan.function": ("selective_scan",),
    "ops.selective_state_update.cache": ("ReplayCache",),
    "ops.selective_state_update.function": ("selective_state_update",),
    "ops.selective_state_update.replay": ("selective_state_replay",),
    "ops.ssd.function": ("ssd",),
}

__all__ = [
    "AttentionState",
    "BiMamba",
    "CausalAttention",
    "Checkpoint",
    "EncoderConfig",
    "Evaluation",
    "HybridStack",
    "Mamba",
    "Mamba2",
    "MambaBlock",
    "MambaStack",
    "MambaState",
    "ReplayCache",
    "ShowerEncoder",
    "TrainingConfig",
    "causal_conv1d",
    "causal_conv1d_replay",
    "causal_conv1d_update",
    "evaluate",
    "from_mamba_ssm",
    "optimizer_groups",
    "selective_scan",
    "selective_state_replay",
    "selective_state_update",
    "ssd",
    "train",
    "training_task",
]


def __getattr__(name: str) -> Any:
    # PyTorch loads in seconds: what needs it is looked up when it is asked for.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"supa_mamba.{module}"), name)
    if not name.startswith("_") and find_spec(f"supa_mamba.{name}"):
        return importlib.import_module(f"supa_mamba.{name}")
    raise AttributeError(f"module 'supa_mamba' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Training of models: one loop with exact resume, checkpoints, schedules, metrics and baselines."""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supa_learning.baselines import CountBaseline
    from supa_learning.checkpoint import Checkpoint
    from supa_learning.checkpoint_writer import CheckpointWriter
    from supa_learning.processes import Processes, choose_device, torchrun_processes
    from supa_learning.randomness import RandomState, epoch_order
    from supa_learning.schedules import Position, StepDecay, WarmupCosine
    from supa_learning.state import Epoch, TrainingState
    from supa_learning.task import TrainingTask, Validation
    from supa_learning.tensorboard import TensorBoard
    from supa_learning.trainer import Callback, Trainer

_MODULES = {
    "baselines": ("CountBaseline",),
    "checkpoint": ("Checkpoint",),
    "checkpoint_writer": ("CheckpointWriter",),
    "processes": ("Processes", "choose_device", "torchrun_processes"),
    "randomness": ("RandomState", "epoch_order"),
    "schedules": ("Position", "StepDecay", "WarmupCosine"),
    "state": ("Epoch", "TrainingState"),
    "task": ("TrainingTask", "Validation"),
    "tensorboard": ("TensorBoard",),
    "trainer": ("Callback", "Trainer"),
}

__all__ = [
    "Callback",
    "Checkpoint",
    "CheckpointWriter",
    "CountBaseline",
    "Epoch",
    "Position",
    "Processes",
    "RandomState",
    "StepDecay",
    "TensorBoard",
    "Trainer",
    "TrainingState",
    "TrainingTask",
    "Validation",
    "WarmupCosine",
    "choose_device",
    "epoch_order",
    "torchrun_processes",
]


def __getattr__(name: str) -> Any:
    # PyTorch loads in seconds: what needs it is looked up when it is asked for.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"supa_learning.{module}"), name)
    if not name.startswith("_") and find_spec(f"supa_learning.{name}"):
        return importlib.import_module(f"supa_learning.{name}")
    raise AttributeError(f"module 'supa_learning' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

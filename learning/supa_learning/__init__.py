"""Training of models: a training loop with exact resume, checkpoints, schedules, metrics and baselines."""

from typing import TYPE_CHECKING

from supa.lazy_imports import lazy_names

if TYPE_CHECKING:
    from supa_learning.averaged_weights import AveragedWeights as AveragedWeights
    from supa_learning.captured_step import CapturedStep as CapturedStep
    from supa_learning.checkpoint import Checkpoint as Checkpoint
    from supa_learning.checkpoint_writer import CheckpointWriter as CheckpointWriter
    from supa_learning.count_baseline import CountBaseline as CountBaseline
    from supa_learning.flat_gradients import FlatGradients as FlatGradients
    from supa_learning.folds import Fold as Fold
    from supa_learning.folds import stratified_folds as stratified_folds
    from supa_learning.graph_baselines import BASELINES as BASELINES
    from supa_learning.graph_baselines import run_baseline as run_baseline
    from supa_learning.processes import Processes as Processes
    from supa_learning.processes import choose_device as choose_device
    from supa_learning.processes import torchrun_processes as torchrun_processes
    from supa_learning.randomness import RandomState as RandomState
    from supa_learning.randomness import epoch_order as epoch_order
    from supa_learning.schedules import Position as Position
    from supa_learning.schedules import StepDecay as StepDecay
    from supa_learning.schedules import WarmupCosine as WarmupCosine
    from supa_learning.stream_batches import StreamBatches as StreamBatches
    from supa_learning.task import TrainingTask as TrainingTask
    from supa_learning.task import Validation as Validation
    from supa_learning.tensorboard import TensorBoard as TensorBoard
    from supa_learning.trainer import Callback as Callback
    from supa_learning.trainer import Trainer as Trainer
    from supa_learning.training_state import Epoch as Epoch
    from supa_learning.training_state import TrainingState as TrainingState

__getattr__, __dir__, __all__ = lazy_names(__name__)

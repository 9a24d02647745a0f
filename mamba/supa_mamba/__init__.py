"""Mamba modules and operations for ragged batches, on GPU and CPU."""

from typing import TYPE_CHECKING

from supa.lazy_imports import lazy_names

if TYPE_CHECKING:
    from supa_mamba.checkpoint import Checkpoint as Checkpoint
    from supa_mamba.config import TrainingConfig as TrainingConfig
    from supa_mamba.diagnostics import ActivationMonitor as ActivationMonitor
    from supa_mamba.diagnostics import activation_statistics as activation_statistics
    from supa_mamba.diagnostics import stack_activations as stack_activations
    from supa_mamba.encoder import EncoderConfig as EncoderConfig
    from supa_mamba.encoder import ShowerEncoder as ShowerEncoder
    from supa_mamba.evaluation import Evaluation as Evaluation
    from supa_mamba.evaluation import evaluate as evaluate
    from supa_mamba.generator.checkpoint import GeneratorCheckpoint as GeneratorCheckpoint
    from supa_mamba.generator.coding import HitCoding as HitCoding
    from supa_mamba.generator.conditions import ShowerConditions as ShowerConditions
    from supa_mamba.generator.config import GeneratorConfig as GeneratorConfig
    from supa_mamba.generator.distillation import distillation_task as distillation_task
    from supa_mamba.generator.distillation import stream_distillation_task as stream_distillation_task
    from supa_mamba.generator.export import export_generator as export_generator
    from supa_mamba.generator.finetuning import finetuning_task as finetuning_task
    from supa_mamba.generator.finetuning_config import FinetuningConfig as FinetuningConfig
    from supa_mamba.generator.hits import HitBatch as HitBatch
    from supa_mamba.generator.int8 import int8_generator as int8_generator
    from supa_mamba.generator.model import ShowerGenerator as ShowerGenerator
    from supa_mamba.generator.sampling.sampler import sample_showers as sample_showers
    from supa_mamba.generator.sampling.sampler import sample_stream as sample_stream
    from supa_mamba.generator.skipping import nats_without_layers as nats_without_layers
    from supa_mamba.generator.stream_training import stream_generator_task as stream_generator_task
    from supa_mamba.generator.training import generator_task as generator_task
    from supa_mamba.generator.training import train_generator as train_generator
    from supa_mamba.generator.training_config import GENERATOR_PRESETS as GENERATOR_PRESETS
    from supa_mamba.generator.training_config import GeneratorTrainingConfig as GeneratorTrainingConfig
    from supa_mamba.modules.attention import CausalAttention as CausalAttention
    from supa_mamba.modules.bimamba import BiMamba as BiMamba
    from supa_mamba.modules.block import MambaBlock as MambaBlock
    from supa_mamba.modules.conversion import convert_attention as convert_attention
    from supa_mamba.modules.conversion import fit_converted as fit_converted
    from supa_mamba.modules.hybrid import HybridStack as HybridStack
    from supa_mamba.modules.initialisation import optimizer_groups as optimizer_groups
    from supa_mamba.modules.mamba import Mamba as Mamba
    from supa_mamba.modules.mamba2 import Mamba2 as Mamba2
    from supa_mamba.modules.parallel import parallel_pairs as parallel_pairs
    from supa_mamba.modules.pretrained import from_mamba_ssm as from_mamba_ssm
    from supa_mamba.modules.sparse_attention import SparseAttention as SparseAttention
    from supa_mamba.modules.stack import MambaStack as MambaStack
    from supa_mamba.modules.states import AttentionState as AttentionState
    from supa_mamba.modules.states import BufferedMambaState as BufferedMambaState
    from supa_mamba.modules.states import MambaState as MambaState
    from supa_mamba.modules.tensor_parallel import tensor_parallel as tensor_parallel
    from supa_mamba.ops.add_rms_norm.function import add_rms_norm as add_rms_norm
    from supa_mamba.ops.buffered_state_update.buffer import InputBuffer as InputBuffer
    from supa_mamba.ops.buffered_state_update.function import buffered_state_update as buffered_state_update
    from supa_mamba.ops.causal_conv1d.function import causal_conv1d as causal_conv1d
    from supa_mamba.ops.causal_conv1d_update.function import causal_conv1d_update as causal_conv1d_update
    from supa_mamba.ops.causal_conv1d_update.replay import causal_conv1d_replay as causal_conv1d_replay
    from supa_mamba.ops.gated_rms_norm.function import gated_rms_norm as gated_rms_norm
    from supa_mamba.ops.selective_scan.function import selective_scan as selective_scan
    from supa_mamba.ops.selective_state_update.cache import ReplayCache as ReplayCache
    from supa_mamba.ops.selective_state_update.function import selective_state_update as selective_state_update
    from supa_mamba.ops.selective_state_update.replay import selective_state_replay as selective_state_replay
    from supa_mamba.ops.sparse_attention.function import sparse_attention as sparse_attention
    from supa_mamba.ops.sparse_attention.hashing import hash_buckets as hash_buckets
    from supa_mamba.ops.ssd.function import ssd as ssd
    from supa_mamba.stream_training import stream_training_task as stream_training_task
    from supa_mamba.training import train as train
    from supa_mamba.training import training_task as training_task

__getattr__, __dir__, __all__ = lazy_names(__name__)

"""Graph Forward-Forward: graph networks whose layers are trained by local losses (arXiv 2302.05282).

The same networks can be trained by backpropagation for comparison. The parts of a `Method` are in the modules
``supa_gff.losses``, ``supa_gff.goodness``, ``supa_gff.heads``, ``supa_gff.label_injection`` and ``supa_gff.negatives``.
"""

from typing import TYPE_CHECKING

from supa.lazy_imports import lazy_names

if TYPE_CHECKING:
    from supa_gff import goodness as goodness
    from supa_gff import heads as heads
    from supa_gff import label_injection as label_injection
    from supa_gff import losses as losses
    from supa_gff import negatives as negatives
    from supa_gff.batch import Batch as Batch
    from supa_gff.checkpoint import Checkpoint as Checkpoint
    from supa_gff.disk.graph import DiskGraph as DiskGraph
    from supa_gff.disk.writing import write_disk_graph as write_disk_graph
    from supa_gff.evaluation import Evaluation as Evaluation
    from supa_gff.evaluation import evaluate as evaluate
    from supa_gff.graph_set import GraphSet as GraphSet
    from supa_gff.method import Method as Method
    from supa_gff.networks.network import Network as Network
    from supa_gff.own_data.loading import load_graphs as load_graphs
    from supa_gff.presets import PRESETS as PRESETS
    from supa_gff.presets import preset as preset
    from supa_gff.shower_encoding import ShowerEncoding as ShowerEncoding
    from supa_gff.shower_stream import ShowerGraphStream as ShowerGraphStream
    from supa_gff.showers import SHOWER_TASKS as SHOWER_TASKS
    from supa_gff.showers import ShowerGraphs as ShowerGraphs
    from supa_gff.showers import encoded_showers as encoded_showers
    from supa_gff.showers import shower_graphs as shower_graphs
    from supa_gff.splits.links import LinkSplit as LinkSplit
    from supa_gff.splits.links import split_links as split_links
    from supa_gff.splits.standard import Split as Split
    from supa_gff.splits.standard import split_items as split_items
    from supa_gff.splits.standard import standard_split as standard_split
    from supa_gff.training.data import Pairs as Pairs
    from supa_gff.training.disk_task import node_scores as node_scores
    from supa_gff.training.tasks import train as train
    from supa_gff.training.tasks import training_task as training_task
    from supa_gff.updates.factory import update_rule as update_rule
    from supa_gff.updates.loss_stats import LayerStats as LayerStats

__getattr__, __dir__, __all__ = lazy_names(__name__)

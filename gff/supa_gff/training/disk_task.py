"""Greedy training on a graph on disk: layers are trained on rows of their kept inputs."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from supa.checks import check_int
from supa_datasets.torch_io import read_checked, write_atomic
from supa_gff.batch import Batch
from supa_gff.disk.graph import DiskGraph
from supa_gff.disk.kept_inputs import KeptInputs, activations, row_topology
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.network import Network
from supa_gff.networks.score_network import check_fits
from supa_gff.training.data import VALIDATION_FACTOR
from supa_gff.training.disk_data import DiskData, row_batch, sorted_nodes
from supa_gff.training.graph_task import GraphTask, layer_part
from supa_gff.training.pipeline import Pipeline
from supa_gff.training.scoring import all_metrics, choose_layers, scores_and_targets, validation_score
from supa_gff.updates.activation_cache import CacheLocation
from supa_gff.updates.loss_stats import mean_figures, sum_stats
from supa_learning.checkpoint_writer import CheckpointWriter
from supa_learning.processes import Processes
from supa_learning.schedules import Position, StepDecay
from supa_learning.task import Figures, Validation
from supa_learning.trainer import Trainer
from supa_learning.training_state import Epoch

_FORMAT, _VERSION = "supa-gff-disk-training", 1
_SAVE_SECONDS = 60.0


class DiskTask(GraphTask):
    """Task that trains the layers of a network one after another on a graph that need not fit in memory.

    The propagated input of each layer is computed block by block for all nodes, and kept. Then the layer is trained on
    batches of its rows, without any edges.

    Args:
        network: Network to train.
        graph: The graph.
        train: (count,) int64 training nodes.
        valid: (count,) int64 validation nodes.
        seed: Random seed of the training.
        cache: Where the inputs are kept; see `train`.
        turns: Number of passes over the layers; see `train`.
        processes: Processes that train the layers in a pipeline. None: this process alone.

    Raises:
        ValueError: If the method cannot be trained on rows, or the network does not fit the graph.
    """

    data: DiskData

    def __init__(
        self,
        network: Network,
        graph: DiskGraph,
        train: Tensor | None,
        valid: Tensor | None,
        *,
        seed: int,
        cache: CacheLocation,
        turns: int = 1,
        processes: Processes | None = None,
    ) -> None:
        method = network.method
        check_rows(network, graph)
        check_int(1, method.epochs, "turns", turns, "(at most the number of epochs)")
        self.inputs = KeptInputs(network, graph, cache)
        device = self.inputs.device
        self.pipeline = Pipeline(method.layers, processes or Processes(), cache if isinstance(cache, Path) else None)
        super().__init__(network, DiskData(graph, train, valid, method.batch_size, device), seed=seed)
        self.turns, self.stages = turns, turns * len(self.pipeline.own)
        self.epochs = -(-method.epochs // turns)
        self._decay = StepDecay(method.learning_rate, method.lr_step_size)
        self.schedule = self._rate
        self._layer, self._turn = self.pipeline.own[0], 0
        self._below: dict[int, Tensor] = {}

    def module(self, stage: int) -> nn.Module:
        """Return the layer that is trained in a stage."""
        return self.network.layer(self._place(stage)[1])

    @contextmanager
    def session(self) -> Iterator[None]:
        """Release the kept inputs after the training; those in a folder remain."""
        try:
            yield
        finally:
            self.data.inputs = None

    def start_stage(self, stage: int) -> None:
        """Compute the inputs of a layer from the inputs of the layer below."""
        self._turn, self._layer = self._place(stage)
        if self._layer == self.pipeline.own[0] > 0:
            self._load(self.pipeline.receive(self._turn, self._layer - 1))
        self.data.inputs = self.inputs.prepared(self._layer, self._turn)
        if not isinstance(self.inputs.location, Path):
            self.remove_older()

    def remove_older(self) -> None:
        """Remove the kept inputs of this process that the training no longer needs."""
        kept = {("prepared", self._layer, self._turn)}
        if self._turn < self.turns - 1:
            kept.add(("prepared", 0, 0))  # those of the first layer are the same in every pass
        # The process of the layers below may be ahead, and may have passed on the activations of later passes.
        kept |= {("rows", self.pipeline.own[0], turn) for turn in range(self._turn + 1, self.turns)}
        self.inputs.remove_except(self.pipeline.own, kept)

    def batches(self, stage: int, epoch: int, first: int) -> Iterator[Batch]:
        """Iterate over the training batches of an epoch; see `TrainingTask.batches`."""
        key = (self.seed, self._turn, self._layer, epoch)
        if first == 0:
            # The random numbers of an epoch do not depend on the layers that this process trained before.
            torch.manual_seed(int(np.random.default_rng(key).integers(2**63)))
        return self.data.batches(first, *key)

    def update(self, batch: Batch, learning_rate: float) -> Tensor:
        """Update one layer; see `GraphTask.update`."""
        layer = self._layer
        self.rule.optimisers.set_learning_rate([layer], learning_rate)
        candidates = self.candidates.draw(batch, layer, lambda: row_scores(self.network, layer, batch))
        prepared = batch.x[None]
        inputs = HypothesisBatch(prepared, row_topology(batch.num_nodes, batch.x.device), None)
        return sum_stats([self.rule.update_layer(layer, inputs, batch, candidates, prepared=prepared).stats])

    def figures(self, totals: Tensor) -> Figures:
        """Return the mean statistics of the layer; see `TrainingTask.figures`."""
        return {layer_part(self._layer): mean_figures(totals)[0]}

    def validate(self, batches: Iterable[Batch]) -> Validation:
        """Evaluate the layer combined with those below; see `TrainingTask.validate`."""
        scores, target = self._scores(batches)
        below = [self._below[layer].to(scores.device) for layer in range(self._layer)]
        together = self.network.aggregate(torch.stack([*below, scores]))
        figures = {layer_part(self._layer): all_metrics(self.network, together, target)}
        return Validation(validation_score(self.network, together, target), figures)

    def end_stage(self, stage: int) -> None:
        """Keep the validation scores of the layer. After the last layer of this process, pass the layers on."""
        layer, turn, own = self._layer, self._turn, self.pipeline.own
        self._below[layer] = self._scores(self.validation_batches())[0].cpu()
        if turn == self.turns - 1:
            self.rule.optimisers.release(layer)
        if layer == own[-1]:
            if layer + 1 < self.network.method.layers:
                self.inputs.pass_on(layer + 1, turn)
            weights = {index: self.network.layer(index).state_dict() for index in range(layer + 1)}
            self.pipeline.send(turn, layer, {"weights": weights, "scores": dict(self._below)})

    def end(self) -> None:
        """Receive the layers of the other processes, and select the layers to use for prediction."""
        layers = self.network.method.layers
        if self.pipeline.own[-1] + 1 < layers:
            self._load(self.pipeline.receive(self.turns - 1, layers - 1))
        if self.network.method.layers_used == "chosen":
            target = self.data.graphs.targets_of(torch.from_numpy(self.data.valid))
            scores = torch.stack([self._below[layer] for layer in range(layers)])
            choose_layers(self.network, scores.to(self.device), target.to(self.device))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the update rule, and the validation scores of the trained layers."""
        return {**super().state_dict(), "below": dict(self._below)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state.

        Args:
            state: Result of `state_dict`.
        """
        super().load_state_dict(state)
        self._below = dict(state["below"])

    def _place(self, stage: int) -> tuple[int, int]:
        """Return the pass over the layers, and the layer, of a stage."""
        turn, index = divmod(stage, len(self.pipeline.own))
        return turn, self.pipeline.own[index]

    def _rate(self, position: Position) -> float:
        return self._decay(position._replace(epoch=position.epoch + self._turn * self.epochs))

    def _scores(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        return scores_and_targets([(row_scores(self.network, self._layer, batch), batch.target) for batch in batches])

    def _load(self, values: Mapping[str, Any]) -> None:
        """Load the layers of the other processes, and their validation scores."""
        for index, weights in values["weights"].items():
            if index not in self.pipeline.own:
                self.network.layer(index).load_state_dict(weights)
        self._below |= {index: scores for index, scores in values["scores"].items() if index not in self.pipeline.own}


def check_rows(network: Network, graph: DiskGraph) -> None:
    """Check that a network fits a graph on disk, and that its layers can be computed row by row.

    Args:
        network: The network.
        graph: The graph.

    Raises:
        ValueError: If it does not.
    """
    method = network.method
    if not isinstance(graph, DiskGraph):
        raise ValueError(f"A {type(graph).__name__} was given as graph, but it must be a DiskGraph.")
    check_fits(network, graph)
    by_row = all(network.layer(index).by_node for index in range(method.layers))
    negatives = method.negatives
    drawn_once = negatives is not None and not negatives.redraw
    if method.schedule != "greedy" or not by_row or method.label_conditioned or method.collaboration or drawn_once:
        raise ValueError(
            "A graph on disk requires layers that can be trained on single rows of their inputs: schedule='greedy', "
            "conv='gcn', 'gin', 'sage' or 'graph', normalisation='layer', 'length' or 'none', a score without labels "
            "or convolutions, such as Head('linear') or Head('mlp'), and no residual, collaboration, dropout=, or "
            "negatives that are drawn once."
        )


@torch.no_grad()
def row_scores(network: Network, layer: int, batch: Batch) -> Tensor:
    """Compute the scores of a layer for a batch of rows.

    Args:
        network: The network.
        layer: Index of the layer.
        batch: Batch whose ``x`` has the prepared inputs of the layer.

    Returns:
        (rows, out_channels) float32 scores.
    """
    module = network.layer(layer)
    h = activations(module, batch.x[None])
    return module.score(h, row_topology(batch.num_nodes, batch.x.device), batch)


def node_scores(network: Network, graph: DiskGraph, nodes: Tensor, *, cache: CacheLocation = "disk") -> Tensor:
    """Compute the scores of each layer for nodes of a graph on disk.

    The inputs of each layer are computed block by block for all nodes, as in `train`.

    Args:
        network: Trained network.
        graph: The graph.
        nodes: (count,) int64 indices of nodes, without repetitions.
        cache: Where the inputs are kept meanwhile; see `train`.

    Returns:
        (layers, count, out_channels) float32 scores on the CPU. ``network.aggregate`` combines them.

    Raises:
        ValueError: If the network does not fit the graph, or the indices are not allowed.

    Example:
        >>> import torch
        >>> from supa_gff import Network, node_scores, preset, write_disk_graph
        >>> x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
        >>> graph = write_disk_graph("square", [(x, y)], [torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])])
        >>> network = Network.for_graphs(preset("cafo", "node").replace(layers=3), graph)
        >>> scores = node_scores(network, graph, torch.tensor([3, 1]))
        >>> scores.shape, network.aggregate(scores).argmax(1).shape
        (torch.Size([3, 2, 2]), torch.Size([2]))
    """
    check_rows(network, graph)
    ordered = sorted_nodes("nodes", nodes, graph)
    inputs, size = KeptInputs(network, graph, cache), VALIDATION_FACTOR * network.method.batch_size
    layers = []
    for layer in range(network.method.layers):
        prepared = inputs.prepared(layer)
        parts = (row_batch(graph, prepared, ordered[k : k + size], inputs.device) for k in range(0, len(ordered), size))
        layers.append(torch.cat([row_scores(network, layer, part).cpu() for part in parts]))
        inputs.remove_except(range(network.method.layers), {("prepared", layer, 0)})
    inputs.remove_except(range(network.method.layers), set())
    return torch.stack(layers)[:, torch.from_numpy(np.searchsorted(ordered, nodes.cpu().numpy()))]


@dataclass(frozen=True)
class _Saved:
    """State of a training, with a checksum of everything that determines it."""

    trainer: Trainer[Any]
    content: str

    def save(self, path: Path) -> None:
        """Write the state atomically."""
        envelope = {"format": _FORMAT, "version": _VERSION}
        write_atomic(path, {**envelope, "content": self.content, "training": self.trainer.state_dict()})


def _content(task: DiskTask) -> str:
    data, processes = task.data, task.pipeline.processes
    text = f"{data.graphs.checksum} {task.network.method} {task.seed} {task.turns} {processes.rank} {processes.count}"
    digest = hashlib.sha256(text.encode())
    digest.update(data.train.tobytes())
    digest.update(data.valid.tobytes())
    for value in task.network.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


class FolderWriter(CheckpointWriter):
    """Callback that saves the state of a training beside its kept inputs.

    Args:
        trainer: Trainer of a `DiskTask` with a folder.
        folder: The folder.

    Raises:
        ValueError: If the folder belongs to another training.
    """

    def __init__(self, trainer: Trainer[Any], folder: Path) -> None:
        task = trainer.task
        path = folder / f"training-{task.pipeline.processes.rank}.pt"
        content = _content(task)
        if path.exists():
            saved = read_checked(path, format_name=_FORMAT, version=_VERSION, written_by="supa_gff.train")
            if saved["content"] != content:
                raise ValueError(
                    f"{path}: it belongs to another training; choose another folder for cache, or remove this one."
                )
            trainer.load_state_dict(saved["training"])
        super().__init__(path, lambda: _Saved(trainer, content), seconds=_SAVE_SECONDS, at_start=False)

    def on_step(self, trainer: Trainer[Any]) -> None:
        """Save the state at intervals. After the end, remove all kept inputs."""
        super().on_step(trainer)
        if trainer.state.finished:
            trainer.task.inputs.remove_except(trainer.task.pipeline.own, set())

    def on_epoch(self, trainer: Trainer[Any], epoch: Epoch) -> None:
        """Save the state, and then remove kept inputs that a resumed training does not need."""
        self._up_to_date = False
        self.write()
        trainer.task.remove_older()

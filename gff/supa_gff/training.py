"""Training a network by its method: layer after layer on kept inputs, or all layers at each step."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor

from supa.checks import counted
from supa_gff import metrics
from supa_gff.checks import one_of
from supa_gff.data import Batch, GraphSet
from supa_gff.label_injection import VirtualNodes
from supa_gff.losses import SquaredError
from supa_gff.networks.network import Network
from supa_gff.randomness import OwnRandomness
from supa_gff.updates.activation_cache import ActivationCache, CacheLocation, GraphSetCache, SingleGraphCache
from supa_gff.updates.factory import update_rule
from supa_gff.updates.loss_stats import LayerStats, MeanStats, mean_by_layer


@dataclass(frozen=True)
class Epoch:
    """One epoch of training.

    Args:
        layer: number of the layer; -1: all layers at once.
        epoch: number of the epoch, from 0; from 0 again for each layer if greedy.
        steps: the mean figures of each updated layer.
        valid: the score on validation, larger is better: accuracy, area under the ROC curve, or minus the root mean
            squared error; NaN where the epoch was not validated.
        layer_valid: the same of each layer alone; empty if greedy, or not validated.
        seconds: wall time of the epoch, validation included.
    """

    layer: int
    epoch: int
    steps: tuple[MeanStats, ...]
    valid: float
    layer_valid: tuple[float, ...]
    seconds: float


@dataclass
class State:
    """Where training stands between two epochs: all that a resumed one needs to go on exactly.

    Args:
        layer: the layer that trains, if greedy.
        epoch: the next epoch.
        best: the best validation so far, and its cross-entropy.
        best_epoch: its epoch.
        best_weights: weights then, of the layer or of the network.
        history: the finished epochs.
        candidates: labels drawn once, where the method says so.
        finished: whether training is over.
    """

    layer: int = 0
    epoch: int = 0
    best: tuple[float, float] = (-math.inf, -math.inf)
    best_epoch: int = -1
    best_weights: dict[str, Any] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)
    candidates: Tensor | None = None
    finished: bool = False


class Pairs:
    """Training and validation pairs of nodes of one graph: link prediction.

    Args:
        train: batch at link level, linked pairs and as many others or a multiple.
        valid: batch at link level with the same nodes and edges.
    """

    def __init__(self, train: Batch, valid: Batch) -> None:
        self.train, self.valid = train, valid


class Trainer:
    """Trains a network.

    Args:
        network: the network, on the device of the graphs.
        graphs: the set; ``Pairs`` at link level.
        train: (count,) int64 members to train on: graphs, or nodes of a single graph at node level.
        valid: members to stop and choose by.
        seed: of everything random in training, which neither changes nor depends on PyTorch's global random state; the
            first weights are drawn when the network is made.
        cache: where the cached inputs of greedy layers are stored.
        on_epoch: called after each epoch, when the state is whole; what it raises ends training.
        on_batch: called before each batch, also of validation; what it raises ends training within the epoch.
    """

    def __init__(
        self,
        network: Network,
        graphs: GraphSet | Pairs,
        train: Tensor | None = None,
        valid: Tensor | None = None,
        *,
        seed: int = 0,
        cache: CacheLocation = "memory",
        on_epoch: Callable[["Trainer", Epoch], None] | None = None,
        on_batch: Callable[[], None] | None = None,
    ) -> None:
        self.network, self.graphs, self.seed, self.state = network, graphs, seed, State()
        one_of(get_args(CacheLocation), "cache", cache)
        self._location, self.on_epoch, self.on_batch = cache, on_epoch, on_batch
        self._whole: Batch | None = None
        if isinstance(graphs, GraphSet) and graphs.level == "link":
            raise ValueError("Links are trained on Pairs(train, valid); split_links makes their batches.")
        if isinstance(graphs, GraphSet):
            if train is None or valid is None or len(train) == 0 or len(valid) == 0:
                raise ValueError("There must be members to train on and members to validate on; give both.")
            for name, members in (("train", train), ("valid", valid)):
                _check_members(name, members, graphs)
            self._train, self._valid = train.to(graphs.device), valid.to(graphs.device)
            made_for = (network.level, network.in_channels, network.out_channels)
            if made_for != (graphs.level, graphs.num_features, graphs.num_outputs):
                raise ValueError(
                    f"The network is for {counted(network.in_channels, 'feature')}, "
                    f"{counted(network.out_channels, 'output')} and {network.level} level, but the set has "
                    f"{counted(graphs.num_features, 'feature')}, {counted(graphs.num_outputs, 'output')} and is for "
                    f"{graphs.level} level; make it with Network.for_graphs."
                )
        self.rule = update_rule(network)
        self._random = OwnRandomness(seed, network.layer_mask.device)

    def run(self) -> State:
        """Train until the end, from where the state stands.

        PyTorch's global generators have the same state before and after, and in `on_epoch`.

        Returns:
            The state; the network has its best weights and knows which layers vote.
        """
        state = self.state
        if not state.finished:
            with self._random.exchanged():
                if self.network.method.schedule == "greedy":
                    self._run_greedy()
                else:
                    self._run_jointly()
                self._choose_votes()
            state.finished = True
        self.network.eval()
        return state

    @property
    def batches_an_epoch(self) -> tuple[int, int]:
        """Numbers of batches of an epoch: to train on, and to validate on."""
        if isinstance(self.graphs, Pairs) or self.graphs.transductive:
            return 1, 1
        size = self.network.method.batch_size
        return -(-len(self._train) // size), -(-len(self._valid) // (4 * size))

    def state_dict(self) -> dict[str, Any]:
        """Give all that a resumed training needs, between two epochs.

        Returns:
            Plain values and tensors, which further training does not change.
        """
        network = self.network
        random, cuda_random = self._random.state()
        state = {name: value for name, value in vars(self.state).items() if name != "history"}
        changing = {
            "state": state,
            "network": network.state_dict(),
            "optimisers": self.rule.state_dict(),
            "random": random,
            "cuda_random": cuda_random,
            "seed": self.seed,
        }
        copied: dict[str, Any] = copy.deepcopy(changing)
        # Epochs do not change, and there may be thousands.
        copied["state"]["history"] = [
            {**vars(epoch), "steps": tuple(map(tuple, epoch.steps))} for epoch in self.state.history
        ]
        return copied

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go back to where a training stood.

        Args:
            saved: from `state_dict`; it is not changed.
        """
        saved = copy.deepcopy(saved)
        device = self.network.layer_mask.device
        state = dict(saved["state"])
        state["history"] = [
            Epoch(
                **{
                    **epoch,
                    "steps": tuple(MeanStats(*step) for step in epoch["steps"]),
                    "layer_valid": tuple(epoch["layer_valid"]),
                }
            )
            for epoch in state["history"]
        ]
        state["best"] = tuple(state["best"])
        if state["candidates"] is not None:
            state["candidates"] = state["candidates"].to(device)
        self.state = State(**state)
        self.network.load_state_dict(saved["network"])
        self.rule.load_state_dict(saved["optimisers"])
        self.seed = saved["seed"]
        self._random.load_state(saved["random"], saved["cuda_random"])

    def _run_greedy(self) -> None:
        method, state = self.network.method, self.state
        kept = self._kept()
        below: list[Tensor] = []
        for layer in range(method.layers):
            module = self.network.layer(layer)
            if kept is not None:
                kept.prepare(module)
            if layer == state.layer:
                self._train_layer(layer, kept, below)
                state.layer, state.epoch = layer + 1, 0
                state.best, state.best_epoch, state.best_weights = (-math.inf, -math.inf), -1, {}
            if layer + 1 < method.layers:
                module.eval()
                below.append(self._layer_valid_scores(layer, kept)[0])
                if kept is not None:
                    kept.advance(module)

    def _train_layer(self, layer: int, kept: ActivationCache | None, below: list[Tensor]) -> None:
        """Train one layer; it is judged by its vote together with those of the layers below."""
        network = self.network
        module = network.layer(layer)
        while self._goes_on():
            started = time.perf_counter()
            self._set_learning_rate([layer])
            steps = []
            for batch in self._batches():
                candidates = self._candidates(batch, layer, kept)
                if kept is None:
                    steps += self.rule.step(batch, layer, candidates)
                else:
                    steps.append(kept.update(layer, batch, candidates))
            valid = math.nan
            if self._validates():
                module.eval()
                scores, target = self._layer_valid_scores(layer, kept)
                valid = self._take_best(module, network.aggregate(torch.stack([*below, scores])), target)
            self._finish_epoch(layer, steps, valid, (), started)
        self._restore_best(module)
        self.rule.optimisers.release(layer)

    def _run_jointly(self) -> None:
        network = self.network
        layers = range(network.method.layers)
        while self._goes_on():
            started = time.perf_counter()
            self._set_learning_rate(layers)
            steps = []
            for batch in self._batches():
                steps += self.rule.step(batch, candidates=self._candidates(batch, None, None))
            valid = math.nan
            layer_valid: tuple[float, ...] = ()
            if self._validates():
                scores, target = self._valid_scores()
                layer_valid = tuple(self._merit(part, target)[0] for part in scores)
                valid = self._take_best(network, network.aggregate(scores), target)
            self._finish_epoch(-1, steps, valid, layer_valid, started)
        self._restore_best(network)

    def _restore_best(self, module: torch.nn.Module) -> None:
        if not self.state.best_weights:
            raise ValueError(
                "No validation gave a number: training diverged (lower learning_rate, or normalise), or the pairs to "
                "validate on are all of one kind."
            )
        module.load_state_dict(self.state.best_weights)

    def _layer_valid_scores(self, layer: int, kept: ActivationCache | None) -> tuple[Tensor, Tensor]:
        """Give one layer's (units, outputs) scores and the targets of validation."""
        parts = [
            (self.network.layer_scores(batch)[layer] if kept is None else kept.scores(layer, batch), batch.target)
            for batch in self._valid_batches()
        ]
        return torch.cat([scores for scores, _ in parts]), torch.cat([target for _, target in parts])

    def _goes_on(self) -> bool:
        method, state = self.network.method, self.state
        waited = state.epoch - 1 - max(state.best_epoch, 0)
        return state.epoch < method.epochs and waited < method.patience * method.validate_every

    def _validates(self) -> bool:
        method, epoch = self.network.method, self.state.epoch
        return (epoch + 1) % method.validate_every == 0 or epoch + 1 == method.epochs

    def _set_learning_rate(self, layers: Iterable[int]) -> None:
        method = self.network.method
        halvings = 0 if method.lr_step_size is None else self.state.epoch // method.lr_step_size
        self.rule.optimisers.set_learning_rate(layers, method.learning_rate * 0.5**halvings)

    def _take_best(self, module: torch.nn.Module, scores: Tensor, target: Tensor) -> float:
        """Remember the weights if they are the best so far; equal metrics are told apart by their loss."""
        merit = self._merit(scores, target)
        if merit > self.state.best:
            self.state.best, self.state.best_epoch = merit, self.state.epoch
            self.state.best_weights = copy.deepcopy(module.state_dict())
        return merit[0]

    def _finish_epoch(
        self, layer: int, steps: list[LayerStats], valid: float, layer_valid: tuple[float, ...], started: float
    ) -> None:
        state = self.state
        epoch = Epoch(layer, state.epoch, mean_by_layer(steps), valid, layer_valid, time.perf_counter() - started)
        state.history.append(epoch)
        state.epoch += 1
        if self.on_epoch is not None:
            with self._random.exchanged():
                self.on_epoch(self, epoch)

    def _merit(self, scores: Tensor, target: Tensor) -> tuple[float, float]:
        """Give the metric, larger is better, and minus the loss; NaN of scores that are no numbers."""
        if bool(scores.isnan().any()):
            return math.nan, 0.0
        if self.network.level == "link":
            return metrics.roc_auc(scores[:, 0], target), 0.0
        if isinstance(self.network.method.loss, SquaredError):
            return -metrics.root_mean_squared_error(scores[:, 0], target), 0.0
        return metrics.accuracy(scores, target), -metrics.log_loss(scores, target)

    def _choose_votes(self) -> None:
        """Let those neighbouring layers vote that do best on validation; the most, where some do equally well."""
        network = self.network
        if network.method.layers_used != "chosen":
            return
        scores, target = self._valid_scores()
        layers = network.method.layers
        ranges = [(first, end) for first in range(layers) for end in range(first + 1, layers + 1)]

        def merit(chosen: tuple[int, int]) -> tuple[float, int]:
            network.set_layer_mask(*chosen)
            return self._merit(network.aggregate(scores), target)[0], chosen[1] - chosen[0]

        network.set_layer_mask(*max(ranges, key=merit))

    def _batches(self) -> Iterator[Batch]:
        if isinstance(self.graphs, Pairs):
            batches: Iterable[Batch] = [self.graphs.train]
        elif self.graphs.transductive:
            batches = [self._whole_train()]
        else:
            batches = self.graphs.batches(self._train, self.network.method.batch_size, shuffle=True)
        yield from self._watched(batches)

    def _valid_batches(self) -> Iterator[Batch]:
        if isinstance(self.graphs, Pairs):
            batches: Iterable[Batch] = [self.graphs.valid]
        else:
            batches = self.graphs.batches(self._valid, 4 * self.network.method.batch_size, known=self._train)
        yield from self._watched(batches)

    def _watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if self.on_batch is not None:
                with self._random.exchanged():
                    self.on_batch()
            yield batch

    def _whole_train(self) -> Batch:
        assert isinstance(self.graphs, GraphSet)
        if self._whole is None:
            self._whole = self.graphs.batch(self._train, self._train)
        return self._whole

    def _valid_scores(self) -> tuple[Tensor, Tensor]:
        """Give the (layers, units, outputs) scores and the targets of validation."""
        return self.network.scores_of(self._valid_batches())

    def _candidates(self, batch: Batch, layer: int | None, kept: ActivationCache | None) -> Tensor | None:
        negatives = self.network.method.negatives
        if negatives is None:
            return None
        if negatives.redraw:
            if kept is not None and layer is not None:
                return self.rule.draw_candidates(batch, lambda: kept.scores(layer, batch))
            return self.rule.draw_candidates(batch, layer=layer)
        return self._fixed_candidates(batch)

    def _fixed_candidates(self, batch: Batch) -> Tensor:
        """Give the labels that were drawn once for all units of the set."""
        assert isinstance(self.graphs, GraphSet)
        if self.state.candidates is None:
            everything = self.graphs.batch(torch.arange(self.graphs.num_items, device=self.graphs.device))
            self.state.candidates = self.rule.draw_candidates(everything)
        assert self.state.candidates is not None
        if self.graphs.transductive:
            return self.state.candidates[self._train]
        rows = batch.graph_indices if self.graphs.level == "graph" else batch.node_indices
        return self.state.candidates[rows]

    def _kept(self) -> ActivationCache | None:
        """Make the kept inputs, where the streams of lower layers do not change from step to step."""
        network, graphs = self.network, self.graphs
        method = network.method
        if method.collaboration:
            return None
        if isinstance(graphs, Pairs):
            return SingleGraphCache(self.rule, graphs.train, graphs.valid, None)
        if graphs.transductive:
            if method.label_conditioned and (method.negatives is None or method.negatives.redraw):
                return None
            candidates = self._candidates(self._whole_train(), None, None) if method.label_conditioned else None
            return SingleGraphCache(self.rule, self._whole_train(), next(self._valid_batches()), candidates)
        if method.label_conditioned and (graphs.level == "node" or isinstance(method.label, VirtualNodes)):
            return None
        return GraphSetCache(self.rule, graphs, torch.cat([self._train, self._valid]), self._location)


def _check_members(name: str, members: Tensor, graphs: GraphSet) -> None:
    if members.dtype != torch.int64 or members.dim() != 1:
        raise ValueError(f"{name} must be int64 numbers of members; of a mask, take mask.nonzero().view(-1).")
    if int(members.min()) < 0 or int(members.max()) >= graphs.num_items:
        raise ValueError(
            f"{name} has members from {int(members.min())} to {int(members.max())}, but the set has "
            f"{graphs.num_items}, counted from 0."
        )

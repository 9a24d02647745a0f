"""A network of layers that each learn from their own score; a plain module that drops into any training loop."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn

from supa.checks import check_int, counted
from supa_gff.checks import one_of
from supa_gff.graphs import Batch, Graphs, Level
from supa_gff.labels import VirtualNodes, joined_to_class_nodes
from supa_gff.layer import Layer
from supa_gff.losses import SquaredError, Threshold
from supa_gff.method import Method
from supa_gff.recompute import recomputed
from supa_gff.scores import PairProduct, Prototypes
from supa_gff.streams import Step, Streams, one_stream
from supa_gff.topology import Topology
from supa_gff.votes import Votes, added


class Network(nn.Module):
    """A graph network whose layers learn locally.

    Args:
        method: how it is built, scored and trained.
        in_features: features of a node.
        outputs: number of classes; 1 for values and for pairs.
        level: what is predicted.
        degrees: (largest degree + 1,) int64 histogram of the nodes' degrees, which PNA needs.

    Raises:
        ValueError: the method cannot do the task.
    """

    voting: Tensor
    class_nodes: Tensor | None

    def __init__(
        self,
        method: Method,
        in_features: int,
        outputs: int,
        level: Level = "graph",
        degrees: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_int(1, 10**9, "in_features", in_features)
        check_int(1, 10**6, "outputs", outputs)
        _check_task(method, outputs, level)
        self.method, self.outputs, self.level, self.in_features = method, outputs, level, in_features
        self.layers = nn.ModuleList(self._made_layer(index, degrees) for index in range(method.layers))
        self.register_buffer("voting", torch.ones(method.layers, dtype=torch.bool))
        virtual = isinstance(method.label, VirtualNodes)
        self.register_buffer("class_nodes", torch.randn(outputs, in_features) if virtual else None)
        self._optimisers: dict[int, torch.optim.Adam] = {}
        self._parity = 0
        if method.vote == "last":
            self.let_vote(method.layers - 1, method.layers)

    @staticmethod
    def for_graphs(method: Method, graphs: Graphs) -> "Network":
        """Make the network that fits a set of graphs.

        Args:
            method: how it is built, scored and trained.
            graphs: the set.

        Returns:
            The network, on the device of the set.
        """
        outputs = 1 if graphs.level == "link" else graphs.num_outputs
        degrees = graphs.degrees.cpu()
        return network_of(method, graphs.num_features, outputs, graphs.level, degrees).to(graphs.device)

    def layer(self, index: int) -> Layer:
        """Give a layer.

        Args:
            index: its number from 0.

        Returns:
            The layer.
        """
        module = self.layers[index]
        assert isinstance(module, Layer)
        return module

    def let_vote(self, first: int, end: int) -> None:
        """Let some layers vote.

        Args:
            first: the first of them.
            end: one past the last.
        """
        self.voting[:] = False
        self.voting[first:end] = True

    def optimiser(self, layer: int) -> torch.optim.Adam:
        """Give the optimiser of a layer; it is made when it is first asked for.

        Args:
            layer: number of the layer.

        Returns:
            Adam over the parameters of that layer alone.
        """
        if layer not in self._optimisers:
            trained = [p for p in self.layers[layer].parameters() if p.requires_grad]
            method = self.method
            self._optimisers[layer] = torch.optim.Adam(
                trained, lr=method.learning_rate, weight_decay=method.weight_decay, fused=True
            )
        return self._optimisers[layer]

    def release(self, layer: int) -> None:
        """Forget the optimiser of a layer, which has finished training.

        Args:
            layer: number of the layer.
        """
        self._optimisers.pop(layer, None)

    def optimiser_states(self) -> dict[str, Any]:
        """Give the state of the optimisers, and which layers the next pairs are made of.

        Returns:
            States by layer, and the parity.
        """
        return {
            "layers": {layer: optimiser.state_dict() for layer, optimiser in self._optimisers.items()},
            "parity": self._parity,
        }

    def load_optimiser_states(self, states: Mapping[str, Any]) -> None:
        """Take the state of the optimisers.

        Args:
            states: from `optimiser_states`.
        """
        self._optimisers = {}
        for layer, state in states["layers"].items():
            self.optimiser(layer).load_state_dict(state)
        self._parity = states["parity"]

    def streams(self, batch: Batch, labels: Tensor | None) -> Streams:
        """Put a batch before the first layer.

        Args:
            batch: the batch.
            labels: (streams, nodes) int64 hypotheses about the nodes' labels, -1 = unknown; None without injection.

        Returns:
            The streams.
        """
        if batch.x.shape[1] != self.in_features:
            raise ValueError(
                f"The nodes have {counted(batch.x.shape[1], 'feature')}, but the network was made for "
                f"{self.in_features:,}."
            )
        topology = Topology(batch.edge_index, batch.graph, batch.num_graphs, batch.num_nodes)
        x = batch.x[None]
        if self.class_nodes is None:
            return Streams(x, topology, labels)
        if labels is None:
            if batch.context is None:
                raise ValueError("Class nodes are joined to nodes whose labels are known: the batch needs a context.")
            labels = batch.context[None]
        x, topology = joined_to_class_nodes(x, topology, labels, self.class_nodes, self.level)
        return Streams(x, topology, None)

    def pass_on(self, streams: Streams, h: Tensor, *, truth_first: bool = False) -> Streams:
        """Put the activations of a layer before the next one, without gradient.

        Args:
            streams: what the layer saw.
            h: (streams, nodes, width) float32 activations.
            truth_first: whether the first stream holds the true labels, as in training.

        Returns:
            What the next layer sees.
        """
        h = h.detach()
        label = self.method.label
        # Where no stream is known to be true, each goes on with its own, or the first class would lend it to all.
        if truth_first and self.method.conditioned and isinstance(label, VirtualNodes) and label.positive_features:
            h = h[:1].expand(len(h), -1, -1)
        return Streams(h, streams.topology, streams.labels)

    def hypotheses(self, batch: Batch, candidates: Tensor) -> Tensor:
        """Write candidate labels of the units as labels of the nodes.

        Args:
            batch: the batch.
            candidates: (units, candidates) int64.

        Returns:
            (candidates, nodes) int64, -1 = unknown.
        """
        if self.level == "graph":
            return candidates.t()[:, batch.graph]
        if batch.units is None:
            return candidates.t().contiguous()
        unknown = batch.x.new_full((batch.num_nodes,), -1, dtype=torch.int64)
        labels = (unknown if batch.context is None else batch.context).repeat(candidates.shape[1], 1)
        labels[:, batch.units] = candidates.t()
        return labels

    def draw_candidates(
        self, batch: Batch, scores: Callable[[], Tensor] | None = None, layer: int | None = None
    ) -> Tensor | None:
        """Draw the labels that a step compares: the true one first, then wrong ones.

        Args:
            batch: the batch.
            scores: gives (units, outputs) scores, for hard negatives; None: those of the layer that trains.
            layer: the layer that trains; None: all do, and their scores are added.

        Returns:
            (units, candidates) int64; None where all classes are scored at once, or values.
        """
        negatives = self.method.negatives
        if negatives is None:
            return None
        trained = slice(None) if layer is None else slice(layer, layer + 1)
        wrong = negatives.draw(batch.target, self.outputs, scores or (lambda: self.layer_scores(batch)[trained].sum(0)))
        return torch.cat([batch.target[:, None], wrong], 1)

    def local_loss(self, layer: int, streams: Streams, batch: Batch, candidates: Tensor | None) -> tuple[Tensor, Step]:
        """Compute the loss of one layer; its gradient reaches that layer's parameters and nothing else.

        Args:
            layer: number of the layer.
            streams: what it sees.
            batch: what is predicted.
            candidates: from `draw_candidates`.

        Returns:
            The loss, and what it saw.
        """
        loss, step, _, _ = self._local_loss(layer, streams, batch, candidates)
        return loss, step

    def _local_loss(
        self,
        layer: int,
        streams: Streams,
        batch: Batch,
        candidates: Tensor | None,
        below: Tensor | None = None,
        prepared: Tensor | None = None,
    ) -> tuple[Tensor, Step, Tensor, Tensor]:
        """Give a layer's loss, what it saw, its activations and its scores."""
        module = self.layer(layer)
        if prepared is None:
            prepared = module.prepare(streams.x, streams.topology, streams.labels)
        h = module.activate(prepared, streams.x, streams.topology, streams.labels)
        scores = module.score(h, streams.topology, batch)
        return *self._judged(layer, scores, batch, candidates, below), h, scores

    def local_step(self, data: Any, layer: int | None = None, candidates: Tensor | None = None) -> list[Step]:
        """Update layers, each by its own loss and its own optimiser; with ``"backprop"``, all by one loss.

        Args:
            data: a ``Batch``, or PyTorch Geometric's ``Data`` or ``Batch`` (see ``Batch.of``).
            layer: update this layer only, those below frozen; None: all, as the schedule says.
            candidates: labels to compare, from `draw_candidates`; None: drawn now.

        Returns:
            What each updated layer saw.

        Raises:
            ValueError: there is no such layer, or the labels do not fit the network.
        """
        batch = Batch.of(data, self.level)
        self._check(batch)
        if layer is not None:
            check_int(0, self.method.layers - 1, "layer", layer, "(layers are counted from 0)")
        if candidates is None:
            candidates = self.draw_candidates(batch, layer=layer)
        labels = self.hypotheses(batch, candidates) if self.method.conditioned and candidates is not None else None
        streams = self.streams(batch, labels)
        if self.method.schedule in ("backprop", "pairs") and layer is None:
            self.train()
            step_of_all = self._pairs_step if self.method.schedule == "pairs" else self._backprop_step
            return step_of_all(streams, batch, candidates)
        last = self.method.layers - 1 if layer is None else layer
        below: Tensor | None = None
        steps = []
        for index in range(last + 1):
            module = self.layer(index)
            if layer is not None and index < layer:
                module.eval()
                with torch.no_grad():
                    h = module(streams.x, streams.topology, streams.labels)
                    scores = self._seen(module, h, streams, batch)
            else:
                h, scores, step = self.update(index, streams, batch, candidates, below)
                steps.append(step)
            below = self._added(below, scores)
            streams = self.pass_on(streams, h, truth_first=True)
        return steps

    def update(
        self,
        layer: int,
        streams: Streams,
        batch: Batch,
        candidates: Tensor | None,
        below: Tensor | None = None,
        prepared: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Step]:
        """Update one layer on what it sees.

        Args:
            layer: number of the layer.
            streams: what it sees.
            batch: what is predicted.
            candidates: from `draw_candidates`.
            below: (units, streams or outputs) scores of the layers below, for collaboration.
            prepared: result of the layer's `prepare`, where it has been made before.

        Returns:
            Its activations and scores from before the update, without gradient, and what it saw.
        """
        self.layer(layer).train()
        if self.method.streams == "in turn" and streams.labels is not None:
            h, scores, step = self._update_in_turn(layer, streams, batch, candidates, below, prepared)
        else:
            loss, step, h, scores = self._local_loss(layer, streams, batch, candidates, below, prepared)
            loss.backward()  # type: ignore[no-untyped-call]
        self._step_optimisers([layer])
        return h.detach(), scores.detach(), step

    def layer_scores(self, data: Any) -> Tensor:
        """Score all classes by each layer.

        Args:
            data: a ``Batch``, or PyTorch Geometric's.

        Returns:
            (layers, units, outputs) float32.
        """
        batch = Batch.of(data, self.level, targets=False)
        was_training = self.training
        self.eval()
        with torch.no_grad():
            scores = torch.stack(list(self._walk(batch)))
        self.train(was_training)
        return scores

    def scores_of(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """Score all classes by each layer, batch by batch.

        Args:
            batches: the batches.

        Returns:
            (layers, units, outputs) float32 scores, and the (units,) targets.
        """
        parts = [(self.layer_scores(batch), batch.target) for batch in batches]
        return torch.cat([scores for scores, _ in parts], 1), torch.cat([target for _, target in parts])

    def forward(self, data: Any) -> Tensor:
        """Add the scores of the layers that vote.

        Args:
            data: a ``Batch``, or PyTorch Geometric's.

        Returns:
            (units, outputs) float32 scores of the classes, or values.
        """
        return self.voted(self.layer_scores(data))

    def voted(self, scores: Tensor) -> Tensor:
        """Add the scores of the layers that vote; values that each layer learnt alone are averaged.

        Args:
            scores: (layers, units, outputs) float32, of all layers or of the first ones; where none of these votes,
                the last of them does.

        Returns:
            (units, outputs) float32.
        """
        chosen = scores[self.voting[: len(scores)]]
        if len(chosen) == 0:
            chosen = scores[-1:]
        if self.level == "link" and self.votes == "probabilities":
            theta = self.method.loss.theta if isinstance(self.method.loss, Threshold) else 0.0
            return (chosen - theta).sigmoid().sum(0)
        return added(chosen, self.votes)

    @property
    def votes(self) -> Votes:
        """How the scores of the layers are added."""
        each_alone = self.method.schedule != "backprop" and not self.method.collaboration
        if isinstance(self.method.loss, SquaredError) and each_alone:
            return "mean"
        return self.method.vote_by

    def predict(self, data: Any) -> Tensor:
        """Predict.

        Args:
            data: a ``Batch``, or PyTorch Geometric's, whose targets are not looked at; at node level of the latter the
                nodes of ``train_mask``, whose labels class nodes show: to test others, give ``Graphs.batch(test,
                known=train)``.

        Returns:
            (units,) int64 classes; float32 values, for pairs their scores.
        """
        scores: Tensor = self(data)
        return scores[:, 0] if self.outputs == 1 else scores.argmax(1)

    def _made_layer(self, index: int, degrees: Tensor | None) -> Layer:
        if self.method.top_down is not None:
            raise ValueError("A method with top_down= needs a TopDownNetwork; Network.for_graphs makes it.")
        in_features = self.in_features if index == 0 else self.method.width
        return Layer(self.method, index, in_features, self.outputs, self.level, degrees)

    def _check(self, batch: Batch) -> None:
        target = batch.target
        if self.level == "link" or isinstance(self.method.loss, SquaredError):
            return
        if target.is_floating_point():
            raise ValueError("The targets are no classes but values; give loss=SquaredError() and score=Head(...).")
        # Looking at the values would make the CPU wait for a GPU at each step; `Graphs.of` has looked there.
        if not target.is_cuda and len(target) and not 0 <= int(target.min()) <= int(target.max()) < self.outputs:
            raise ValueError(
                f"The labels reach from {int(target.min())} to {int(target.max())}, but the network has "
                f"{counted(self.outputs, 'class', 'classes')}, 0 to {self.outputs - 1}."
            )

    def _seen(self, module: Layer, h: Tensor, streams: Streams, batch: Batch) -> Tensor | None:
        return module.score(h, streams.topology, batch) if self.method.collaboration else None

    def _added(self, below: Tensor | None, scores: Tensor | None) -> Tensor | None:
        if not self.method.collaboration or scores is None:
            return None
        return scores.detach() if below is None else below + scores.detach()

    def _judged(
        self, layer: int, scores: Tensor, batch: Batch, candidates: Tensor | None, below: Tensor | None = None
    ) -> tuple[Tensor, Step]:
        """Give the loss of scores, those of the layers below added, and what it saw."""
        if below is not None:
            scores = scores + below
        if isinstance(self.method.loss, SquaredError):
            loss = self.method.loss(scores[:, 0], batch.target.float())
            seen = torch.stack([loss, scores.mean(), loss * torch.nan, loss * torch.nan]).detach()
            return loss, Step(layer, seen, len(scores))
        true, wrong = self._parted(scores, batch, candidates)
        loss = self.method.loss(true, wrong)
        with torch.no_grad():
            best = (true[:, None] > wrong).all(1).float()
            seen = torch.stack([loss, true.mean(), wrong.mean(), best.mean()])
        return loss, Step(layer, seen, len(true))

    def _parted(self, scores: Tensor, batch: Batch, candidates: Tensor | None) -> tuple[Tensor, Tensor]:
        """Part scores into those of the truth and those of what is wrong."""
        if self.level == "link":
            linked = batch.target > 0
            true, wrong = scores[linked, 0], scores[~linked, 0]
            if len(true) == 0 or len(wrong) == 0 or len(wrong) % len(true):
                raise ValueError(
                    f"There {'is' if len(true) == 1 else 'are'} {counted(len(true), 'linked pair')} and "
                    f"{counted(len(wrong), 'other')}; give as many, or a multiple."
                )
            return true, wrong.view(-1, len(true)).t()
        if self.method.conditioned:
            return scores[:, 0], scores[:, 1:]
        if candidates is None:
            every = torch.arange(self.outputs - 1, device=scores.device).expand(len(scores), -1)
            wrong_labels = every + (every >= batch.target[:, None]).long()
            candidates = torch.cat([batch.target[:, None], wrong_labels], 1)
        chosen = scores.gather(1, candidates)
        return chosen[:, 0], chosen[:, 1:]

    def _update_in_turn(
        self,
        layer: int,
        streams: Streams,
        batch: Batch,
        candidates: Tensor | None,
        below: Tensor | None,
        prepared: Tensor | None,
    ) -> tuple[Tensor, Tensor, Step]:
        """Compute the gradient with the activations of one stream at a time.

        The scores come first, without gradient; then the loss's gradient with respect to them; then each stream runs
        once more and takes its share of it. The result is that of all streams together.
        """
        module = self.layer(layer)
        assert streams.labels is not None
        parts = [one_stream(streams, k) for k in range(len(streams.labels))]

        def activations_of(k: int) -> Tensor:
            part = parts[k]
            if prepared is None:
                made: Tensor = module(part.x, part.topology, part.labels)
                return made
            own = prepared if len(prepared) == 1 else prepared[k : k + 1]
            return module.activate(own, part.x, part.topology, part.labels)

        with torch.no_grad():
            activations = [activations_of(k) for k in range(len(parts))]
            scores = [module.score(h, streams.topology, batch) for h in activations]
        joined = torch.cat(scores, 1).requires_grad_()
        loss, step = self._judged(layer, joined, batch, candidates, below)
        (slope,) = torch.autograd.grad(loss, joined)
        for k in range(len(parts)):
            own_scores = module.score(activations_of(k), streams.topology, batch)
            own_scores.backward(slope[:, k : k + 1])  # type: ignore[no-untyped-call]
        return torch.cat(activations), joined, step

    def _pairs_step(self, streams: Streams, batch: Batch, candidates: Tensor | None) -> list[Step]:
        """Update all layers with gradients that reach one layer down within pairs, which alternate."""
        total: Tensor | None = None
        below: Tensor | None = None
        steps: list[Step] = []
        for index in range(self.method.layers):
            module = self.layer(index)
            h = module(streams.x, streams.topology, streams.labels)
            scores = module.score(h, streams.topology, batch)
            loss, step = self._judged(index, scores, batch, candidates, below)
            steps.append(step)
            below = self._added(below, scores)
            total = loss if total is None else total + loss
            last_of_pair = (index + self._parity) % 2 == 1 or index == self.method.layers - 1
            if last_of_pair:
                total.backward()  # type: ignore[no-untyped-call]
                total = None
                streams = self.pass_on(streams, h, truth_first=True)
            else:
                streams = Streams(h, streams.topology, streams.labels)
        self._parity = 1 - self._parity
        self._step_optimisers(range(self.method.layers))
        return steps

    def _backprop_step(self, streams: Streams, batch: Batch, candidates: Tensor | None) -> list[Step]:
        """Update all layers by one loss on the scores that vote."""
        scores: Tensor | None = None
        for index in range(self.method.layers):
            module = self.layer(index)
            if self.method.checkpointing:
                h = recomputed(module, streams)
            else:
                h = module(streams.x, streams.topology, streams.labels)
            own = module.score(h, streams.topology, batch)
            scores = own if scores is None or self.method.vote == "last" else scores + own
            streams = Streams(h, streams.topology, streams.labels)
        assert scores is not None
        loss, step = self._judged(self.method.layers - 1, scores, batch, candidates)
        loss.backward()  # type: ignore[no-untyped-call]
        self._step_optimisers(range(self.method.layers))
        return [step]

    def _step_optimisers(self, layers: Iterable[int]) -> None:
        for layer in layers:
            optimiser = self.optimiser(layer)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def _walk(self, batch: Batch) -> Iterator[Tensor]:
        """Give each layer's scores of all classes."""
        if not self.method.conditioned:
            yield from self._walk_streams(batch, None)
            return
        every = torch.arange(self.outputs, device=batch.x.device).expand(batch.num_units, -1)
        together = self.method.streams == "together"
        parts = [every] if together else list(torch.split(every, 1, 1))
        walks = [self._walk_streams(batch, self.hypotheses(batch, part)) for part in parts]
        if together:
            yield from walks[0]
            return
        # One hypothesis passes all layers before the next one starts, so that activations of one are there at a time.
        for scores in zip(*[list(walk) for walk in walks], strict=True):
            yield torch.cat(scores, 1)

    def _walk_streams(self, batch: Batch, labels: Tensor | None) -> Iterator[Tensor]:
        streams = self.streams(batch, labels)
        for index in range(self.method.layers):
            module = self.layer(index)
            h = module(streams.x, streams.topology, streams.labels)
            yield module.score(h, streams.topology, batch)
            streams = self.pass_on(streams, h)


def network_of(method: Method, in_features: int, outputs: int, level: Level, degrees: Tensor | None = None) -> Network:
    """Make the kind of network that a method needs.

    Args:
        method: how it is built, scored and trained.
        in_features: features of a node.
        outputs: number of classes; 1 for values and for pairs.
        level: what is predicted.
        degrees: histogram of the nodes' degrees, which PNA needs.

    Returns:
        The network.
    """
    if method.top_down is None:
        return Network(method, in_features, outputs, level, degrees)
    from supa_gff.topdown import TopDownNetwork

    return TopDownNetwork(method, in_features, outputs, level, degrees)


def _check_task(method: Method, outputs: int, level: Level) -> None:
    one_of(get_args(Level), "level", level)
    regression = isinstance(method.loss, SquaredError)
    if (level == "link") != isinstance(method.score, PairProduct):
        raise ValueError("Links are scored by PairProduct(), and nothing else is: choose the score by the level.")
    if level == "link":
        return
    if isinstance(method.score, Prototypes) and level != "node":
        raise ValueError("Prototypes are for node level: class nodes are joined to the nodes whose labels are known.")
    if regression and outputs != 1:
        raise ValueError(f"SquaredError() predicts one value, but {outputs:,} outputs were asked for.")
    if not regression and outputs < 2:
        raise ValueError(
            "There is one class only, and nothing to tell apart; give a set with two or more, or loss=SquaredError() "
            "for values."
        )

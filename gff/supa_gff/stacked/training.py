"""Training of several networks of one method at once, such as all folds and seeds of a cross-validation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from supa_gff.batch import Batch, part_sizes
from supa_gff.graph_set import GraphSet
from supa_gff.method import Method
from supa_gff.negatives import every_negative
from supa_gff.networks.network import Network
from supa_gff.stacked.batches import PaddedBatch, PaddedBatches, Shape
from supa_gff.stacked.network import StackedNetwork
from supa_gff.training.data import VALIDATION_FACTOR, TrainingData, batch_sizes
from supa_gff.training.scoring import choose_layers, validation_score
from supa_gff.updates.factory import update_rule
from supa_gff.updates.optimisers import LayerOptimisers
from supa_gff.updates.overlapping_pairs import OverlappingPairs
from supa_learning.captured_step import CapturedStep
from supa_learning.randomness import RandomState
from supa_learning.schedules import Position, StepDecay
from supa_learning.training_state import TrainingState


class Member(NamedTuple):
    """One of several networks that are trained together.

    Args:
        network: Network to train, on the device of the graphs.
        train: (count,) int64 training graphs.
        valid: (count,) int64 validation graphs.
        seed: Random seed of the training.
    """

    network: Network
    train: Tensor
    valid: Tensor
    seed: int


class _Step(NamedTuple):
    """What a step depends on, in addition to its inputs: a CUDA graph is captured for each combination."""

    shape: Shape
    parts: int
    parity: int


class _Inputs(NamedTuple):
    step: _Step
    indices: Tensor
    kept: Tensor | None


def step_parts(train_size: int, method: Method) -> tuple[int, ...]:
    """Return the number of parts of each training batch of an epoch.

    Only members with equal numbers can be trained together.

    Args:
        train_size: Number of training graphs.
        method: Method of the training.

    Returns:
        For each batch, the number of parts whose gradients are accumulated.
    """
    return tuple(len(part_sizes(size, method.accumulation)) for size in batch_sizes(train_size, method.batch_size))


def train_together(members: Sequence[Member], graphs: GraphSet, *, capture: bool = True) -> list[TrainingState]:
    """Train several networks of one method at once, each on its own graphs.

    Each network is trained as `supa_gff.train` trains it: with its own batches, weights, batch statistics, optimiser
    state, best epoch and early stopping. Only the random numbers of dropout differ. Those of heads depend on the seed
    of the member alone, and those of layers (``Method.dropout``) on all members. On a GPU, each step is one CUDA graph.

    Args:
        members: Networks with their training parts and seeds. The networks get the weights of their best epoch.
        graphs: Set of graphs, at graph level.
        capture: Whether to use CUDA graphs on a GPU.

    Returns:
        State of each finished training, with its number of epochs and its best epoch. The best epoch is -1 if the
        training diverged before its first validation.

    Raises:
        ValueError: If networks of the method cannot be trained together, the numbers of batches differ, or indices are
            missing or out of range.
    """
    training = _Training(members, graphs, capture)
    with RandomState(members[0].seed, device=graphs.device).as_global():
        return training.run()


class _Training:
    """Training of the members of a stacked network; see `train_together`."""

    def __init__(self, members: Sequence[Member], graphs: GraphSet, capture: bool) -> None:
        self._members, self._graphs = members, graphs
        self._method = members[0].network.method
        self._stack = StackedNetwork([member.network for member in members])
        self._network = self._stack.network
        size = self._method.batch_size
        on_cpu = graphs.to("cpu")
        self._data = [TrainingData(on_cpu, one.train.cpu(), one.valid.cpu(), size) for one in members]
        if len({step_parts(len(data.train), self._method) for data in self._data}) > 1:
            raise ValueError("Members with different numbers of batches per epoch cannot be trained together.")
        self._steps = step_parts(len(self._data[0].train), self._method)
        self._batches = PaddedBatches(graphs, len(members))
        self._rule = update_rule(self._network)
        self._rule.optimisers = LayerOptimisers(self._network, capturable=capture and graphs.device.type == "cuda")
        self._captured: CapturedStep[_Step, _Inputs] = CapturedStep(
            self._update, self._new_inputs, device=graphs.device, enabled=capture
        )
        self._evaluated: CapturedStep[Shape, tuple[Shape, Tensor]] = CapturedStep(
            self._layer_scores, self._new_validation_inputs, device=graphs.device, enabled=capture
        )
        self._generators = [torch.Generator(graphs.device).manual_seed(one.seed) for one in members]
        self._taken = 0

    def run(self) -> list[TrainingState]:
        """Train all members; see `train_together`."""
        method, members = self._method, self._members
        schedule = StepDecay(method.learning_rate, method.lr_step_size)
        states = [TrainingState() for _ in members]
        best = {name: value.clone() for name, value in self._stack.tensors().items()}
        valid = self._validation_parts()
        for epoch in range(method.epochs):
            rate = schedule(Position(epoch, 0, len(self._steps), method.epochs))
            self._rule.optimisers.set_learning_rate(range(method.layers), rate)
            self._train_epoch(epoch)
            if (epoch + 1) % method.validate_every == 0 or epoch + 1 == method.epochs:
                improved = [
                    not state.finished and self._choose(state, epoch, score)
                    for state, score in zip(states, self._scores(valid), strict=True)
                ]
                changed = torch.tensor(improved, device=self._graphs.device)
                for name, value in self._stack.tensors().items():
                    best[name] = torch.where(changed.view(-1, *[1] * (value.dim() - 1)), value, best[name])
            for state in states:
                if not state.finished:
                    state.epoch = epoch + 1
                    diverged = not state.best_score and (epoch + 1) % method.validate_every == 0
                    waited = state.waited() >= method.patience * method.validate_every
                    state.finished = diverged or waited or state.epoch == method.epochs
            if all(state.finished for state in states):
                break
        self._captured.forget()
        self._evaluated.forget()
        self._finish(best)
        return states

    def _train_epoch(self, epoch: int) -> None:
        """Train all members for one epoch."""
        each = [data.batch_indices(one.seed, 0, epoch) for data, one in zip(self._data, self._members, strict=True)]
        padded = [
            self._batches.pad([self._in_parts(indices, parts) for indices in own])
            for own, parts in zip(zip(*each, strict=True), self._steps, strict=True)
        ]
        places = torch.cat([indices.flatten(1) for indices, _ in padded], 1).to(self._graphs.device)
        kept = self._kept()
        start = 0
        for step, ((_, shape), parts) in enumerate(zip(padded, self._steps, strict=True)):
            key = _Step(shape, parts, self._taken % 2 if isinstance(self._rule, OverlappingPairs) else 0)
            inputs = self._captured.inputs(key)
            end = start + parts * shape.units
            inputs.indices.copy_(places[:, start:end].view(inputs.indices.shape))
            if inputs.kept is not None and kept is not None:
                inputs.kept.copy_(kept[:, step, :parts, :, : shape.units].permute(1, 2, 0, 3, 4))
            self._captured(key)
            start = end
            self._taken += 1

    @staticmethod
    def _in_parts(indices: Tensor, parts: int) -> Sequence[Tensor]:
        return torch.split(indices, part_sizes(len(indices), parts))

    def _kept(self) -> Tensor | None:
        """Draw the channels that dropout keeps in an epoch: (members, steps, parts, dropouts, units, channels) bool."""
        method, probabilities = self._method, self._stack.dropouts
        if not probabilities:
            return None
        # The shape is independent of the other members, whose last batch may be larger.
        units = method.batch_size // method.accumulation + 3
        shape = (len(self._steps), method.accumulation, len(probabilities), units, self._stack.channels)
        device = self._graphs.device
        limit = torch.tensor(probabilities, device=device)[:, None, None]
        return torch.stack(
            [torch.rand(shape, generator=generator, device=device) >= limit for generator in self._generators]
        )

    def _new_inputs(self, step: _Step) -> _Inputs:
        device, members, units = self._graphs.device, len(self._members), step.shape.units
        kept = None
        if self._stack.dropouts:
            size = (step.parts, len(self._stack.dropouts), members, units, self._stack.channels)
            kept = torch.empty(size, dtype=torch.bool, device=device)
        return _Inputs(step, torch.empty(members, step.parts, units, dtype=torch.int64, device=device), kept)

    def _update(self, inputs: _Inputs) -> Tensor:
        """Update the weights of all members by one step."""
        batch = self._part(inputs, 0)
        if isinstance(self._rule, OverlappingPairs):
            self._rule.parity = inputs.step.parity
        candidates = None
        if self._method.negatives is not None:
            # No loss depends on the order of the negative labels, so none is drawn.
            negative = every_negative(batch.target, self._network.out_channels)
            candidates = torch.cat([batch.target[:, None], negative], 1)
        return self._rule.step(batch, candidates=candidates)[0].values

    def _part(self, inputs: _Inputs, part: int) -> PaddedBatch:
        """Gather a part of the batch of a step, and set the rows of the stacked modules."""
        count = (inputs.indices != self._batches.empty).sum((1, 2))[:, None]
        shape = inputs.step.shape
        batch = self._batches.batch(inputs.indices[:, part], shape, count, lambda: self._parts(inputs))
        self._stack.rows.set(batch.nodes, batch.real, None if inputs.kept is None else inputs.kept[part])
        return batch

    def _parts(self, inputs: _Inputs) -> Iterator[Batch]:
        for part in range(inputs.step.parts):
            yield self._part(inputs, part)

    def _validation_parts(self) -> list[tuple[Tensor, Shape]]:
        """Return the padded batches of the validation parts.

        They are as large as those of the training, so that the validation does not determine the peak memory.
        """
        size = self._method.batch_size
        longest = max(len(data.valid) for data in self._data)
        parts = []
        for start in range(0, longest, size):
            indices, shape = self._batches.pad([[data.valid[start : start + size]] for data in self._data])
            parts.append((indices[:, 0].to(self._graphs.device), shape))
        return parts

    def _scores(self, parts: Sequence[tuple[Tensor, Shape]]) -> list[tuple[float, ...]]:
        """Return the validation score of each member."""
        found = []
        for indices, shape in parts:
            self._evaluated.inputs(shape)[1].copy_(indices)
            together = self._network.aggregate(self._evaluated(shape))
            found.append(together.view(len(self._members), shape.units, -1)[:, :-1].cpu())
        scores = torch.cat(found, 1)
        target = self._data[0].graphs.target  # type: ignore[union-attr]  # a set of graphs
        return [
            validation_score(member.network, own[: len(data.valid)], target[data.valid])
            for member, data, own in zip(self._members, self._data, scores, strict=True)
        ]

    def _new_validation_inputs(self, shape: Shape) -> tuple[Shape, Tensor]:
        size = (len(self._members), shape.units)
        return shape, torch.empty(size, dtype=torch.int64, device=self._graphs.device)

    def _layer_scores(self, inputs: tuple[Shape, Tensor]) -> Tensor:
        """Return the (layers, members * units, classes) scores of a validation batch."""
        shape, indices = inputs
        batch = self._batches.batch(indices, shape)
        self._stack.rows.set(batch.nodes, batch.real)
        return self._network.layer_scores(batch)

    @staticmethod
    def _choose(state: TrainingState, epoch: int, score: tuple[float, ...]) -> bool:
        """Return whether a validation score is the best one of a member so far."""
        better = state.is_better(score)
        if better:
            state.best_score, state.best_epoch = score, epoch
        return better

    def _finish(self, best: Mapping[str, Tensor]) -> None:
        """Store the best weights of each member in its network."""
        self._stack.store(best, [member.network for member in self._members])
        for network, _, valid, _ in self._members:
            network.eval()
            if self._method.layers_used == "chosen":
                size = VALIDATION_FACTOR * self._method.batch_size
                choose_layers(network, *network.scores_of(self._graphs.batches(valid, size)))

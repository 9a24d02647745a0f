"""Layers that also hear from those above them, without gradient: ForwardGNN's top-down variants (arXiv 2403.11004)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from supa_gff.data import Batch
from supa_gff.label_injection import one_hot
from supa_gff.networks.hypotheses import Step, Streams
from supa_gff.networks.layer import Layer
from supa_gff.networks.network import Network

_TIME_STEPS = 10
_FIRST_VOTING_STEP = 2
_LARGEST_GRADIENT = 1.0


class TopDownNetwork(Network):
    """A network in time: at each step, layers see what those above gave at the step before.

    With ``top_down="input"`` (section 3.4, eq. 7) a layer takes the activations of the layer above beside those of the
    layer below, the last one the known labels; even layers take their step before odd ones. With ``"loss"`` (eq. 8) a
    layer is scored by the mean of its own activations and those of all layers above. The arguments are those of
    `Network`.
    """

    _states: list[Tensor] | None = None

    def local_step(self, data: Any, layer: int | None = None, candidates: Tensor | None = None) -> list[Step]:
        """Take one time step, in which every layer is updated once; see `Network.local_step`.

        Args:
            data: the whole graph; each step goes on from the one before.
            layer: None: layers are not trained one by one.
            candidates: None: there are no hypotheses.

        Returns:
            What each layer saw.

        Raises:
            ValueError: one layer was to be trained alone, or the labels do not fit the network.
        """
        if layer is not None or candidates is not None:
            raise ValueError("With top_down= all layers train at each step, without hypotheses; leave both out.")
        batch = Batch.of(data, self.level)
        self._check(batch)
        streams = self.streams(batch, None)
        if self._states is None or self._states[0].shape != streams.x.shape:
            self._states = self._bottom_up(streams, batch)
        states = self._states
        if self.method.top_down == "input":
            steps = []
            for index in self._alternating():
                seen = Streams(_beside(states[index], states[index + 2]), streams.topology, None)
                states[index + 1], _, step = self.update(index, seen, batch, None)
                steps.append(step)
            return sorted(steps, key=lambda step: step.layer)
        moves = [self._update_by_mean(index, states, streams, batch) for index in range(self.method.layers)]
        states[1:] = [_unit(h) for h, _ in moves]
        return [step for _, step in moves]

    def layer_scores(self, data: Any) -> Tensor:
        """Score all classes by each layer, from a fresh start; see `Network.layer_scores`.

        Args:
            data: the whole graph, with the labels that class nodes are joined by as its context.

        Returns:
            (layers, units, outputs) float32; with ``"input"``, the logarithm of the probabilities' mean over the last
            time steps.
        """
        batch = Batch.of(data, self.level, targets=False)
        was_training = self.training
        self.eval()
        with torch.no_grad():
            streams = self.streams(batch, None)
            states = self._bottom_up(streams, batch)
            by_input = self.method.top_down == "input"
            scores = self._scored_in_time(states, streams, batch) if by_input else self._scored(states, streams, batch)
        self.train(was_training)
        return scores

    def optimiser_states(self) -> dict[str, Any]:
        """Give the state of the optimisers and the activations of the last time step; see `Network`."""
        return {**super().optimiser_states(), "activations": [] if self._states is None else list(self._states)}

    def load_optimiser_states(self, states: Mapping[str, Any]) -> None:
        """Take the state of the optimisers and the activations; see `Network`."""
        super().load_optimiser_states(states)
        self._states = [h.to(self.voting.device) for h in states["activations"]] or None

    def _made_layer(self, index: int, degrees: Tensor | None) -> Layer:
        method = self.method
        below = self.in_features if index == 0 else method.width
        if method.top_down == "loss":
            return Layer(method, index, below, self.outputs, self.level, degrees)
        above = self.outputs if index == method.layers - 1 else method.width
        # What comes from below and from above has unit length each before the two stand side by side.
        plain = method.replace(top_down=None, normalisation="none")
        return Layer(plain, index, below + above, self.outputs, self.level, degrees)

    def _alternating(self) -> list[int]:
        layers = range(self.method.layers)
        return [*layers[::2], *layers[1::2]]

    @torch.no_grad()
    def _bottom_up(self, streams: Streams, batch: Batch) -> list[Tensor]:
        """Give the activations of all layers before the first time step, the input first; with "input", labels last."""
        by_input = self.method.top_down == "input"
        states = [_unit(streams.x)]
        for index in range(self.method.layers):
            module = self.layer(index)
            x = states[-1]
            if by_input:
                above = self.outputs if index == self.method.layers - 1 else self.method.width
                x = _beside(x, x.new_zeros(*x.shape[:2], above))
            states.append(_unit(module(x, streams.topology)))
        if by_input:
            assert batch.context is not None
            of_class_nodes = torch.arange(self.outputs, device=batch.x.device)
            states.append(one_hot(torch.cat([batch.context, of_class_nodes]), self.outputs)[None])
        return states

    def _scored_in_time(self, states: list[Tensor], streams: Streams, batch: Batch) -> Tensor:
        total = [batch.x.new_zeros(batch.num_units, self.outputs) for _ in range(self.method.layers)]
        for time in range(_TIME_STEPS):
            for index in self._alternating():
                module = self.layer(index)
                h = module(_beside(states[index], states[index + 2]), streams.topology)
                states[index + 1] = h
                if time >= _FIRST_VOTING_STEP:
                    total[index] += module.score(h, streams.topology, batch).softmax(1)
        return (torch.stack(total) / (_TIME_STEPS - _FIRST_VOTING_STEP)).log()

    def _scored(self, states: list[Tensor], streams: Streams, batch: Batch) -> Tensor:
        scores = []
        for index in range(self.method.layers):
            module = self.layer(index)
            h = module(states[index], streams.topology)
            scores.append(module.score(_mean(h, states[index + 2 :]), streams.topology, batch))
        return torch.stack(scores)

    def _update_by_mean(self, index: int, states: list[Tensor], streams: Streams, batch: Batch) -> tuple[Tensor, Step]:
        module = self.layer(index)
        module.train()
        h = module(states[index], streams.topology)
        scores = module.score(_mean(h, states[index + 2 :]), streams.topology, batch)
        loss, step = self._judged(index, scores, batch, None)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), _LARGEST_GRADIENT)
        optimiser = self.optimiser(index)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return h.detach(), step


def _unit(x: Tensor) -> Tensor:
    unit: Tensor = x / (x.norm(dim=2, keepdim=True) + 1e-8)
    return unit


def _beside(below: Tensor, above: Tensor) -> Tensor:
    return torch.cat([_unit(below), _unit(above)], 2)


def _mean(h: Tensor, above: list[Tensor]) -> Tensor:
    return torch.stack([h, *above]).mean(0)

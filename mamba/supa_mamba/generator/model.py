"""Autoregressive generator of showers."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.generator.coding import HitCoding
from supa_mamba.generator.config import GeneratorConfig
from supa_mamba.generator.hits import PARTIAL_LEAK, HitBatch
from supa_mamba.generator.mixtures import NormalMixture, PlaneMixture
from supa_mamba.generator.readout import readout_slices, slice_order
from supa_mamba.generator.trunk import new_stack
from supa_mamba.modules.hybrid import HybridStack
from supa_mamba.modules.stack import BlockStack

_NUMBERS = 8
"""Numbers that describe the shower before a hit: the remaining energy in units of the incident energy and in GeV; the
number of hits, and that in the slice of the previous hit; whether there is no previous hit; the parities of the two
numbers, because siblings come in pairs; the distance between the last two hits, which are often siblings."""

SHORTEST = 0.01
"""Distance, in units of `HitCoding.position_scale`, that is added before the logarithm is taken."""


class LogLikelihood(NamedTuple):
    """Logarithms of likelihoods in nats, of densities in GeV and in the length unit.

    Args:
        leak: (S,) of the leaked energy.
        next: (T,) of the slice of each hit, and whether it is the last one.
        energy: (T,) of the energy of each hit; 0 for the last one, whose energy is the rest.
        position: (T,) of x and y of each hit.
    """

    leak: Tensor
    next: Tensor
    energy: Tensor
    position: Tensor

    def total(self) -> Tensor:
        """Return the sum over all showers.

        Returns:
            () sum.
        """
        return self.leak.sum() + self.next.sum() + self.energy.sum() + self.position.sum()


class Previous(NamedTuple):
    """What is known before a hit is predicted. A row is a hit, or a shower that is being sampled.

    Args:
        slice: (T,) int64 slice of the previous hit, or the number of slices if there is none.
        position: (T, 2) float32 position of the previous hit, or 0.
        energy_logit: (T,) float32 energy logit of the previous hit, or 0.
        remaining: (T,) float32 logarithm of the remaining energy over the incident energy.
        number: (T,) int64 number of earlier hits.
        number_in_slice: (T,) int64 number of earlier hits in the slice of the previous hit.
        distance: (T,) float32 distance between the last two hits in x and y, or 0 if there are fewer.
        condition: (T, C) float32 conditions.
    """

    slice: Tensor
    position: Tensor
    energy_logit: Tensor
    remaining: Tensor
    number: Tensor
    number_in_slice: Tensor
    distance: Tensor
    condition: Tensor


class ShowerGenerator(nn.Module):
    """Model of showers as sequences of hits, with a normalised likelihood.

    One head predicts from the conditions whether energy leaks, and how much. Then a causal stack processes the hits in
    order. For each hit three other heads predict, one after another: whether it is the last one and its slice; its
    share of the remaining energy; its position. The last hit takes all of the remaining energy. Each head receives the
    results of the heads before it.

    Args:
        config: Sizes of the model.
        coding: Conversion of showers into sequences.
        device: Device of the parameters.

    Example:
        >>> import supa
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator
        >>> showers = supa.simulate(20, "critical", seed=1)
        >>> coding = HitCoding.fit(showers)
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), coding)
        >>> nats = -model(coding.encode(showers)).total() / len(showers)
        >>> bool(nats.isfinite())
        True
    """

    stack: BlockStack
    slice_order: Tensor
    slices_of_config: Tensor | None

    def __init__(self, config: GeneratorConfig, coding: HitCoding, *, device: Any = None) -> None:
        super().__init__()
        self.config, self.coding = config, coding
        width, slices, conditions = config.d_model, coding.num_slices, coding.conditions.num_conditions
        # Slices enter as one-hot vectors: the gradient of an embedding is slow if there are few rows.
        features = slices + 3 + _NUMBERS + conditions
        self.inputs = nn.Linear(features, width, device=device)
        # The norms of the stack change the scale of a number, which the heads need exactly.
        self.direct = nn.Linear(features, width, device=device)
        self.stack = new_stack(config, device=device)
        self.leak_head = _perceptron(conditions, width, 3 + 3 * config.energy_components, device)
        self.next_head = _perceptron(width, width, 1 + slices, device)
        self.chosen_slice = nn.Linear(slices + 1, width, device=device)
        self.energy_head = _perceptron(width, width, 3 * config.energy_components, device)
        self.chosen_energy = nn.Linear(2, width, device=device)
        positions = 7 * config.position_components + 5 * config.ring_components
        self.position_head = _perceptron(width, width, positions, device)
        bias = self.position_head[2].bias
        assert isinstance(bias, Tensor)
        of_rings = bias.detach()[7 * config.position_components :].view(5, -1)
        of_rings[1:3] -= 2.0  # rings are near the previous hit, and narrow
        of_rings[4] -= 1.5
        self.register_buffer(
            "slice_order", torch.tensor(slice_order(coding.slices, coding.slices), device=device), persistent=False
        )
        self.register_buffer("slices_of_config", _slices_of_configs(coding, device), persistent=False)

    def forward(self, batch: HitBatch, *, max_length: int | None = None) -> LogLikelihood:
        """Compute the likelihood of showers.

        Args:
            batch: Coded showers.
            max_length: See `hidden`.

        Returns:
            Logarithms of the likelihoods, float32.
        """
        previous = previous_of(batch, self.coding.num_slices)
        hidden = self.hidden(previous, batch.offset, max_length=max_length)
        return self.log_likelihood(hidden.float(), previous, batch)

    def hidden(self, previous: Previous, offset: Tensor, *, max_length: int | None = None) -> Tensor:
        """Apply the stack to the hits of each shower.

        Args:
            previous: What is known before each hit.
            offset: (S + 1,) int64 offsets of the hits.
            max_length: Largest number of hits of a shower, or an upper bound. It is only used by models with attention.
                Without it, they synchronise with the GPU.

        Returns:
            (T, d_model) results of the stack.
        """
        bound = {"max_length": max_length} if isinstance(self.stack, HybridStack) else {}
        rows: Tensor = self.stack(self.embed(previous), offset, **bound)
        return rows

    def embed(self, previous: Previous) -> Tensor:
        """Return the inputs of the stack.

        Args:
            previous: What is known before each hit.

        Returns:
            (T, d_model) rows.
        """
        rows: Tensor = self.inputs(self.features(previous))
        return rows

    def add_features(self, hidden: Tensor, previous: Previous) -> Tensor:
        """Add what is known before each hit to the results of the stack.

        Args:
            hidden: (T, d_model) float32 results of the stack.
            previous: What is known before each hit.

        Returns:
            (T, d_model) inputs of the heads.
        """
        found: Tensor = hidden + self.direct(self.features(previous))
        return found

    def features(self, previous: Previous) -> Tensor:
        """Return what is known before each hit as numbers.

        Args:
            previous: What is known before each hit.

        Returns:
            (T, features) rows.
        """
        absolute = previous.remaining + previous.condition[:, 0] * self.coding.conditions.deviations[0]
        numbers = torch.stack([
            previous.remaining, absolute, torch.log1p(previous.number.float()),
            torch.log1p(previous.number_in_slice.float()), (previous.number == 0).float(),
            (previous.number % 2).float(), (previous.number_in_slice % 2).float(),
            torch.log(previous.distance + SHORTEST),
        ], 1)  # fmt: skip
        slices = self._one_hot(previous.slice)
        return torch.cat([slices, previous.position, previous.energy_logit[:, None], numbers, previous.condition], 1)

    def log_likelihood(self, hidden: Tensor, previous: Previous, batch: HitBatch) -> LogLikelihood:
        """Compute the likelihood of showers from the results of the stack.

        Args:
            hidden: (T, d_model) float32 results of the stack.
            previous: What is known before each hit.
            batch: The showers.

        Returns:
            Logarithms of the likelihoods.
        """
        hidden = self.add_features(hidden, previous)
        leak, leaked = self.leak_distribution(batch.condition)
        of_leak = leak.gather(1, batch.leak[:, None])[:, 0]
        of_part = leaked.log_density(batch.leak_logit) + batch.leak_scale
        last, slices = self.next_distribution(hidden, previous)
        of_next = functional.logsigmoid(torch.where(batch.is_last, last, -last))
        of_next = of_next + slices.gather(1, batch.slice[:, None])[:, 0]
        chosen = self.add_choice(hidden, batch.slice, batch.is_last)
        of_energy = self.energy_distribution(chosen).log_density(batch.energy_logit) + batch.energy_scale
        position = self.position_distribution(
            chosen, batch.is_last, batch.energy_logit, previous.remaining, previous.position
        )
        return LogLikelihood(
            of_leak + torch.where(batch.leak == PARTIAL_LEAK, of_part, 0.0),
            of_next,
            torch.where(batch.is_last, 0.0, of_energy),
            position.log_density(batch.position) - 2.0 * math.log(self.coding.position_scale),
        )

    def leak_distribution(self, condition: Tensor) -> tuple[Tensor, NormalMixture]:
        """Predict the leak of showers.

        Args:
            condition: (S, C) conditions.

        Returns:
            (S, 3) logarithms of the probabilities that nothing, a part or everything leaks, and the distribution of the
            logit of the leaked part.
        """
        found = self.leak_head(condition).float()
        return found[:, :3].log_softmax(1), NormalMixture.of(found[:, 3:])

    def next_distribution(self, hidden: Tensor, previous: Previous) -> tuple[Tensor, Tensor]:
        """Predict the end and the slice of the next hit.

        Args:
            hidden: (T, d_model) results of `add_features`.
            previous: What is known before each hit.

        Returns:
            (T,) logit of the probability that the hit is the last one, and (T, slices) logarithms of the probabilities
            of its slice. Slices before the previous one, and slices outside the readout layers of the config, have
            probability 0.
        """
        found = self.next_head(hidden).float()
        first = torch.where(previous.slice < len(self.slice_order), previous.slice, 0)
        allowed = self.slice_order >= first[:, None]
        if self.slices_of_config is not None:
            indicators = previous.condition[:, -len(self.slices_of_config) :]
            allowed = allowed & (indicators @ self.slices_of_config > 0)
        return found[:, 0], found[:, 1:].masked_fill(~allowed, -torch.inf).log_softmax(1)

    def add_choice(self, hidden: Tensor, number: Tensor, is_last: Tensor) -> Tensor:
        """Add the slice of the next hit, and whether it is the last one, to the inputs of the heads.

        Args:
            hidden: (T, d_model) results of `add_features`.
            number: (T,) number of the slice of the hit.
            is_last: (T,) whether the hit is the last one.

        Returns:
            (T, d_model) inputs of the heads for energy and position.
        """
        found: Tensor = self.chosen_slice(torch.cat([self._one_hot(number), is_last[:, None].float()], 1))
        return hidden + found

    def energy_distribution(self, chosen: Tensor) -> NormalMixture:
        """Predict the energy of the next hit.

        Args:
            chosen: (T, d_model) results of `add_choice`.

        Returns:
            Distribution of the energy logit.
        """
        return NormalMixture.of(self.energy_head(chosen).float())

    def position_distribution(
        self,
        chosen: Tensor,
        is_last: Tensor,
        energy_logit: Tensor,
        remaining: Tensor,
        previous_position: Tensor,
    ) -> PlaneMixture:
        """Predict the position of the next hit.

        Args:
            chosen: (T, d_model) results of `add_choice`.
            is_last: (T,) whether the hit is the last one.
            energy_logit: (T,) energy logit of the hit.
            remaining: (T,) logarithm of the energy of this and all later hits over the incident energy.
            previous_position: (T, 2) position of the previous hit.

        Returns:
            Distribution of the position.
        """
        energy = remaining + torch.where(is_last, 0.0, functional.logsigmoid(energy_logit))
        known = chosen + self.chosen_energy(torch.stack([energy_logit, energy], 1))
        found = self.position_head(known).float()
        return PlaneMixture.of(found, previous_position, self.config.ring_components)

    def _one_hot(self, number: Tensor) -> Tensor:
        """Return (T, slices) float32 indicators of slices, zeros for none."""
        return (number[:, None] == torch.arange(self.coding.num_slices, device=number.device)).float()


def previous_of(batch: HitBatch, slices: int) -> Previous:
    """Return what is known before each hit of coded showers.

    Args:
        batch: The showers.
        slices: Number of slices.

    Returns:
        The values before each hit.
    """
    first = batch.number == 0

    def shifted(x: Tensor, at_first: float) -> Tensor:
        before = x.roll(1, 0)
        return torch.where(first if x.ndim == 1 else first[:, None], at_first, before)

    shower = torch.arange(batch.leak.shape[0], device=batch.slice.device)
    shower = shower.repeat_interleave(batch.offset.diff(), output_size=batch.slice.shape[0])
    return Previous(
        shifted(batch.slice, slices),
        shifted(batch.position, 0.0),
        shifted(batch.energy_logit, 0.0),
        batch.remaining,
        batch.number,
        shifted(batch.number_in_slice + 1, 0),
        torch.where(batch.number < 2, 0.0, length(batch.position.roll(1, 0) - batch.position.roll(2, 0))),
        batch.condition[shower],
    )


def length(vector: Tensor) -> Tensor:
    """Return the lengths of vectors.

    Args:
        vector: (T, 2) vectors.

    Returns:
        (T,) lengths.
    """
    return vector.square().sum(1).sqrt()


def _perceptron(inputs: int, width: int, outputs: int, device: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width, device=device), nn.SiLU(), nn.Linear(width, outputs, device=device))


def _slices_of_configs(coding: HitCoding, device: Any) -> Tensor | None:
    """Return (configs, slices) indicators of the slices of the readout layers, or None if all configs have the same."""
    slices = [readout_slices(config) for config in coding.conditions.configs]
    if all(of_config == slices[0] for of_config in slices):
        return None
    rows = np.stack([slice_order(coding.slices, of_config) >= 0 for of_config in slices])
    return torch.tensor(rows, dtype=torch.float32, device=device)

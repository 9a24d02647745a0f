"""Autoregressive generator of showers."""

import copy
import math
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.generator.coding import SHARE_BITS, HitCoding
from supa_mamba.generator.config import GeneratorConfig
from supa_mamba.generator.hits import PARTIAL_LEAK, HitBatch
from supa_mamba.generator.mixtures import NormalMixture, PlaneMixture
from supa_mamba.generator.profile import ProfileNetwork, ProfileRows, profile_features
from supa_mamba.generator.trunk import new_stack
from supa_mamba.modules.hybrid import HybridStack
from supa_mamba.modules.int8 import Int8
from supa_mamba.modules.parallel import parallel_pairs
from supa_mamba.modules.stack import BlockStack

_NUMBERS = 14
"""Numbers that describe the shower before a hit: the remaining energy of the slice in units of the incident energy and
in GeV; the numbers of earlier hits of the shower and of the slice; whether the hit is the first one of the shower, and
whether it is the last one of the slice; the parities of the numbers of the remaining and of the earlier hits of the
slice, because siblings come in pairs; the logarithm of the number of the remaining hits; the distance between the last
two hits, which are often siblings; the sums of energy times x and y over the earlier hits, and where the centre of the
remaining energy must be for the sums over the whole shower to be zero, as conservation of momentum favours."""

MOST_MOMENT = 10.0
"""Largest absolute value of these sums and coordinates, in units of `HitCoding.position_scale`."""

SHORTEST = 0.01
"""Distance, in units of `HitCoding.position_scale`, that is added before the logarithm is taken."""


class LogLikelihood(NamedTuple):
    """Logarithms of likelihoods in nats, of densities in GeV and in the length unit.

    Args:
        leak: (S,) of the leaked energy.
        profile: (S,) of the numbers and energies of the hits of all slices.
        energy: (T,) of the energy of each hit; 0 for the last one of a slice, whose energy is the rest.
        position: (T,) of x and y of each hit.
    """

    leak: Tensor
    profile: Tensor
    energy: Tensor
    position: Tensor

    def total(self) -> Tensor:
        """Return the sum over all showers.

        Returns:
            () sum.
        """
        return self.leak.sum() + self.profile.sum() + self.energy.sum() + self.position.sum()


class Previous(NamedTuple):
    """What is known before a hit is predicted. A row is a hit, or a shower that is being sampled.

    Args:
        slice: (T,) int64 slice of the hit.
        left: (T,) int64 number of this and all later hits of the slice.
        remaining: (T,) float32 logarithm of their energy over the incident energy.
        number: (T,) int64 number of earlier hits.
        number_in_slice: (T,) int64 number of earlier hits in the slice.
        position: (T, 2) float32 position of the previous hit, or 0.
        energy_logit: (T,) float32 energy logit of the previous hit, or 0.
        distance: (T,) float32 distance between the last two hits in x and y, or 0 if there are fewer.
        profile: (T, 2 L) float32 `profile_features` of the shower.
        condition: (T, C) float32 conditions.
        sums: (T, 3) int64 sums over the earlier hits; see `HitBatch`.
    """

    slice: Tensor
    left: Tensor
    remaining: Tensor
    number: Tensor
    number_in_slice: Tensor
    position: Tensor
    energy_logit: Tensor
    distance: Tensor
    profile: Tensor
    condition: Tensor
    sums: Tensor


class ShowerGenerator(nn.Module):
    """Model of showers as sequences of hits, with a normalised likelihood.

    One head predicts from the conditions whether energy leaks, and how much. `ProfileNetwork` predicts the number and
    the energy of the hits of each slice. Then a causal stack processes the hits in order. For each hit two other heads
    predict, one after another: its share of the remaining energy of the slice, and its position. The last hit of a
    slice takes all of the remaining energy.

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
    slices_of_configs: Tensor
    int8: Int8 | None = None
    """What is rounded to integers of 8 bits; see `int8_generator`."""

    def __init__(self, config: GeneratorConfig, coding: HitCoding, *, device: Any = None) -> None:
        super().__init__()
        self.config, self.coding = config, coding
        width, slices, conditions = config.d_model, coding.num_slices, coding.conditions.num_conditions
        # Slices enter as one-hot vectors: the gradient of an embedding is slow if there are few rows.
        features = slices + 3 + _NUMBERS + 2 * slices + conditions
        self.inputs = nn.Linear(features, width, device=device)
        # The norms of the stack change the scale of a number, which the heads need exactly.
        self.direct = nn.Linear(features, width, device=device)
        self.stack = new_stack(config, device=device)
        self.leak_head = _perceptron(conditions, width, 3 + 3 * config.energy_components, device)
        self.profile = ProfileNetwork(
            conditions,
            slices,
            coding.most_in_slice,
            coding.conditions.deviations[0],
            2 * width,
            config.energy_components,
            device,
        )
        self.energy_head = _perceptron(width, width, 3 * config.energy_components, device)
        self.chosen_energy = nn.Linear(2, width, device=device)
        positions = 7 * config.position_components + 5 * config.ring_components
        self.position_head = _perceptron(width, width, positions, device)
        bias = self.position_head[2].bias
        assert isinstance(bias, Tensor)
        of_rings = bias.detach()[7 * config.position_components :].view(5, -1)
        of_rings[1:3] -= 2.0  # rings are near the previous hit, and narrow
        of_rings[4] -= 1.5
        self.register_buffer("slices_of_configs", _slices_of_configs(coding, device), persistent=False)

    def forward(self, batch: HitBatch, *, max_length: int | None = None) -> LogLikelihood:
        """Compute the likelihood of showers.

        Args:
            batch: Coded showers.
            max_length: See `hidden`.

        Returns:
            Logarithms of the likelihoods, float32.
        """
        previous = previous_of(batch)
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

    def parallel_pairs(self, first: int, last: int) -> Self:
        """Return a generator with one layer of twice the width in place of each of some pairs of layers.

        Args:
            first: Index of the first layer, from 0. Earlier pairs count as two layers each.
            last: Index after the last layer; see `supa_mamba.parallel_pairs`.

        Returns:
            The generator, which shares no parameters with this one.

        Raises:
            ValueError: If a layer does not exist or is in a pair already, two layers differ in kind, or the generator
                is one of `int8_generator`.
        """
        self.check_float("be evaluated in pairs of layers")
        before = self.config.paired_layers
        config = self.config.replace(paired_layers=(*before, *range(first, last - 1, 2)))
        merged = sum(number < first for number in before)
        paired = copy.deepcopy(self)
        paired.config, paired.stack = config, parallel_pairs(self.stack, first - merged, last - merged)
        return paired

    def check_float(self, doing: str) -> None:
        """Check that the generator has no integers of 8 bits.

        Args:
            doing: What such a generator cannot do.

        Raises:
            ValueError: If it has.
        """
        if self.int8 is not None:
            raise ValueError(f"model: a generator with int8 {self.int8} cannot {doing}; pass the one in float32.")

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
            (previous.left == 1).float(), (previous.left % 2).float(), (previous.number_in_slice % 2).float(),
            torch.log(previous.left.float()), torch.log(previous.distance + SHORTEST), *moments_of(previous.sums),
        ], 1)  # fmt: skip
        slices = (previous.slice[:, None] == torch.arange(self.coding.num_slices, device=numbers.device)).float()
        return torch.cat(
            [slices, previous.position, previous.energy_logit[:, None], numbers, previous.profile, previous.condition],
            1,
        )

    def log_likelihood(self, hidden: Tensor, previous: Previous, batch: HitBatch) -> LogLikelihood:
        """Compute the likelihood of showers from the results of the stack.

        Args:
            hidden: (T, d_model) float32 results of the stack.
            previous: What is known before each hit.
            batch: The showers.

        Returns:
            Logarithms of the likelihoods.
        """
        of_energy, of_position = self.hit_likelihood(hidden, previous, batch)
        return LogLikelihood(self.leak_likelihood(batch), self.profile_likelihood(batch).sum(1), of_energy, of_position)

    def leak_likelihood(self, batch: HitBatch) -> Tensor:
        """Compute the likelihood of the leaked energies of showers.

        Args:
            batch: The showers.

        Returns:
            (S,) logarithms of the likelihoods.
        """
        leak, leaked = self.leak_distribution(batch.condition)
        of_leak = leak.gather(1, batch.leak[:, None])[:, 0]
        of_part = leaked.log_density(batch.leak_logit) + batch.leak_scale
        return of_leak + torch.where(batch.leak == PARTIAL_LEAK, of_part, 0.0)

    def hit_likelihood(self, hidden: Tensor, previous: Previous, batch: HitBatch) -> tuple[Tensor, Tensor]:
        """Compute the likelihood of hits from the results of the stack.

        Args:
            hidden: (T, d_model) float32 results of the stack.
            previous: What is known before each hit.
            batch: The showers.

        Returns:
            (T,) logarithms of the likelihoods of the energies, and (T,) of the positions.
        """
        hidden = self.add_features(hidden, previous)
        of_energy = self.energy_distribution(hidden).log_density(batch.energy_logit) + batch.energy_scale
        position = self.position_distribution(hidden, previous, batch.energy_logit)
        return (
            torch.where(batch.left == 1, 0.0, of_energy),
            position.log_density(batch.position) - 2.0 * math.log(self.coding.position_scale),
        )

    def profile_likelihood(self, batch: HitBatch) -> Tensor:
        """Compute the likelihood of the number and the energy of the hits of each slice.

        Args:
            batch: The showers.

        Returns:
            (S, L) logarithms of the likelihoods; 0 for slices without a choice.
        """
        showers, slices = batch.count.shape
        number = torch.arange(slices, device=batch.count.device)
        allowed, final = self.allowed_slices(batch.condition)

        def of_slices(x: Tensor) -> Tensor:
            """Repeat values of showers for all slices."""
            return x.repeat_interleave(slices, 0, output_size=showers * slices)

        rows = ProfileRows(
            number.repeat(showers),
            of_slices(batch.count),
            of_slices(batch.slice_energy),
            batch.slice_remaining.flatten(),
            of_slices(batch.condition),
        )
        of_number, of_energy = self.profile.log_likelihood(
            rows,
            batch.count.flatten(),
            (number == batch.last_slice[:, None]).flatten(),
            (number == final[:, None]).flatten(),
            batch.slice_logit.flatten(),
        )
        of_slice = of_number.view(showers, slices) + of_energy.view(showers, slices) + batch.slice_scale
        return torch.where(allowed & (number <= batch.last_slice[:, None]), of_slice, 0.0)

    def allowed_slices(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slices of the readout layers of showers.

        Args:
            condition: (S, C) conditions.

        Returns:
            (S, L) whether a slice is inside the readout layers of the config, and (S,) int64 the final such slice.
        """
        configs = len(self.slices_of_configs)
        if configs == 1:
            allowed = self.slices_of_configs.expand(condition.shape[0], -1) > 0
        else:
            allowed = condition[:, -configs:] @ self.slices_of_configs > 0
        number = torch.arange(allowed.shape[1], device=allowed.device)
        return allowed, torch.where(allowed, number, -1).amax(1)

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

    def energy_distribution(self, hidden: Tensor) -> NormalMixture:
        """Predict the energy of the next hit.

        Args:
            hidden: (T, d_model) results of `add_features`.

        Returns:
            Distribution of the energy logit.
        """
        return NormalMixture.of(self.energy_head(hidden).float())

    def position_distribution(self, hidden: Tensor, previous: Previous, energy_logit: Tensor) -> PlaneMixture:
        """Predict the position of the next hit.

        Args:
            hidden: (T, d_model) results of `add_features`.
            previous: What is known before the hit.
            energy_logit: (T,) energy logit of the hit.

        Returns:
            Distribution of the position.
        """
        energy = previous.remaining + torch.where(previous.left == 1, 0.0, functional.logsigmoid(energy_logit))
        known = hidden + self.chosen_energy(torch.stack([energy_logit, energy], 1))
        found = self.position_head(known).float()
        return PlaneMixture.of(found, previous.position, self.config.ring_components)


def previous_of(batch: HitBatch) -> Previous:
    """Return what is known before each hit of coded showers.

    Args:
        batch: The showers.

    Returns:
        The values before each hit.
    """
    first = batch.number == 0

    def shifted(x: Tensor) -> Tensor:
        before = x.roll(1, 0)
        return torch.where(first if x.ndim == 1 else first[:, None], 0.0, before)

    shower = torch.arange(batch.leak.shape[0], device=batch.slice.device)
    shower = shower.repeat_interleave(batch.offset.diff(), output_size=batch.slice.shape[0])
    return Previous(
        batch.slice,
        batch.left,
        batch.remaining,
        batch.number,
        batch.number_in_slice,
        shifted(batch.position),
        shifted(batch.energy_logit),
        torch.where(batch.number < 2, 0.0, length(batch.position.roll(1, 0) - batch.position.roll(2, 0))),
        profile_features(batch.count, batch.slice_energy)[shower],
        batch.condition[shower],
        batch.sums,
    )


def moments_of(sums: Tensor) -> tuple[Tensor, ...]:
    """Return sums over the earlier hits as inputs of a model.

    Args:
        sums: (T, 3) int64 sums of e, e x and e y.

    Returns:
        (T,) float32 sums of e x and e y over the incident energy, and the coordinates of the centre of all remaining
        energy, leaked energy included, with which the sums over the shower would be zero.
    """
    energy, *moments = sums.double().unbind(1)
    rest = (2.0**SHARE_BITS - energy).clamp(min=1.0)
    of_hits = [moment * 2.0**-SHARE_BITS for moment in moments]
    of_rest = [-moment / rest for moment in moments]
    return tuple(x.clamp(-MOST_MOMENT, MOST_MOMENT).float() for x in of_hits + of_rest)


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


def _slices_of_configs(coding: HitCoding, device: Any) -> Tensor:
    """Return (configs, L) indicators of the slices of the readout layers, or (1, L) if all configs have the same."""
    slices = [coding.numbers_of_slices(config) for config in coding.conditions.configs]
    different = slices if any(of_config != slices[0] for of_config in slices) else slices[:1]
    rows = torch.zeros(len(different), coding.num_slices)
    for row, of_config in zip(rows, different, strict=True):
        row[of_config] = 1.0
    return rows.to(device)

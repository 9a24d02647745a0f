"""Rewards of the fine-tuning of a generator."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig, Showers, expectation, observables
from supa.arrays import FloatArray
from supa.comparison.sample_statistics import RESOLUTION
from supa.distances.reweighting import FEWEST_ROWS, calibrated_log_ratio
from supa_mamba.generator.coding import HitCoding
from supa_mamba.generator.credits import Credits, credits_of_distance, credits_of_rewards, squared_distance
from supa_mamba.generator.hits import HitBatch

_FEWEST_HITS = 50
"""Statistics of slices and layers in which the true showers have fewer hits are left out, as in `supa.compare`."""
_RESPONSE = "response"
"""The energy of the hits over the incident energy: a constant with roundings."""


class Sample(NamedTuple):
    """Sampled showers of one config.

    Args:
        batch: The coded showers on the CPU, with or without rows for hits.
        incident_energy: (S,) float64 incident energies (GeV).
        showers: The showers, or None if their hits were not sampled.
    """

    batch: HitBatch
    incident_energy: Tensor
    showers: Showers | None


class Reward(Protocol):
    """Reward of showers of one config."""

    uses_hits: bool
    """Whether the reward depends on hits, and not on the leak and the profile only."""

    def fit(self, model_sample: Callable[[], Showers], seed: int) -> None:
        """Adapt the reward to the present generator.

        Args:
            model_sample: Function that samples showers.
            seed: Random seed.
        """

    def credits(self, sample: Sample, groups: Tensor) -> Credits:
        """Compute the credits of sampled showers.

        Args:
            sample: The showers.
            groups: (M, G) int64 numbers of the showers of each group.

        Returns:
            Their credits, in the order of the showers.
        """

    def mean(self, sample: Sample) -> float:
        """Estimate the reward of the distribution of showers.

        Args:
            sample: Showers of the distribution.

        Returns:
            Estimate without bias.
        """


class ProfileReward:
    """Minus the squared distance of the mean profile from the exact expectation.

    The statistics are the number and the energy fraction of the hits of each slice and of each readout layer, and the
    number of all hits: the means that `supa.compare` compares with exact ones, and the energies of slices. Each is in
    units of its standard deviation in true or in sampled showers, whichever is larger, so the distance is about the sum
    of the squared pulls of a sample over its size. See `credits_of_distance`.

    Args:
        coding: Coding of the generator.
        true: True showers.
        sampled: Coded showers of the generator before the fine-tuning.

    Raises:
        NoClosedFormError: If the expectations of the config have no closed form.
    """

    uses_hits = False

    def __init__(self, coding: HitCoding, true: Showers, sampled: HitBatch) -> None:
        exact, first = expectation(true.config), coding.slices[0]
        last = first + coding.num_slices
        columns = _statistics(true.config, first, coding.num_slices)
        means = torch.from_numpy(np.stack([exact.hits[first:last], exact.energy[first:last]], 1))
        batches = coding.encode(true), sampled
        spread = torch.stack([torch.einsum("slv,lvk->sk", _parts(batch), columns).std(0) for batch in batches]).amax(0)
        hits = (means[:, 0] @ (columns != 0).any(1).double()) * len(true)
        used = (hits >= _FEWEST_HITS) & (spread > 0)
        self._columns = columns[:, :, used] / spread[used]
        self._truth = torch.einsum("lv,lvk->k", means, self._columns)

    def fit(self, model_sample: Callable[[], Showers], seed: int) -> None:
        """Do nothing, because the expectations are exact."""

    def credits(self, sample: Sample, groups: Tensor) -> Credits:
        """Compute the credits of sampled showers; see `Reward.credits`."""
        values = torch.einsum("slv,lvk->slk", _parts(sample.batch), self._columns)
        of_slices = _in_order(credits_of_distance(values[groups], self._truth), groups)
        return Credits(of_slices[:, 0], of_slices, None)

    def mean(self, sample: Sample) -> float:
        """Estimate minus the squared distance; see `Reward.mean`."""
        return -float(squared_distance(*self.statistics(sample)))

    def statistics(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Compute the statistics of showers.

        Args:
            sample: S showers.

        Returns:
            (S, K) float64 statistics, and their (K,) exact means.
        """
        return torch.einsum("slv,lvk->sk", _parts(sample.batch), self._columns), self._truth


class DensityRatioReward:
    """Logarithm of true over generated density, from a calibrated classifier of all observables except the response.

    Args:
        true: True showers.

    Raises:
        ValueError: If there are fewer than 1,000 showers.
    """

    uses_hits = True

    def __init__(self, true: Showers) -> None:
        if len(true) < FEWEST_ROWS:
            raise ValueError(
                f"The reward density-ratio needs at least {FEWEST_ROWS:,} training showers of each config, but there "
                f"are {len(true):,}; provide more showers."
            )
        self._true = _features(true)
        self._names = list(self._true)
        self._log_ratio: Callable[[FloatArray], FloatArray] | None = None

    def fit(self, model_sample: Callable[[], Showers], seed: int) -> None:
        """Train the classifier; see `Reward.fit`."""
        sampled = _features(model_sample())
        self._names = [name for name in self._true if name in sampled]
        self._log_ratio = calibrated_log_ratio(self._matrix(self._true), self._matrix(sampled), seed=seed)

    def credits(self, sample: Sample, groups: Tensor) -> Credits:
        """Compute the credits of sampled showers; see `Reward.credits`."""
        of_showers = _in_order(credits_of_rewards(self._rewards(sample)[groups]), groups)
        return Credits(of_showers, of_showers[:, None].expand_as(sample.batch.count), of_showers)

    def mean(self, sample: Sample) -> float:
        """Return the mean logarithm; see `Reward.mean`."""
        return float(self._rewards(sample).mean())

    def _rewards(self, sample: Sample) -> Tensor:
        assert self._log_ratio is not None
        assert sample.showers is not None
        return torch.from_numpy(self._log_ratio(self._matrix(_features(sample.showers))))

    def _matrix(self, columns: dict[str, FloatArray]) -> FloatArray:
        found = []
        for name in self._names:
            largest = np.nanmax(np.abs(self._true[name]), initial=0.0)
            # Trees could recognise other roundings of float32.
            unit = RESOLUTION * (largest or 1.0)
            found.append(np.round(columns[name] / unit) * unit)
        return np.column_stack(found)


def _statistics(config: ShowerConfig, first: int, slices: int) -> Tensor:
    """Return the (L, 2, K) coefficients of the hits and the energies of slices in the statistics."""
    number = torch.arange(first, first + slices)
    layers = torch.stack([(number >= low) & (number <= high) for low, high in config.readout_layers], 1)
    sums = torch.cat([torch.eye(slices), layers.float()], 1).double()
    none = torch.zeros_like(sums)
    of_hits = torch.cat([sums, none, torch.ones(slices, 1, dtype=torch.float64)], 1)
    of_energies = torch.cat([none, sums, torch.zeros(slices, 1, dtype=torch.float64)], 1)
    return torch.stack([of_hits, of_energies], 1)


def _parts(batch: HitBatch) -> Tensor:
    """Return the (S, L, 2) float64 numbers of hits and energy fractions of slices."""
    energy = torch.where(batch.count > 0, batch.slice_energy.double().exp(), 0.0)
    return torch.stack([batch.count.double(), energy], 2)


def _in_order(values: Tensor, groups: Tensor) -> Tensor:
    """Return the values of groups, (M, G, ...), in the order of their showers."""
    found = values.new_empty(groups.numel(), *values.shape[2:])
    found[groups.flatten()] = values.flatten(0, 1)
    return found


def _features(showers: Showers) -> dict[str, FloatArray]:
    columns = observables.table(showers)
    columns.pop(_RESPONSE, None)
    return columns | {"log incident energy": np.log10(showers.incident_energy)}

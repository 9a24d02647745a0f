"""Network for the longitudinal profile of a shower: the number and the energy of the hits of each slice."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.generator.mixtures import NormalMixture
from supa_mamba.generator.number_bins import bin_edges

ENERGY_SCALE = 0.25
"""Factor of the logarithms of energies of slices in the inputs of networks, which makes them of order 1."""

LONGER = 2
"""Sampled showers have at most this many times the largest number of hits of the training showers, in total and in a
slice."""


class ProfileRows(NamedTuple):
    """Slices of showers, each with the profile of the earlier slices. Values of later slices are ignored.

    Args:
        slice: (R,) int64 slice, numbered from the first slice of the readout layers.
        count: (R, L) number of hits of each slice.
        log_energy: (R, L) float32 logarithm of the energy of each slice over the incident energy, or 0 without hits.
        remaining: (R,) float32 logarithm of the energy of this and all later slices over the incident energy.
        condition: (R, C) float32 conditions.
    """

    slice: Tensor
    count: Tensor  # type: ignore[assignment]
    log_energy: Tensor
    remaining: Tensor
    condition: Tensor


class ProfileNetwork(nn.Module):
    """Perceptron that predicts the profile of a shower slice by slice, from the conditions and all earlier slices.

    For each slice it predicts, one after another: the number of hits; whether it is the last slice with hits; its share
    of the remaining energy. The last slice takes all of it. A network that receives the whole profile before a slice
    does not accumulate errors from slice to slice as a network does that adds up hits in its state.

    Args:
        conditions: Number of conditions, C.
        slices: Number of slices, L.
        most_in_slice: Largest number of hits of a slice of the training showers.
        deviation: Standard deviation of the logarithm of the incident energy.
        width: Number of features of a hidden layer.
        components: Number of normal distributions in the mixture for the share of the energy.
        device: Device of the parameters.
    """

    edges: Tensor

    def __init__(
        self,
        conditions: int,
        slices: int,
        most_in_slice: int,
        deviation: float,
        width: int,
        components: int,
        device: Any = None,
    ) -> None:
        super().__init__()
        self.slices, self.most_in_slice, self.deviation = slices, most_in_slice, deviation
        self.components = components
        edges = bin_edges(LONGER * most_in_slice)
        self.register_buffer("edges", torch.tensor(edges, device=device), persistent=False)
        layers: list[nn.Module] = []
        for inputs in (4 * slices + 2 + conditions, width, width):
            layers += [nn.Linear(inputs, width, device=device), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        self.number_head = nn.Linear(width, len(edges) - 1, device=device)
        self.chosen_number = nn.Linear(3, width, device=device)
        self.energy_head = nn.Sequential(
            nn.Linear(width, width, device=device), nn.SiLU(), nn.Linear(width, 1 + 3 * components, device=device)
        )

    def forward(self, rows: ProfileRows) -> Tensor:
        """Compute the hidden features of slices.

        Args:
            rows: The slices.

        Returns:
            (R, width) features.
        """
        found: Tensor = self.trunk(self.inputs(rows))
        return found

    def linear_layers(self) -> list[nn.Linear]:
        """Return the linear layers of the trunk. SiLU follows each of them.

        Returns:
            The layers in order.
        """
        return [layer for layer in self.trunk if isinstance(layer, nn.Linear)]

    def inputs(self, rows: ProfileRows) -> Tensor:
        """Return the inputs of the network.

        Args:
            rows: The slices.

        Returns:
            (R, 4 L + 2 + C) indicator of the slice, `profile_features` and numbers of hits of the earlier slices, the
            remaining energy in units of the incident energy and of 1 GeV, and conditions.
        """
        number = torch.arange(self.slices, device=rows.slice.device)
        is_earlier = number < rows.slice[:, None]
        count = torch.where(is_earlier, rows.count, 0).float()
        profile = profile_features(count, torch.where(is_earlier, rows.log_energy, 0.0))
        absolute = rows.remaining + rows.condition[:, 0] * self.deviation
        return torch.cat(
            [
                (number == rows.slice[:, None]).float(),
                profile,
                count / self.most_in_slice,
                rows.remaining[:, None],
                absolute[:, None],
                rows.condition,
            ],
            1,
        )

    def number_distribution(self, hidden: Tensor, is_final: Tensor) -> Tensor:
        """Predict the number of hits of slices.

        Args:
            hidden: (R, width) features.
            is_final: (R,) whether the slice is the final one of the readout layers, which cannot be empty, because the
                shower has not ended before.

        Returns:
            (R, bins) logarithms of the probabilities of `bin_edges`. Numbers in one bin have equal probabilities.
        """
        logits: Tensor = self.number_head(hidden)
        is_excluded = is_final[:, None] & (self.edges[:-1] == 0)
        return logits.masked_fill(is_excluded, -torch.inf).log_softmax(1)

    def energy_distribution(self, hidden: Tensor, number: Tensor) -> tuple[Tensor, NormalMixture]:
        """Predict whether slices are the last ones with hits, and their energies.

        Args:
            hidden: (R, width) features.
            number: (R,) number of hits of the slice.

        Returns:
            (R,) logit of the probability that the slice is the last one, and the distribution of ln(e / (r - e)) of the
            energy e of the slice and the energy r of this and all later slices.
        """
        chosen = torch.stack([torch.log1p(number.float()), (number == 1).float(), (number == 2).float()], 1)
        found = self.energy_head(hidden + self.chosen_number(chosen))
        return found[:, 0], NormalMixture.of(found[:, 1:])

    def log_likelihood(
        self, rows: ProfileRows, number: Tensor, is_last: Tensor, is_final: Tensor, logit: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute the likelihood of slices.

        Args:
            rows: The slices.
            number: (R,) number of hits of the slice. Numbers above twice the largest one of the training showers have
                the likelihood of the largest bin.
            is_last: (R,) whether the slice is the last one with hits.
            is_final: (R,) whether the slice is the final one of the readout layers.
            logit: (R,) ln(e / (r - e)); see `energy_distribution`.

        Returns:
            (R,) logarithms of the probabilities of the number and the end, and (R,) logarithms of the densities of the
            logit. The end of an empty slice, and the energy of an empty or last slice, are certain.
        """
        hidden = self(rows)
        numbers = self.number_distribution(hidden, is_final)
        place = torch.bucketize(number, self.edges, right=True).sub(1).clamp(max=numbers.shape[1] - 1)
        width = self.edges.diff()[place].float()
        of_number = numbers.gather(1, place[:, None])[:, 0] - width.log()
        end, energy = self.energy_distribution(hidden, number)
        of_end = functional.logsigmoid(torch.where(is_last, end, -end))
        of_end = torch.where((number == 0) | is_final, 0.0, of_end)
        of_energy = torch.where((number == 0) | is_last, 0.0, energy.log_density(logit))
        return of_number + of_end, of_energy


def profile_features(count: Tensor, log_energy: Tensor) -> Tensor:
    """Return the profile of showers as inputs of a network.

    Args:
        count: (..., L) number of hits of each slice.
        log_energy: (..., L) float32 logarithm of the energy of each slice over the incident energy, or 0 without hits.

    Returns:
        (..., 2 L) float32 values of order 1.
    """
    return torch.cat([torch.log1p(count.float()), ENERGY_SCALE * log_energy], -1)

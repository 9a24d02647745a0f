"""Outputs of an encoder, and their mean over rotations of the showers about the axis."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from supa import ShowerConfig
from supa.arrays import FloatArray, IntArray
from supa_mamba.encoder import ShowerEncoder
from supa_mamba.packed_showers import PackedShowers, TaskEncoding

_BLOCK_SHOWERS = 512
"""Number of showers per forward pass."""
_LEAST = 1e-12  # below this, a difference from a whole turn is rounding


def check_symmetry(configs: Iterable[ShowerConfig]) -> None:
    """Check that rotated showers are as probable as the showers themselves.

    Args:
        configs: Configs of the showers.

    Raises:
        ValueError: If the primaries of a config have a preferred azimuth.
    """
    for config in configs:
        low, high = config.azimuth
        is_whole_turn = abs((high - low) / (2 * math.pi) - 1) < _LEAST
        if any(config.polar_angle) and not is_whole_turn:
            raise ValueError(
                f"rotations: the primaries have the polar angles {config.polar_angle} and the azimuths "
                f"{config.azimuth}, so rotated showers differ from simulated ones; use 1 rotation."
            )


@torch.no_grad()
def predict(encoder: ShowerEncoder, showers: PackedShowers) -> FloatArray:
    """Compute the outputs of an encoder for all showers.

    Args:
        encoder: The encoder, on the device of the showers.
        showers: The showers.

    Returns:
        (showers, outputs) float64, or (hits, outputs) at hit level.
    """
    parts = [encoder(batch.points, batch.offset) for batch in showers.batches(np.arange(len(showers)), _BLOCK_SHOWERS)]
    return torch.cat(parts).double().cpu().numpy()


def predict_mean(encoder: ShowerEncoder, encoding: TaskEncoding, showers: PackedShowers, rotations: int) -> FloatArray:
    """Compute the mean outputs of an encoder over rotations of the showers about the axis, in equal steps.

    Energies are means of the logarithm. Classes have mean probabilities. The two primaries of a shower are
    interchangeable: each rotation numbers them such that they agree best with the rotations before.

    Args:
        encoder: The encoder, on the device of the showers.
        encoding: Conversion of showers into tensors and targets.
        showers: The showers.
        rotations: Number of rotations, the first by 0.

    Returns:
        (showers, outputs) float64, or (hits, outputs) at hit level.
    """
    total: FloatArray | None = None
    for number in range(rotations):
        points = rotated(showers.points, encoding, 2 * math.pi * number / rotations) if number else showers.points
        turned = PackedShowers(points, showers.counts, showers.target, showers.number, by_hit=showers.by_hit)
        values = predict(encoder, turned)
        if encoding.classes:
            values = softmax(values, axis=1)
        if total is not None and encoding.name == "primary":
            values = _numbered_alike(values, total, showers.counts)
        total = values if total is None else total + values
    assert total is not None
    return total / rotations


def rotated(points: Tensor, encoding: TaskEncoding, angle: float) -> Tensor:
    """Rotate hits about the axis.

    Args:
        points: (hits, features) float32 normalised features.
        encoding: Conversion that normalised them.
        angle: Angle in radians.

    Returns:
        (hits, features) float32 normalised features of the rotated hits.
    """
    names = encoding.normalisation.features
    x, y = names.index("x"), names.index("y")
    values = encoding.normalisation.invert(points.double())
    turned = values.clone()
    turned[:, x] = math.cos(angle) * values[:, x] - math.sin(angle) * values[:, y]
    turned[:, y] = math.sin(angle) * values[:, x] + math.cos(angle) * values[:, y]
    result: Tensor = encoding.normalisation.apply(turned)
    return result.float()


def _numbered_alike(values: FloatArray, total: FloatArray, counts: IntArray) -> FloatArray:
    """Swap the two classes of the hits of each shower that then agrees better with some other values."""
    shower = np.arange(len(counts)).repeat(counts)
    agreement = ((values - values[:, ::-1]) * total).sum(1)
    swaps = np.bincount(shower, agreement, len(counts)) < 0
    return np.where(swaps[shower, None], values[:, ::-1], values)

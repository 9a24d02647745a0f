"""Encoder of showers: an embedding of hits, a bidirectional Mamba stack, and a head on showers or on hits."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from supa.checks import check_int
from supa.serialise import Config
from supa_mamba.modules.stack import MambaStack
from supa_mamba.ops.packing import normalize_offsets
from supa_mamba.ops.transforms import first_derivative_only

Level = Literal["shower", "hit"]

_POOLED = (
    "ShowerEncoder: the pooling over hits supports first derivatives only; use level='hit' for forward-mode and second "
    "derivatives."
)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Config):
    """Configuration of a `ShowerEncoder`.

    Args:
        features: Number of input features per hit.
        outputs: Number of outputs: the number of classes, or 1 for regression.
        level: ``"shower"`` for one prediction per shower, ``"hit"`` for one prediction per hit.
        d_model: Number of features of each hit inside the encoder.
        n_layer: Number of Mamba layers.
        d_state: Number of states per channel, from 1 to 256.

    Raises:
        ValueError: If a size is out of range.

    Example:
        >>> from supa_mamba import EncoderConfig
        >>> config = EncoderConfig(features=4, outputs=5, level="shower", n_layer=2)
        >>> config.to_dict()
        {'features': 4, 'outputs': 5, 'level': 'shower', 'd_model': 64, 'n_layer': 2, 'd_state': 16}
    """

    features: Annotated[int, partial(check_int, 1, 1000)]
    outputs: Annotated[int, partial(check_int, 1, 10**6)]
    level: Level
    d_model: Annotated[int, partial(check_int, 1, 65536)] = 64
    n_layer: Annotated[int, partial(check_int, 1, 1000)] = 4
    d_state: Annotated[int, partial(check_int, 1, 256)] = 16


class ShowerEncoder(nn.Module):
    """Predict properties of showers, or of their hits, from packed hits.

    A perceptron embeds each hit, and a stack of `BiMamba` layers processes the hits of each shower in both directions.
    At shower level the head receives the mean and the maximum over the hits and the logarithm of one plus their number.
    At hit level it receives the features of each hit.

    Args:
        config: Sizes of the encoder.
        device: Device of the parameters.
        dtype: Dtype of the parameters and of ``points``. With half precision, ``A_log`` and ``D`` stay in float32.

    Example:
        >>> import torch
        >>> from supa_mamba import EncoderConfig, ShowerEncoder
        >>> encoder = ShowerEncoder(EncoderConfig(features=4, outputs=1, level="shower", d_model=16, n_layer=1))
        >>> points = torch.randn(7, 4)  # the hits of two showers, x, y, z and energy
        >>> offset = torch.tensor([0, 3, 7])  # 3 hits, then 4
        >>> encoder(points, offset).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.embedding = nn.Sequential(
            nn.Linear(config.features, width, **factory), nn.SiLU(), nn.Linear(width, width, **factory)
        )
        self.stack = MambaStack(width, config.n_layer, mixer="bimamba", d_state=config.d_state, **factory)
        seen = width if config.level == "hit" else 2 * width + 1
        self.head = nn.Sequential(
            nn.Linear(seen, width, **factory), nn.SiLU(), nn.Linear(width, config.outputs, **factory)
        )

    def forward(self, points: Tensor, offset: Tensor) -> Tensor:
        """Compute the predictions.

        Args:
            points: (hits, features) normalised features of the hits, one shower after another.
            offset: (showers + 1,) integers. Shower k consists of the hits ``offset[k]`` to ``offset[k + 1] - 1``.

        Returns:
            (showers, outputs) float32, or (hits, outputs) at hit level.

        Raises:
            ValueError: If the number of features is wrong, or the offset does not match the points.
        """
        if points.ndim != 2 or points.shape[1] != self.config.features:
            raise ValueError(
                f"points: shape {tuple(points.shape)} was given, but it must be (hits, {self.config.features})."
            )
        offset = normalize_offsets("points", points, offset)
        hits = self.stack(self.embedding(points), offset)
        seen = hits if self.config.level == "hit" else pooled(hits, offset)
        return self.head(seen).float()  # type: ignore[no-any-return]


def pooled(hits: Tensor, offset: Tensor) -> Tensor:
    """Pool the hits of each shower without atomic operations, so that results are bitwise reproducible.

    Args:
        hits: (hits, width) features of the hits.
        offset: (showers + 1,) int64 offsets of the showers.

    Returns:
        (showers, 2 * width + 1) float32: mean, maximum, and logarithm of one plus the number of hits; zeros for a
        shower without hits.
    """
    # Half precision is too coarse for a sum over hundreds of hits.
    hits = first_derivative_only(hits.float(), _POOLED)
    count = offset.diff()[:, None]
    total = torch.segment_reduce(hits, "sum", offsets=offset, axis=0, initial=0)
    highest = torch.segment_reduce(hits, "max", offsets=offset, axis=0)
    return torch.cat([total / count.clamp(min=1), torch.where(count > 0, highest, 0.0), torch.log1p(count)], 1)

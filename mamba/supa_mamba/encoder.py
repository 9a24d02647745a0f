"""An encoder of showers: a vector for each hit, a stack that reads them both ways, and a head on hits or on showers."""

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
    "ShowerEncoder: the sums and maxima over a shower have first derivatives only; forward-mode and second derivatives "
    "are supported with level='hit'."
)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Config):
    """The sizes of a ``ShowerEncoder``.

    Args:
        features: number of features of a hit.
        outputs: number of outputs: classes, or 1 for a value.
        level: whether outputs belong to each ``"shower"`` or to each ``"hit"``.
        d_model: width of a hit's vector.
        n_layer: number of layers of the stack.
        d_state: states of a channel.

    Raises:
        ValueError: a size is out of range.
    """

    features: Annotated[int, partial(check_int, 1, 1000)]
    outputs: Annotated[int, partial(check_int, 1, 10**6)]
    level: Level
    d_model: Annotated[int, partial(check_int, 1, 65536)] = 64
    n_layer: Annotated[int, partial(check_int, 1, 1000)] = 4
    d_state: Annotated[int, partial(check_int, 1, 256)] = 16


class ShowerEncoder(nn.Module):
    """Predict properties of showers, or of their hits, from packed hits.

    A perceptron makes a vector of each hit, and a stack of Mamba layers reads each shower's vectors in both directions.
    On showers the head sees mean and maximum over the hits and the logarithm of one more than their number, which the
    two others do not contain; on hits it sees each hit's vector.

    Args:
        config: the sizes.
        device: of the parameters.
        dtype: of the parameters; rates and skips stay in float32 where it is half precision. Points must have it, too.
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
        """Encode showers.

        Args:
            points: (hits, features) float32, normalised, one shower after another.
            offset: (showers + 1,) integers: the hits of shower k are offset[k] to offset[k + 1].

        Returns:
            (showers, outputs) or, at hit level, (hits, outputs) float32.

        Raises:
            ValueError: The points have another number of features, or the offset does not fit.
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
    """Sum each shower's vectors up, without atomics: the same bits every time.

    Args:
        hits: (hits, width).
        offset: (showers + 1,) int64.

    Returns:
        (showers, 2 * width + 1) float32: mean, maximum, logarithm of one more than the number of hits; zeros where a
        shower has no hit.
    """
    # Half precision would lose the last bits of a sum over hundreds of hits.
    hits = first_derivative_only(hits.float(), _POOLED)
    count = offset.diff()[:, None]
    total = torch.segment_reduce(hits, "sum", offsets=offset, axis=0, initial=0)
    highest = torch.segment_reduce(hits, "max", offsets=offset, axis=0)
    return torch.cat([total / count.clamp(min=1), torch.where(count > 0, highest, 0.0), torch.log1p(count)], 1)

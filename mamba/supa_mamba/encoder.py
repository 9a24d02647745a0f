"""An encoder of showers: a vector for each hit, a stack that reads them both ways, and a head on hits or on showers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from supa.checks import did_you_mean, shown, whole
from supa_mamba.modules.stack import MambaStack
from supa_mamba.ops.packing import normalize_offsets
from supa_mamba.ops.transforms import first_derivative_only

Level = Literal["shower", "hit"]

_POOLED = (
    "ShowerEncoder: the sums and maxima over a shower have first derivatives only; forward-mode and second derivatives "
    "are supported with level='hit'."
)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
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

    features: int
    outputs: int
    level: Level
    d_model: int = 64
    n_layer: int = 4
    d_state: int = 16

    def __post_init__(self) -> None:
        for name, high in (
            ("features", 1000),
            ("outputs", 10**6),
            ("d_model", 65536),
            ("n_layer", 1000),
            ("d_state", 256),
        ):
            whole(1, high, name, getattr(self, name))
        if self.level not in get_args(Level):
            raise ValueError(
                f"level: {shown(self.level)} was given, but it must be 'shower' or 'hit'."
                f"{did_you_mean(self.level, ('shower', 'hit'))}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes as plain values.

        Returns:
            A dictionary that JSON can hold.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, sizes: Mapping[str, Any]) -> "EncoderConfig":
        """Return the sizes of a dictionary, as ``to_dict`` returns it.

        Args:
            sizes: the dictionary.

        Returns:
            The sizes.

        Raises:
            ValueError: It is no such dictionary.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(sizes, Mapping) or set(sizes) != names:
            raise ValueError(f"{shown(sizes)} was given, but an encoder's sizes are {', '.join(sorted(names))}.")
        return cls(**sizes)


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

"""How an encoder is trained: every size and number, validated, with its JSON and TOML forms."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from supa.checks import check_int, check_real, did_you_mean, format_value
from supa_datasets.loaders.tasks import SHOWER_TASKS

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How an encoder is trained.

    Args:
        target: what is predicted; one of ``supa_datasets.loaders.tasks.SHOWER_TASKS``.
        d_model: width of a hit's vector.
        n_layer: number of layers.
        d_state: states of a channel.
        epochs: most epochs; the learning rate falls over all of them.
        batch_size: showers of a batch, over all processes.
        learning_rate: highest of AdamW.
        warmup: share of the steps in which the learning rate rises from 0; then it falls as a cosine.
        weight_decay: of matrices.
        clip: largest norm of the gradient.
        patience: epochs without a better validation loss after which training ends.
        precision: ``"float32"``, or ``"bf16"``: what PyTorch's autocast puts into bfloat16.
        seed: of the first weights and of the order of the showers.

    Raises:
        ValueError: a value is not allowed.
    """

    target: str
    d_model: int = 64
    n_layer: int = 4
    d_state: int = 16
    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.05
    clip: float = 1.0
    patience: int = 10
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.target, str) or self.target not in SHOWER_TASKS:
            raise ValueError(
                f"target: {format_value(self.target)} was given, but it is one of {', '.join(SHOWER_TASKS)}."
                f"{did_you_mean(self.target, SHOWER_TASKS)}"
            )
        for name, low, high in (
            ("d_model", 1, 65536), ("n_layer", 1, 1000), ("d_state", 1, 256), ("epochs", 1, 10**6),
            ("batch_size", 1, 10**9), ("patience", 1, 10**6), ("seed", 0, 2**63 - 1),
        ):  # fmt: skip
            check_int(low, high, name, getattr(self, name))
        check_real(lambda v: v > 0, "above 0", "learning_rate", self.learning_rate)
        check_real(lambda v: 0 <= v < 1, "from 0 to below 1, a share of the steps", "warmup", self.warmup)
        check_real(lambda v: v >= 0, "that is 0 or above", "weight_decay", self.weight_decay)
        check_real(lambda v: v > 0, "above 0", "clip", self.clip)
        if self.precision not in get_args(Precision):
            raise ValueError(
                f"precision: {format_value(self.precision)} was given, but it must be 'float32' or 'bf16'."
                f"{did_you_mean(self.precision, get_args(Precision))}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values.

        Returns:
            A dictionary that JSON and TOML can hold.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """Make a config from a dictionary; what it does not name keeps its default.

        Args:
            values: fields and their values; ``target`` at least.

        Returns:
            The config.

        Raises:
            ValueError: a name is no field, ``target`` is missing, or a value is not allowed.
        """
        _check_names(values)
        if "target" not in values:
            raise ValueError("No target was given; name what is to be predicted, such as num_primaries.")
        return cls(**values)

    def to_json(self) -> str:
        """Write the config as JSON.

        Returns:
            The text of one JSON object.
        """
        return json.dumps(self.to_dict(), indent=2)


def settings_from_toml(path: str | PathLike[str]) -> dict[str, Any]:
    """Read settings of a training from a TOML file; not all need be there.

    Args:
        path: the file.

    Returns:
        The settings, for ``TrainingConfig.from_dict``.

    Raises:
        ValueError: the file cannot be read, is no TOML, or names something else.
    """
    try:
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: the config file cannot be read ({error}).") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: the config file is not valid TOML: {error}.") from None
    try:
        _check_names(settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return settings


def _check_names(settings: Mapping[str, Any]) -> None:
    names = [field.name for field in fields(TrainingConfig)]
    for name in settings:
        if name not in names:
            raise ValueError(
                f"{format_value(name)} is no setting of a training; choose from "
                f"{', '.join(names)}.{did_you_mean(name, names)}"
            )

"""Normalisation of features: fitted once on a training split, saved with the model, and undone behind it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from supa.arrays import is_real
from supa.checks import counted, format_value
from supa.serialise import Config

SMALLEST = 1e-30
"""What a value of 0 counts as where logarithms are taken."""


@dataclass(frozen=True)
class Normalisation(Config):
    """A map of each feature to mean 0 and standard deviation 1: (f - mean) / std, of f or of its logarithm.

    Args:
        features: name of each feature.
        logarithm: whether the logarithm of each is taken first.
        mean: mean of each, after the logarithm.
        std: standard deviation of each, after the logarithm; above 0.
    """

    features: tuple[str, ...]
    logarithm: tuple[bool, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = {len(self.features), len(self.logarithm), len(self.mean), len(self.std)}
        finite = all(np.isfinite([*self.mean, *self.std]))
        if len(lengths) != 1 or not finite or not all(std > 0 for std in self.std):
            raise ValueError(
                f"{format_value(self)} was given, but every feature needs a logarithm, a mean, and a std above 0."
            )

    @classmethod
    def fit(
        cls, features: tuple[str, ...], values: npt.NDArray[np.floating[Any]], *, logarithm: tuple[bool, ...]
    ) -> Self:
        """Measure mean and standard deviation.

        Args:
            features: name of each feature.
            values: (points, features), of the training split.
            logarithm: whether the logarithm of each is taken first.

        Returns:
            The normalisation. A feature that is constant keeps a std of 1.

        Raises:
            ValueError: there is no point, or a value is not a finite number.
        """
        values = _floating(values)
        if not len(values) or not np.isfinite(values).all():
            raise ValueError("A normalisation is fitted on at least one point, all of finite values.")
        scaled = _columnwise(values.astype(np.float64), logarithm, _logarithms)
        mean, std = scaled.mean(axis=0), scaled.std(axis=0)
        std = np.where(std > 1e-12 * np.maximum(1, np.abs(mean)), std, 1.0)
        return cls(features, logarithm, tuple(map(float, mean)), tuple(map(float, std)))

    def apply(self, values: Any, valid: Any = None) -> Any:
        """Normalise.

        Args:
            values: (..., features), a NumPy array or a tensor; whole numbers become floating-point ones.
            valid: (...) True where a point is real; padding is made 0. None: every point is real.

        Returns:
            The normalised values, of the same kind.

        Raises:
            ValueError: the last axis is not that of the features, or the values are no numbers.
        """
        values = _floating(values)
        mean, std = self._like(values)
        result = (_columnwise(values, self.logarithm, _logarithms) - mean) / std
        return result if valid is None else _zeroed(result, valid)

    def invert(self, values: Any, valid: Any = None) -> Any:
        """Undo ``apply``.

        Args:
            values: (..., features), a NumPy array or a tensor; whole numbers become floating-point ones.
            valid: (...) True where a point is real; padding is made 0. None: every point is real.

        Returns:
            The features, of the same kind.

        Raises:
            ValueError: the last axis is not that of the features, or the values are no numbers.
        """
        values = _floating(values)
        mean, std = self._like(values)
        result = _columnwise(values * std + mean, self.logarithm, _exponentials)
        return result if valid is None else _zeroed(result, valid)

    def _like(self, values: Any) -> tuple[Any, Any]:
        if values.shape[-1] != len(self.features):
            raise ValueError(
                f"Values of shape {tuple(values.shape)} were given, but the last axis must be the "
                f"{counted(len(self.features), 'feature')} {', '.join(self.features)}."
            )
        if isinstance(values, np.ndarray):
            return np.array(self.mean, dtype=values.dtype), np.array(self.std, dtype=values.dtype)
        return values.new_tensor(self.mean), values.new_tensor(self.std)

    def save(self, path: str | Path) -> None:
        """Write the numbers as JSON; ``from_file`` reads them.

        Args:
            path: the file, whose name must end in ``.json``.
        """
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")


def resolve_normalisation(given: object, fit: Callable[[], Normalisation]) -> Normalisation | None:
    """Return the normalisation that a loader uses.

    Args:
        given: what the loader was given: a Normalisation, ``"fit"`` or None.
        fit: fits one.

    Returns:
        The normalisation, None for none.

    Raises:
        ValueError: something else was given.
    """
    if given is None or isinstance(given, Normalisation):
        return given
    if isinstance(given, str) and given == "fit":
        return fit()
    raise ValueError(
        f"normalisation: {format_value(given)} was given, but it must be a Normalisation (Normalisation.from_file "
        "reads one), "
        "'fit' or None."
    )


def _floating(values: Any) -> Any:
    """Return whole numbers as floating-point ones, which a mean and a std are."""
    if isinstance(values, np.ndarray):
        if is_real(values):
            return values if values.dtype.kind == "f" else values.astype(np.float64)
    else:
        import torch

        if values.is_floating_point():
            return values
        if values.dtype != torch.bool and not values.is_complex():
            return values.to(torch.get_default_dtype())
    raise ValueError(f"Values of {values.dtype} were given, but they must be numbers.")


def _columnwise(values: Any, chosen: tuple[bool, ...], function: Callable[[Any], Any]) -> Any:
    """Map some columns; nothing is changed in place, so that gradients flow."""
    if not any(chosen):
        return values
    columns = [function(values[..., k]) if taken else values[..., k] for k, taken in enumerate(chosen)]
    if isinstance(values, np.ndarray):
        return np.stack(columns, axis=-1)
    import torch

    return torch.stack(columns, dim=-1)


def _logarithms(column: Any) -> Any:
    if isinstance(column, np.ndarray):
        return np.log(np.maximum(column, max(SMALLEST, np.finfo(column.dtype).tiny)))
    import torch

    return column.clamp_min(max(SMALLEST, torch.finfo(column.dtype).tiny)).log()


def _exponentials(column: Any) -> Any:
    return np.exp(column) if isinstance(column, np.ndarray) else column.exp()


def _zeroed(values: Any, valid: Any) -> Any:
    if isinstance(values, np.ndarray):
        return np.where(valid[..., None], values, np.zeros_like(values))
    return values.masked_fill(~valid[..., None], 0)

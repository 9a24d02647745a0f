"""Normalisation of features to mean 0 and standard deviation 1."""

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
"""Smallest value of which a logarithm is taken; smaller values are replaced by it."""


@dataclass(frozen=True)
class Normalisation(Config):
    """An invertible map of each feature to mean 0 and standard deviation 1.

    Each feature f, or its natural logarithm, is mapped to (f - mean) / std. Fit a normalisation on the training split
    and save it with the model.

    Args:
        features: Name of each feature.
        logarithm: Whether the logarithm of each feature is taken first.
        mean: Mean of each feature, after the logarithm.
        std: Standard deviation of each feature, after the logarithm; above 0.

    Raises:
        ValueError: If the lengths differ, a number is not finite, or a standard deviation is not positive.

    Example:
        >>> import numpy as np
        >>> from supa_datasets import Normalisation
        >>> values = np.array([[0.0, 1.0], [2.0, 100.0]])
        >>> normalisation = Normalisation.fit(("x", "energy"), values, logarithm=(False, True))
        >>> normalisation.apply(values)
        array([[-1., -1.],
               [ 1.,  1.]])
        >>> normalisation.save("normalisation.json")
        >>> Normalisation.from_file("normalisation.json") == normalisation
        True
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
                f"Every feature needs a logarithm, a finite mean and a std above 0, got {format_value(self)}."
            )

    @classmethod
    def fit(
        cls, features: tuple[str, ...], values: npt.NDArray[np.floating[Any]], *, logarithm: tuple[bool, ...]
    ) -> Self:
        """Fit a normalisation to the points of the training split.

        Args:
            features: Name of each feature.
            values: (points, features) finite numbers.
            logarithm: Whether the logarithm of each feature is taken first.

        Returns:
            The normalisation. The standard deviation of a constant feature is set to 1.

        Raises:
            ValueError: If there are no points, or a value is not a finite number.
        """
        values = _floating(values)
        if not len(values) or not np.isfinite(values).all():
            raise ValueError("A normalisation can only be fitted to one or more points with finite values.")
        scaled = _columnwise(values.astype(np.float64), logarithm, _logarithms)
        mean, std = scaled.mean(axis=0), scaled.std(axis=0)
        std = np.where(std > 1e-12 * np.maximum(1, np.abs(mean)), std, 1.0)
        return cls(features, logarithm, tuple(map(float, mean)), tuple(map(float, std)))

    def apply(self, values: Any, valid: Any = None) -> Any:
        """Normalise features.

        Args:
            values: (..., features) NumPy array or tensor; integers are converted to floating-point numbers.
            valid: (...) bool, True for real points; padding is set to 0. By default all points are real.

        Returns:
            (..., features) normalised values, an array or a tensor like ``values``.

        Raises:
            ValueError: If the length of the last axis is not the number of features, or the values are not numbers.
        """
        values = _floating(values)
        mean, std = self._like(values)
        result = (_columnwise(values, self.logarithm, _logarithms) - mean) / std
        return result if valid is None else _zeroed(result, valid)

    def invert(self, values: Any, valid: Any = None) -> Any:
        """Invert `apply`.

        Args:
            values: (..., features) NumPy array or tensor; integers are converted to floating-point numbers.
            valid: (...) bool, True for real points; padding is set to 0. By default all points are real.

        Returns:
            (..., features) features in their units, an array or a tensor like ``values``.

        Raises:
            ValueError: If the length of the last axis is not the number of features, or the values are not numbers.
        """
        values = _floating(values)
        mean, std = self._like(values)
        result = _columnwise(values * std + mean, self.logarithm, _exponentials)
        return result if valid is None else _zeroed(result, valid)

    def _like(self, values: Any) -> tuple[Any, Any]:
        if values.shape[-1] != len(self.features):
            raise ValueError(
                f"The last axis of the values must be the {counted(len(self.features), 'feature')} "
                f"{', '.join(self.features)}, got shape {tuple(values.shape)}."
            )
        if isinstance(values, np.ndarray):
            return np.array(self.mean, dtype=values.dtype), np.array(self.std, dtype=values.dtype)
        return values.new_tensor(self.mean), values.new_tensor(self.std)

    def save(self, path: str | Path) -> None:
        """Write the normalisation to a JSON file, which ``Normalisation.from_file`` reads.

        Args:
            path: Path of the file, ending in ``.json``. An existing file is replaced.

        Raises:
            OSError: If the file cannot be written.
        """
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")


def resolve_normalisation(given: object, fit: Callable[[], Normalisation]) -> Normalisation | None:
    """Return the normalisation of a loader.

    Args:
        given: Argument of the loader: a Normalisation, ``"fit"`` or None.
        fit: Function that fits a normalisation.

    Returns:
        The normalisation; None for unchanged features.

    Raises:
        ValueError: If ``given`` is anything else.
    """
    if given is None or isinstance(given, Normalisation):
        return given
    if isinstance(given, str) and given == "fit":
        return fit()
    raise ValueError(
        "normalisation must be a Normalisation (Normalisation.from_file reads one), 'fit' or None, got "
        f"{format_value(given)}."
    )


def _floating(values: Any) -> Any:
    """Return the values as floating-point numbers."""
    if isinstance(values, np.ndarray):
        if is_real(values):
            return values if values.dtype.kind == "f" else values.astype(np.float64)
    else:
        import torch

        if values.is_floating_point():
            return values
        if values.dtype != torch.bool and not values.is_complex():
            return values.to(torch.get_default_dtype())
    raise ValueError(f"The values must be numbers, got {values.dtype}.")


def _columnwise(values: Any, chosen: tuple[bool, ...], function: Callable[[Any], Any]) -> Any:
    """Apply a function to the chosen columns, not in place, so that autograd can differentiate it."""
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

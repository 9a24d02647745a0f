"""Distributions of the incident energy and of the number of primaries."""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Literal, TypeAlias

from supa.checks import check_int, check_real, counted, format_value

MIN_ENERGY = 1e-20
MAX_PRIMARIES = 255
MIN_POISSON_MEAN = 0.01
MAX_POISSON_MEAN = 100.0


@dataclass(frozen=True)
class EnergySpectrum:
    """Distribution of the incident energy.

    The command line, JSON, TOML and Python use the same notation: ``"65"`` is a fixed energy, ``"1:100"`` is uniform,
    ``"log:1:100"`` is uniform in the logarithm, and ``"10,20,50"`` is a list of equally likely energies.
    `EnergySpectrum.parse` reads it.

    Args:
        law: Name of the distribution: ``"fixed"``, ``"uniform"``, ``"log-uniform"`` or ``"list"``.
        values: Energies in GeV: one value for ``"fixed"``, the two bounds for ``"uniform"`` and ``"log-uniform"``, or
            the entries of the list. A list with one entry becomes ``"fixed"``.

    Raises:
        ValueError: If the distribution is unknown, or if the values are not positive and finite, do not have the right
            number, or are not in ascending order.

    Example:
        >>> import supa
        >>> spectrum = supa.EnergySpectrum.parse("log:1:100")
        >>> spectrum
        EnergySpectrum(law='log-uniform', values=(1.0, 100.0))
        >>> round(spectrum.mean, 2)
        21.5
        >>> str(supa.EnergySpectrum("uniform", (10, 50)))
        '10.0:50.0'
    """

    law: Literal["fixed", "uniform", "log-uniform", "list"]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        positive = partial(check_real, lambda v: v >= MIN_ENERGY, f"of GeV, at least {MIN_ENERGY:g}", "incident energy")
        if self.law not in ("fixed", "uniform", "log-uniform", "list") or not isinstance(self.values, list | tuple):
            raise ValueError(
                f"incident energy: {self.law!r} with the values {format_value(self.values)} is not a distribution; use "
                "'fixed', 'uniform', 'log-uniform' or 'list' with a tuple of energies in GeV."
            )
        object.__setattr__(self, "values", tuple(positive(value) for value in self.values))
        expected = {"fixed": 1, "uniform": 2, "log-uniform": 2, "list": len(self.values)}
        if not self.values or len(self.values) != expected[self.law]:
            number = counted(len(self.values), "value")
            raise ValueError(f"incident energy: the distribution {self.law!r} cannot have {number}.")
        if self.law == "list" and len(self.values) == 1:
            object.__setattr__(self, "law", "fixed")
        if self.law in ("uniform", "log-uniform") and self.values[0] >= self.values[1]:
            low, high = self.values
            raise ValueError(f"incident energy: the range {low:g}:{high:g} is empty; give the lower energy first.")

    @classmethod
    def parse(cls, value: "EnergyLike") -> "EnergySpectrum":
        """Create a spectrum from a number, a text, a sequence of numbers or a spectrum.

        Args:
            value: 65, ``"65"``, ``"1:100"``, ``"log:1:100"``, ``"10,20,50"`` or [10, 20, 50] (all in GeV), or a
                spectrum.

        Returns:
            Spectrum with these energies.

        Raises:
            ValueError: If the text cannot be parsed, or if an energy is not positive and finite.
        """
        if isinstance(value, EnergySpectrum):
            return value
        if isinstance(value, str):
            return cls._parse_text(value)
        if isinstance(value, Real) and not isinstance(value, bool):
            return cls("fixed", (value,))  # type: ignore[arg-type]
        if isinstance(value, Iterable) and getattr(value, "ndim", 1) == 1:
            entries = list(value)
            if entries and all(isinstance(entry, Real) and not isinstance(entry, bool) for entry in entries):
                return cls("list", tuple(entries))
        raise ValueError(_energy_help(value))

    @classmethod
    def _parse_text(cls, text: str) -> "EnergySpectrum":
        law: Literal["uniform", "log-uniform"] = "uniform"
        body = text.strip()
        if body.startswith("log:"):
            law, body = "log-uniform", body[4:]
        separator = ":" if ":" in body or law == "log-uniform" else ","
        try:
            values = tuple(float(part) for part in body.split(separator))
        except ValueError:
            raise ValueError(_energy_help(text)) from None
        if separator == ":":
            if len(values) != 2:
                raise ValueError(_energy_help(text))
            return cls(law, values)
        return cls("fixed" if len(values) == 1 else "list", values)

    def __str__(self) -> str:
        separator = ":" if self.law in ("uniform", "log-uniform") else ","
        return ("log:" if self.law == "log-uniform" else "") + separator.join(f"{v!r}" for v in self.values)

    @property
    def mean(self) -> float:
        """Mean incident energy (GeV)."""
        if self.law == "log-uniform":
            low, high = self.values
            return (high - low) / math.log(high / low)
        return math.fsum(self.values) / len(self.values)


EnergyLike: TypeAlias = float | str | Sequence[float] | EnergySpectrum


def _energy_help(value: object) -> str:
    return (
        f"incident energy: {format_value(value)} was given, but it must be one energy in GeV (65), a range "
        "(1:100), a range that is uniform in the logarithm (log:1:100) or a list (10,20,50)."
    )


@dataclass(frozen=True)
class PrimaryCount:
    """Distribution of the number of primaries, which share the incident energy of a shower.

    The notation is ``"2"`` for a fixed number and ``"poisson:2.5"`` for a Poisson distribution, which is conditioned on
    being above 0, because every shower has at least one primary. `PrimaryCount.parse` reads it.

    Args:
        law: Name of the distribution: ``"fixed"`` or ``"poisson"``.
        value: Fixed number (1 to 255), or parameter of the Poisson distribution (0.01 to 100).

    Raises:
        ValueError: If the distribution is unknown or the value is outside its range.

    Example:
        >>> import supa
        >>> count = supa.PrimaryCount.parse("poisson:2.5")
        >>> round(count.mean, 3)
        2.724
        >>> [round(p, 3) for p in count.probabilities()[:4]]
        [0.0, 0.224, 0.279, 0.233]
    """

    law: Literal["fixed", "poisson"]
    value: float

    def __post_init__(self) -> None:
        if self.law not in ("fixed", "poisson"):
            raise ValueError(f"num_primaries: unknown distribution {self.law!r}; choose 'fixed' or 'poisson'.")
        try:
            if self.law == "fixed":
                value: float = check_int(1, MAX_PRIMARIES, "num_primaries", self.value)
            else:
                value = check_real(lambda v: MIN_POISSON_MEAN <= v <= MAX_POISSON_MEAN, "", "num_primaries", self.value)
        except ValueError:
            raise ValueError(_count_help(f"{self.law}, {format_value(self.value)}")) from None
        object.__setattr__(self, "value", value)

    @classmethod
    def parse(cls, value: "PrimaryCountLike") -> "PrimaryCount":
        """Create a distribution from an integer, a text or a distribution.

        Args:
            value: 2, ``"2"``, ``"poisson:2.5"``, or a distribution.

        Returns:
            Distribution of the number of primaries.

        Raises:
            ValueError: If the text cannot be parsed or the number is outside its range.
        """
        if isinstance(value, PrimaryCount):
            return value
        if isinstance(value, Integral) and not isinstance(value, bool):
            return cls("fixed", int(value))
        if isinstance(value, str):
            text = value.strip()
            law: Literal["fixed", "poisson"] = "poisson" if text.startswith("poisson:") else "fixed"
            with suppress(ValueError):
                return cls(law, float(text.removeprefix("poisson:")) if law == "poisson" else int(text))
        raise ValueError(_count_help(format_value(value)))

    def __str__(self) -> str:
        return f"{self.value}" if self.law == "fixed" else f"poisson:{self.value!r}"

    @property
    def mean(self) -> float:
        """Mean number of primaries."""
        return float(self.value) if self.law == "fixed" else self.value / -math.expm1(-self.value)

    def probabilities(self) -> list[float]:
        """Return the probabilities of 0, 1, 2, ... primaries, until they are below 1e-17.

        Returns:
            Probabilities, which sum to 1.
        """
        if self.law == "fixed":
            return [0.0] * int(self.value) + [1.0]
        scale = -math.expm1(-self.value)
        terms = [0.0, self.value * math.exp(-self.value) / scale]
        while len(terms) <= self.value or terms[-1] > 1e-17:
            terms.append(terms[-1] * self.value / len(terms))
        return terms


PrimaryCountLike: TypeAlias = int | str | PrimaryCount


def _count_help(given: str) -> str:
    return (
        f"num_primaries: {given} was given, but it must be a whole number from 1 to {MAX_PRIMARIES}, or "
        f"'poisson:MEAN' with a mean from {MIN_POISSON_MEAN:g} to {MAX_POISSON_MEAN:g}."
    )

"""Conditions of a generator: the incident energy, fields of the config and the preset."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig, Showers, preset_name
from supa.presets import ConfigLike, as_config
from supa.serialise import Config
from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.packed_attention import values_readable

PRESET = "preset"
"""Name of the condition that distinguishes the configs of the training showers."""

_ROUNDING = 1e-6
"""Largest relative distance of a value from the range of the training showers, for energies rounded to float32."""


@dataclass(frozen=True, kw_only=True)
class ShowerConditions(Config):
    """What a generator receives about a shower before its first hit, as numbers.

    The conditions of a shower are, in this order, the logarithm of its incident energy, numerical fields of its config,
    and an indicator of each training config if the fields contain ``"preset"``. The logarithm and the fields are
    standardised.

    Args:
        fields: Names of numerical fields of the config. ``"preset"`` adds the indicators.
        configs: Configs of the training showers. Configs that differ only in the incident energy and in the numerical
            fields are one config.
        means: Means of the logarithm of the incident energy, and of each numerical field.
        deviations: Standard deviations of the same values; 1 for a constant.
        ranges: Lowest and highest value of each numerical field.
        energies: Lowest and highest incident energy (GeV).

    Example:
        >>> import supa, torch
        >>> from supa_mamba import HitCoding
        >>> cold, hot = (supa.ShowerConfig(split_late=p) for p in (0.2, 0.4))
        >>> conditions = HitCoding.fit([supa.simulate(20, c, seed=1) for c in (cold, hot)], ["split_late"]).conditions
        >>> conditions(hot, torch.tensor([65.0]))
        tensor([[0., 1.]])
        >>> conditions(hot, torch.tensor([70.0]))
        Traceback (most recent call last):
        ValueError: incident_energy: 70 GeV was given, but the training showers have 65 GeV.
    """

    fields: tuple[str, ...]
    configs: tuple[ShowerConfig, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    ranges: tuple[tuple[float, float], ...]
    energies: tuple[float, float]

    @classmethod
    def fit(cls, showers: Sequence[Showers], fields: Sequence[str]) -> "ShowerConditions":
        """Fit the conditions to training showers.

        Args:
            showers: Showers of each config, at least one of each.
            fields: Names of numerical fields of the config, and ``"preset"``.

        Returns:
            The conditions. If the energies of showers are inside the distribution of their config, then ``energies``
            contains the whole distribution.

        Raises:
            ValueError: If a name is not a numerical field, or the configs have different readout layers and the fields
                do not contain ``"preset"``.
        """
        fields = (fields,) if isinstance(fields, str) else tuple(fields)
        if len(set(fields)) < len(fields):
            raise ValueError(f"fields: {', '.join(fields)} was given, but each name must be given once.")
        configs: list[ShowerConfig] = []
        for part in showers:
            _check_names(part.config, fields)
            if not any(_differences(part.config, config, fields) == [] for config in configs):
                configs.append(part.config)
        if PRESET not in fields and len({config.readout_layers for config in configs}) > 1:
            raise ValueError(
                "The configs of the showers have different readout layers, which a generator must distinguish; add "
                "'preset' to the fields (--field preset)."
            )
        counts = [len(part) for part in showers]
        columns = [np.log(np.concatenate([part.incident_energy for part in showers]).astype(np.float64))]
        values = [[float(getattr(part.config, name)) for part in showers] for name in _numerical(fields)]
        columns += [np.repeat(of_field, counts) for of_field in values]
        deviations = [float(column.std()) for column in columns]
        energies = [_energy_range(part) for part in showers]
        return cls(
            fields=fields,
            configs=tuple(configs),
            means=tuple(float(column.mean()) for column in columns),
            deviations=tuple(deviation if deviation > 1e-9 else 1.0 for deviation in deviations),
            ranges=tuple((min(of_field), max(of_field)) for of_field in values),
            energies=(min(low for low, _ in energies), max(high for _, high in energies)),
        )

    @property
    def num_conditions(self) -> int:
        """Number of conditions of a shower, C."""
        return len(self.means) + self.num_indicators

    @property
    def num_indicators(self) -> int:
        """Number of indicators of configs, which are the last conditions; 0 without ``"preset"``."""
        return len(self.configs) if PRESET in self.fields else 0

    def __call__(self, config: ConfigLike, incident_energy: Tensor) -> Tensor:
        """Compute the conditions of showers of one config.

        There is no synchronisation with a GPU: energies on a GPU are not checked. Call `check` before.

        Args:
            config: Config of the showers, or name of a preset. Its distribution of the incident energy is ignored.
            incident_energy: (S,) incident energies (GeV).

        Returns:
            (S, C) float32 conditions.

        Raises:
            ValueError: If the training showers have no such config, or an energy on the CPU is outside their range.
        """
        self.check(config, incident_energy if values_readable(incident_energy) else None)
        first = self._of_energies(incident_energy)
        return torch.cat([first, *(torch.full_like(first, value) for value in self._row(as_config(config)))], 1)

    def check(self, config: ConfigLike, incident_energy: Tensor | None = None) -> None:
        """Check that a model can generate showers of a config.

        Args:
            config: The config, or name of a preset. Its distribution of the incident energy is ignored.
            incident_energy: (S,) incident energies (GeV), if they are to be checked.

        Raises:
            ValueError: If the config differs from those of the training showers in anything but the fields, or a field
                or an energy is outside the range of the training showers.
        """
        config = as_config(config)
        self._place(config)
        for name, (low, high) in zip(_numerical(self.fields), self.ranges, strict=True):
            if _outside(value := float(getattr(config, name)), low, high):
                raise ValueError(
                    f"{name}: {value:g} was given, but the training showers have {_range_text(low, high)}."
                )
        if incident_energy is not None and incident_energy.numel():
            low, high = self.energies
            for value in (float(incident_energy.min()), float(incident_energy.max())):
                if _outside(value, low, high):
                    raise ValueError(
                        f"incident_energy: {value:g} GeV was given, but the training showers have "
                        f"{_range_text(low, high)} GeV."
                    )

    def table(self, configs: Sequence[ConfigLike], device: Device = None) -> Tensor:
        """Compute the conditions that depend only on the config, for `from_table`.

        Args:
            configs: The configs or names of presets, such as those of a stream.
            device: Device of the table.

        Returns:
            (configs, C - 1) float32 conditions after the first one.

        Raises:
            ValueError: If a config does not pass `check`.
        """
        for config in configs:
            self.check(config)
        rows = [self._row(as_config(config)) for config in configs]
        return torch.tensor(rows, dtype=torch.float32, device=device).reshape(len(rows), self.num_conditions - 1)

    def from_table(self, table: Tensor, number: Tensor, incident_energy: Tensor) -> Tensor:
        """Compute the conditions of showers of several configs, without checks and without host-device synchronisation.

        Args:
            table: (configs, C - 1) result of `table`.
            number: (S,) int64 row of the config of each shower: the target ``"source"`` of a
                `supa_datasets.ShowerStream` or of a loader.
            incident_energy: (S,) incident energies (GeV).

        Returns:
            (S, C) float32 conditions.

        Example:
            >>> import supa, torch
            >>> from supa_mamba import HitCoding
            >>> presets = ["standard", "symmetric"]
            >>> conditions = HitCoding.fit([supa.simulate(20, name, seed=1) for name in presets], ["preset"]).conditions
            >>> table = conditions.table(presets)  # once
            >>> conditions.from_table(table, torch.tensor([1, 0]), torch.tensor([65.0, 65.0]))
            tensor([[0., 0., 1.],
                    [0., 1., 0.]])
        """
        return torch.cat([self._of_energies(incident_energy), table.index_select(0, number)], 1)

    def _of_energies(self, incident_energy: Tensor) -> Tensor:
        logarithm = incident_energy.double().log()
        return ((logarithm - self.means[0]) / self.deviations[0]).float()[:, None]

    def _row(self, config: ShowerConfig) -> list[float]:
        scales = zip(_numerical(self.fields), self.means[1:], self.deviations[1:], strict=True)
        row = [(float(getattr(config, name)) - mean) / deviation for name, mean, deviation in scales]
        place = self._place(config)
        return row + [float(number == place) for number in range(self.num_indicators)]

    def _place(self, config: ShowerConfig) -> int:
        """Return the position of the training config that differs only in the incident energy and the fields."""
        differences = [_differences(config, other, self.fields) for other in self.configs]
        if [] in differences:
            return differences.index([])
        closest = min(differences, key=len)
        trained = ", ".join(_config_text(other) for other in self.configs)
        raise ValueError(
            f"config: {_config_text(config)} was given, but the training showers have {trained}; the closest one "
            f"differs in {', '.join(closest)}."
        )


def _check_names(config: ShowerConfig, fields: Sequence[str]) -> None:
    for name in _numerical(fields):
        value = getattr(config, name, None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            allowed = [key for key, of_key in vars(config).items() if type(of_key) in (int, float)]
            raise ValueError(
                f"fields: {name!r} was given, but it must be 'preset', or a numerical field of the config: "
                f"{', '.join(allowed)}."
            )


def _numerical(fields: Sequence[str]) -> list[str]:
    return [name for name in fields if name != PRESET]


def _differences(config: ShowerConfig, other: ShowerConfig, fields: Sequence[str]) -> list[str]:
    free = {"incident_energy", *fields}
    return [name for name, value in vars(config).items() if name not in free and value != getattr(other, name)]


def _energy_range(showers: Showers) -> tuple[float, float]:
    low, high = float(showers.incident_energy.min()), float(showers.incident_energy.max())
    first, last = min(showers.config.spectrum.values), max(showers.config.spectrum.values)
    # The config of imported showers may have another distribution.
    inside = not _outside(low, first, last) and not _outside(high, first, last)
    return (min(low, first), max(high, last)) if inside else (low, high)


def _outside(value: float, low: float, high: float) -> bool:
    return not low - _ROUNDING * abs(low) <= value <= high + _ROUNDING * abs(high)


def _range_text(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _config_text(config: ShowerConfig) -> str:
    name = preset_name(config)
    return "a custom config" if name is None else f"the preset {name!r}"

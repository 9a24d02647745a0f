"""Conditions of a generator: the incident energy and fields of the config."""

from collections.abc import Sequence

import torch
from torch import Tensor

from supa import ShowerConfig


def check_fields(config: ShowerConfig, fields: Sequence[str]) -> None:
    """Check the names of fields that are conditions.

    Args:
        config: Config of showers.
        fields: Names of fields.

    Raises:
        ValueError: If a name is not a numerical field.
    """
    for name in fields:
        value = getattr(config, name, None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            allowed = [key for key, of_key in vars(config).items() if type(of_key) in (int, float)]
            raise ValueError(
                f"fields: {name!r} was given, but it must be a numerical field of the config: {', '.join(allowed)}."
            )


def raw_conditions(config: ShowerConfig, incident_energy: Tensor, fields: Sequence[str]) -> Tensor:
    """Return the conditions of showers before the standardisation.

    Args:
        config: Config of the showers.
        incident_energy: (S,) incident energies (GeV).
        fields: Names of numerical fields of the config.

    Returns:
        (S, C) float64 logarithm of the incident energy, and the fields.
    """
    values = [incident_energy.double().log()]
    values += [torch.full_like(values[0], float(getattr(config, name))) for name in fields]
    return torch.stack(values, 1)

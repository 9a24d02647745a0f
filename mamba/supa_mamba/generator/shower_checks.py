"""Checks of the showers that a generator learns from."""

import numpy as np

from supa import Showers

_ENERGY_TOLERANCE = 1e-4
"""Largest difference between the energies of a shower and its incident energy, relative, for float32 energies."""


def check_showers(showers: Showers) -> None:
    """Check that a generator can learn from showers.

    Args:
        showers: The showers.

    Raises:
        ValueError: If the showers are a selection, slices or leaked energies are unknown, a hit has no energy, or
            energies do not add up.
    """
    if showers.run.keep != "all":
        raise ValueError(
            f"The showers are a selection (keep is {showers.run.keep!r}), but a generator learns all showers; simulate "
            "them with keep='all'."
        )
    if not showers.slices_known:
        raise ValueError("The slices of the hits are unknown, but a generator needs them; see supa.from_hits.")
    if np.isnan(showers.leaked_energy).any():
        raise ValueError("The leaked energy is unknown, but a generator needs it; pass leaked_energy to from_hits.")
    if len(showers.energy) and not showers.energy.min() > 0:
        raise ValueError("A hit has an energy of 0, but a generator needs energies above 0; remove such hits.")
    shower = np.repeat(np.arange(len(showers)), showers.num_hits)
    found = np.bincount(shower, showers.energy, len(showers)) + showers.leaked_energy
    wrong = np.flatnonzero(np.abs(found - showers.incident_energy) > _ENERGY_TOLERANCE * showers.incident_energy)
    if len(wrong):
        raise ValueError(
            f"The hits of shower {wrong[0]} and its leaked energy have {found[wrong[0]]:g} GeV, but the incident "
            f"energy is {showers.incident_energy[wrong[0]]:g} GeV. A generator needs showers whose energies add up."
        )

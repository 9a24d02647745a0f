"""How a sample of a generative model was refined, and with which true showers."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from supa.checks import check_int, format_value

RefinementMethod = Literal["weights", "rejection", "resampling"]
NO_BEST_OF_K = (
    "The best of k showers by a reward does not follow the distribution of true showers; resampling chooses one of k "
    "in the right proportions."
)


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """How showers of a generative model were refined. The config of the true showers is that of the sample.

    Args:
        by: ``"weights"``, ``"rejection"`` or ``"resampling"``.
        seed: Random seed of the refinement.
        sampled: Number of showers before the refinement.
        true_seed: Random seed of the true showers, or None if they have none.
        true_first: Smallest index of the true showers.
        true_last: Largest index of the true showers.

    Example:
        >>> from supa import Refinement
        >>> refinement = Refinement(by="rejection", seed=0, sampled=900, true_seed=1, true_first=0, true_last=999)
        >>> str(refinement)
        'rejection (seed 0) from 900 showers, with the true showers 0 to 999 of seed 1'
        >>> refinement.used(1, 500, 2000)
        True
    """

    by: RefinementMethod
    seed: int
    sampled: int
    true_seed: int | None
    true_first: int
    true_last: int

    def __str__(self) -> str:
        origin = "another program" if self.true_seed is None else f"seed {self.true_seed}"
        return (
            f"{self.by} (seed {self.seed}) from {self.sampled:,} showers, with the true showers {self.true_first:,} to "
            f"{self.true_last:,} of {origin}"
        )

    def used(self, seed: int | None, first: int, last: int) -> bool:
        """Return whether the refinement used any of some simulated showers of the same config.

        Args:
            seed: Random seed of the showers. None: nothing is known, and the result is False.
            first: Smallest index of the showers.
            last: Largest index of the showers.

        Returns:
            True if the ranges of indices overlap for the same seed.
        """
        overlap = max(first, self.true_first) <= min(last, self.true_last)
        return seed is not None and seed == self.true_seed and overlap

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON.

        Returns:
            Dictionary that ``from_dict`` accepts.
        """
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Any) -> "Refinement":
        """Return the refinement that ``to_dict`` describes.

        Args:
            values: Values by name.

        Returns:
            The refinement.

        Raises:
            ValueError: If a value is missing, unknown or invalid.
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(values, dict) or values.keys() != names or values["by"] not in get_args(RefinementMethod):
            raise ValueError(f"a refinement has invalid values: {format_value(values)}")
        for name in names - {"by"}:
            if (name, values[name]) != ("true_seed", None):
                check_int(0, 2**64 - 1, f"{name} of a refinement", values[name])
        return cls(**values)

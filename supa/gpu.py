"""Showers in the memory of a GPU."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from supa.checks import check_int, did_you_mean
from supa.config import ShowerConfig
from supa.engines import cuda
from supa.initial_conditions import EnergyLike
from supa.presets import ConfigLike
from supa.random import MAX_INDEX
from supa.simulation_plan import make_plan

Precision = Literal["float64", "float32"]


@dataclass(frozen=True)
class GpuShowers:
    """Consecutive showers in the memory of a GPU.

    All columns are one-dimensional arrays on the GPU. They implement DLPack, so ``torch.from_dlpack`` and the functions
    of the same name in CuPy and JAX turn them into arrays without a copy. The hits are ordered as in `Showers`: by
    shower, then by slice, then by creation. ``len(showers)`` is the number of showers.

    Args:
        config: Physics of the showers.
        seed: Random seed.
        first: Index of the first shower.
        incident_energy: (n,) float64, incident energy (GeV).
        leaked_energy: (n,) float64, energy that left the last slice (GeV).
        offset: (n + 1,) int64; the hits of shower k are ``offset[k]`` to ``offset[k + 1]`` (exclusive).
        x: (hits,) float64 or float32, x of each hit (length unit).
        y: (hits,) of the same type, y of each hit (length unit).
        energy: (hits,) of the same type, energy of each hit (GeV).
        slice: (hits,) uint8, slice of each hit.
        layer: (hits,) uint8, readout layer of each hit.
        primary: (hits,) uint8, number of the primary from which each hit descends.

    Example:
        >>> import supa
        >>> import torch
        >>> showers = supa.simulate_on_gpu(1000, seed=1)  # doctest: +SKIP
        >>> energy = torch.from_dlpack(showers.energy)  # doctest: +SKIP
    """

    config: ShowerConfig
    seed: int
    first: int
    incident_energy: Any
    leaked_energy: Any
    offset: Any
    x: Any
    y: Any
    energy: Any
    slice: Any
    layer: Any
    primary: Any

    def __len__(self) -> int:
        return len(self.incident_energy)

    def __repr__(self) -> str:
        return f"GpuShowers({len(self):,} showers, {len(self.x):,} hits, seed {self.seed}, first {self.first})"


def simulate_on_gpu(
    num_showers: int,
    config: ConfigLike = "standard",
    *,
    energy: EnergyLike | None = None,
    seed: int = 0,
    first: int = 0,
    precision: Precision = "float64",
) -> GpuShowers:
    """Simulate showers and leave them in the memory of the GPU.

    The showers equal those of `simulate` with the same config, seed and index, bit for bit (with
    ``precision="float32"``, after rounding).

    Args:
        num_showers: Number of showers, at least 1. A ``standard`` shower needs about 5 kB of GPU memory during the
            simulation and 2 kB afterwards.
        config: Name of a preset, or a `ShowerConfig`.
        energy: Incident energy in GeV, which replaces the one of the config, as in `simulate`.
        seed: Random seed from 0 to 2**64 - 1.
        first: Index of the first shower to simulate.
        precision: Type of the positions and energies of the hits. ``"float32"`` rounds the float64 values.

    Returns:
        The showers on the GPU. The simulation has finished when the function returns.

    Raises:
        ValueError: If an argument is not allowed, the extra ``cuda`` is not installed, or there is no usable GPU.
        MemoryError: If the showers do not fit into the memory of the GPU, or one shower has too many particles.

    Example:
        >>> import supa
        >>> import torch
        >>> showers = supa.simulate_on_gpu(1_000_000, "standard", seed=1, precision="float32")  # doctest: +SKIP
        >>> x = torch.from_dlpack(showers.x)  # doctest: +SKIP
        >>> x.device  # doctest: +SKIP
        device(type='cuda', index=0)
    """
    check_int(1, MAX_INDEX, "num_showers", num_showers)
    plan = make_plan(num_showers, config, energy, seed, first, "all", "hits", "cuda", None, None)
    if precision not in get_args(Precision):
        raise ValueError(
            f"precision: {precision!r} was given, but it must be 'float64' or 'float32'."
            f"{did_you_mean(precision, get_args(Precision))}"
        )
    gpu = cuda.open_gpu()
    walker = cuda.Walker(plan.config, plan.seed, False, False, gpu, single=precision == "float32")
    try:
        chunk = walker.walk(plan.first, plan.num_showers)
    except cuda.GpuMemoryError as error:
        raise MemoryError(
            f"num_showers: {plan.num_showers:,} was given, but {error}; simulate fewer at a time."
        ) from None
    if chunk.too_large >= 0:
        raise MemoryError(f"Shower {plan.first + chunk.too_large} has more than {cuda.MAX_PARTICLES:,} particles.")
    gpu.synchronize()
    return GpuShowers(
        config=plan.config,
        seed=plan.seed,
        first=plan.first,
        incident_energy=chunk.incident_energy,
        leaked_energy=chunk.leaked_energy,
        offset=chunk.hit_offset,
        **chunk.hits,
    )

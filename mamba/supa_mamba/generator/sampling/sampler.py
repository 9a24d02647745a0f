"""Showers from a generator: thousands at once, each a function of the model, the seed and its index."""

import copy
import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from supa import Run, ShowerConfig, Showers
from supa.checks import check_int, did_you_mean
from supa.initial_conditions import EnergyLike
from supa.presets import ConfigLike, as_config
from supa.random import MAX_INDEX, MAX_SEED
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.cpu_batches import pieces_on_cpu
from supa_mamba.generator.sampling.gpu_batches import pieces_on_gpu
from supa_mamba.generator.sampling.speculation.batches import speculative_pieces
from supa_mamba.generator.sampling.speculation.drafts import (
    DRAFTS,
    Draft,
    check_draft,
    draft_without_layers,
)
from supa_mamba.generator.sampling.speculation.length import MOST_DRAFTED, chosen_length
from supa_mamba.generator.sampling.speculation.table import DraftTable
from supa_mamba.modules.tensor_parallel import SummedLinear

BATCH_SIZES = {"cpu": 1024, "cuda": 4096}
"""Default number of showers that are sampled at the same time, by device."""

_MOST_SLOTS = 1 << 20

DRAFT_SHOWERS = 256
_DRAFT_SEED = 0x5851F42D4C957F2D
"""Arbitrary constant, which separates the showers to which a draft is fitted from those of a sample."""


def sample_showers(
    model: ShowerGenerator,
    config: ConfigLike,
    num_showers: int,
    *,
    seed: int,
    first: int = 0,
    energy: EnergyLike | None = None,
    batch_size: int | None = None,
    draft: Draft | str | None = None,
    draft_length: int | None = None,
) -> Showers:
    """Sample showers from a generator.

    Args:
        model: The generator, on the CPU or on a GPU, where its showers are sampled.
        config: Name of a preset, or config, of the training showers. It determines the readout layers and the
            distribution of the incident energy.
        num_showers: Number of showers.
        seed: Random seed from 0 to 2**64 - 1. The incident energies are those of a simulation with the same seed.
        first: Index of the first shower.
        energy: Distribution of the incident energy, by default that of the config; see `supa.EnergySpectrum`.
        batch_size: Number of showers that are sampled at the same time, by default 1,024 on a CPU and 4,096 on a GPU.
            It does not change the showers.
        draft: What proposes several hits at once, which the model then checks together: a smaller generator with the
            same coding; ``"skip-layers"``, the model without half of its layers; or ``"table"``, a law of the next hit
            for each slice. The distribution of the showers is that of the model. Single showers are other ones than
            without a draft.
        draft_length: Number of hits that the draft proposes at once, by default the one with the most hits per second
            in a short measurement. It changes no shower on a CPU, and at most their last bits on a GPU.

    Returns:
        The showers, in the order of their indices. Each has one primary along the axis, to which all hits belong.

    Raises:
        ValueError: If an argument is out of range, the model is on another device or was not trained on such showers,
            an energy is outside the training energies, or the draft does not fit the model.
        MemoryError: If the states of the showers do not fit into the memory.

    Example:
        >>> import supa
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator, sample_showers
        >>> showers = supa.simulate(20, "critical", seed=1)
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), HitCoding.fit(showers))  # untrained
        >>> sample = sample_showers(model, "critical", 10, seed=1)
        >>> len(sample), bool((sample.incident_energy == showers.incident_energy[:10]).all())
        (10, True)
    """
    pieces = sample_stream(
        model, config, num_showers, seed=seed, first=first, energy=energy, batch_size=batch_size, draft=draft,
        draft_length=draft_length,
    )  # fmt: skip
    return Showers.concatenate(pieces)


def sample_stream(
    model: ShowerGenerator,
    config: ConfigLike,
    num_showers: int,
    *,
    seed: int,
    first: int = 0,
    energy: EnergyLike | None = None,
    batch_size: int | None = None,
    draft: Draft | str | None = None,
    draft_length: int | None = None,
) -> Iterator[Showers]:
    """Sample showers piece by piece, with bounded memory.

    Args:
        model: See `sample_showers`.
        config: See `sample_showers`.
        num_showers: See `sample_showers`.
        seed: See `sample_showers`.
        first: See `sample_showers`.
        energy: See `sample_showers`.
        batch_size: See `sample_showers`.
        draft: See `sample_showers`.
        draft_length: See `sample_showers`.

    Returns:
        Iterator over pieces in the order of the indices, at least one.

    Raises:
        ValueError: See `sample_showers`.

    Example:
        >>> import supa
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator, sample_stream
        >>> showers = supa.simulate(20, "critical", seed=1)
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), HitCoding.fit(showers))  # untrained
        >>> sum(len(piece) for piece in sample_stream(model, "critical", 300, seed=1))
        300
    """
    physics = as_config(config)
    if energy is not None:
        physics = physics.replace(incident_energy=energy)
    seed = check_int(0, MAX_SEED, "seed", seed)
    num_showers = check_int(0, MAX_INDEX, "num_showers", num_showers)
    first = check_int(0, MAX_INDEX - num_showers, "first", first, "(2**56 - 1 - num_showers)")
    device = check_model(model)
    batch_size = BATCH_SIZES[device] if batch_size is None else check_int(1, _MOST_SLOTS, "batch_size", batch_size)
    slots = min(batch_size, max(num_showers, 1))
    model.coding.conditions.check(physics, torch.tensor(physics.spectrum.values))
    if draft_length is not None:
        draft_length = check_int(1, MOST_DRAFTED, "draft_length", draft_length)
        if draft is None:
            raise ValueError("draft_length: it was given without a draft; pass draft, too, or leave it out.")
    proposing = None if draft is None else new_draft(model, physics, draft)
    name = model_name(model) if proposing is None else f"{model_name(model)} with draft {draft_name(proposing)}"
    run = Run(config=physics, seed=seed, first=first, engine="imported", keep="all", attempts=None, model=name)
    if proposing is None:
        pieces = pieces_on_cpu if device == "cpu" else pieces_on_gpu
        return pieces(model, run, seed, num_showers, slots)
    length = measured_length(model, physics, proposing, slots) if draft_length is None else draft_length
    return speculative_pieces(model, run, seed, num_showers, slots, proposing, length)


def measured_length(model: ShowerGenerator, config: ShowerConfig, draft: Draft, slots: int) -> int:
    """Choose the number of drafted hits of a round by a measurement; see `chosen_length`.

    Args:
        model: The generator.
        config: Config of the showers.
        draft: The draft.
        slots: Number of showers that are sampled at the same time.

    Returns:
        The number.
    """
    run = Run(config=config, seed=0, first=0, engine="imported", keep="all", attempts=None, model="")
    return chosen_length(model, draft, run, slots)


def new_draft(model: ShowerGenerator, config: ConfigLike, draft: Draft | str) -> Draft:
    """Return a draft that can be used for several samples.

    Args:
        model: The generator.
        config: Name of a preset, or config, of the showers.
        draft: The draft; see `sample_showers`.

    Returns:
        The draft. A table, and the layers that are skipped, depend only on the model and the config: they are chosen
        with 256 showers that are sampled from the model.

    Raises:
        ValueError: If the draft is unknown or does not fit the model.
    """
    if isinstance(draft, DraftTable):
        return draft
    if isinstance(draft, ShowerGenerator):
        check_model(draft)
        check_draft(model, draft)
        return draft
    if draft not in DRAFTS:
        raise ValueError(
            f"draft: {draft!r} was given, but it must be a generator or one of {', '.join(DRAFTS)}."
            f"{did_you_mean(draft, DRAFTS)}"
        )
    on_cpu = copy.deepcopy(model).float().cpu()
    layers = len(on_cpu.stack.layers)
    if draft == "skip-layers" and layers < 2:
        raise ValueError("draft: the model has one layer, so none can be skipped; use the draft table.")
    batch = on_cpu.coding.encode(sample_showers(on_cpu, config, DRAFT_SHOWERS, seed=_DRAFT_SEED))
    return DraftTable.fitted(batch) if draft == "table" else draft_without_layers(model, on_cpu, batch)


def check_model(model: ShowerGenerator) -> str:
    """Check that showers can be sampled from a model.

    Args:
        model: The generator.

    Returns:
        Kind of its device, ``"cpu"`` or ``"cuda"``.

    Raises:
        ValueError: If the model is on another device or on several, is divided over processes on a CPU, or its weights
            are not finite.
    """
    devices = {weights.device for weights in model.parameters()}
    device = next(iter(devices))
    if len(devices) > 1 or device.type not in BATCH_SIZES:
        names = ", ".join(sorted(map(str, devices)))
        raise ValueError(f"model: it is on {names}, but it must be on the CPU or on one GPU; pass model.cpu().")
    if device.type == "cpu" and any(isinstance(module, SummedLinear) for module in model.modules()):
        raise ValueError(
            "model: its layers are divided over processes, so it is sampled on GPUs only; use the model before "
            "tensor_parallel."
        )
    for name, weights in model.named_parameters():
        if not weights.isfinite().all():
            raise ValueError(f"model: {name} has values that are not finite; the training has diverged.")
    return device.type


def model_name(model: ShowerGenerator) -> str:
    """Return a name that identifies a generator in a shower file.

    Args:
        model: The generator.

    Returns:
        Kind and sizes of the model, a checksum of its coding and its weights in float32, and what is rounded to
        integers of 8 bits.
    """
    config, checksum = model.config, _checksum(model.coding.to_json(), model.state_dict())
    rounded = "" if model.int8 is None else f" int8 {model.int8}"
    return f"ShowerGenerator {config.model} {config.n_layer}x{config.d_model} sha256:{checksum}{rounded}"


def draft_name(draft: Draft) -> str:
    """Return a name that identifies a draft in a shower file.

    Args:
        draft: The draft.

    Returns:
        Name of a generator, or a checksum of a table.
    """
    if isinstance(draft, ShowerGenerator):
        return model_name(draft)
    return f"table sha256:{_checksum('', {'energy': draft.energy, 'position': draft.position})}"


def _checksum(coding: str, weights: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(coding.encode())
    for name, values in weights.items():
        found.update(name.encode())
        found.update(values.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]

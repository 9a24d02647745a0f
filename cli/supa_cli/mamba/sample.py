"""``supa mamba sample``: sample showers from a generator into a file."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import did_you_mean
from supa_cli.file_run import (
    FileRun,
    check_existing_file_options,
    check_not_an_input,
    compression_option,
    existing_file_options,
    first_option,
    threads_option,
)
from supa_cli.options import Choice, Count, InputFile, OutputFile, PresetName, changed_config, chosen_config
from supa_cli.training.options import DEVICE, device_of, require_packages

if TYPE_CHECKING:
    from supa import ShowerConfig, Showers
    from supa_cli.summary import ChunkSums
    from supa_mamba import GeneratorCheckpoint, ShowerGenerator
    from supa_mamba.modules.int8 import Int8


@click.command(name="sample")
@click.argument("checkpoint", type=InputFile())
@click.argument("out", type=OutputFile())
@click.option("-n", "--num-showers", type=Count(1), required=True, help="Number of showers to write, such as 1e5.")
@click.option(
    "--energy",
    metavar="GEV",
    help="Incident energy in GeV: fixed (65), uniform (1:100), log-uniform (log:1:100), or one of a list (10,20,50).  "
    "[default: that of the training showers]",
)
@click.option(
    "--preset", type=PresetName(), help="Preset of the showers, if the training showers have several configs."
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False),
    help="Config of the showers as a .toml or .json file, if the training showers have several configs.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a constant of the config that is a condition of the model, such as split_late=0.3. Can be repeated.",
)
@click.option(
    "--seed", type=Count(0), default=0, show_default=True, help="Random seed. Model, seed and index define a shower."
)
@first_option
@click.option(
    "--batch-size",
    type=Count(1),
    help="Number of showers that are sampled at the same time. It does not change the showers.  "
    "[default: 1024 on a CPU, 4096 on a GPU]",
)
@click.option(
    "--draft",
    metavar="DRAFT",
    help="Speculative sampling: what proposes several hits at once, which the model checks together. A checkpoint of a "
    "smaller generator that was trained on the same showers; skip-layers, the model without half of its layers; or "
    "table, a law of the next hit for each slice. The distribution of the showers is that of the model.  "
    "[default: no draft]",
)
@click.option(
    "--draft-length",
    metavar="N",
    help="Number of hits that the draft proposes at once, or auto to measure which is fastest. On a CPU it does not "
    "change the showers; on a GPU it can change their last bits.  [default: auto]",
)
@click.option(
    "--int8",
    type=Choice(["weights", "weights-and-activations"]),
    help="Round the projections and MLPs of the layers to integers of 8 bits. With activations, too, integers are "
    "multiplied. This changes the showers a little; OUT names it.  [default: float32]",
)
@DEVICE
@threads_option
@compression_option
@existing_file_options
def command(
    checkpoint: str,
    out: str,
    num_showers: int,
    energy: str | None,
    preset: str | None,
    config_file: str | None,
    changes: tuple[str, ...],
    seed: int,
    first: int,
    batch_size: int | None,
    draft: str | None,
    draft_length: str | None,
    int8: "Int8 | None",
    device: str,
    threads: int | None,
    compression: Any,
    overwrite: bool,
    resume: bool,
    quiet: bool,
) -> None:
    """Sample showers from the generator CHECKPOINT into the HDF5 file OUT.

    OUT is an ordinary shower file, which names the model. It appears only when it is complete. An interrupted run
    leaves OUT.partial. To complete it, repeat the command with --resume. The result is identical to that of an
    uninterrupted run.

    Example: supa mamba sample generator.ckpt sample.h5 -n 1e4 --energy log:1:100
    """
    check_existing_file_options(overwrite=overwrite, resume=resume)
    from supa_cli.suffixes import check_hdf5_ending

    check_not_an_input(Path(out), (checkpoint, draft, config_file))
    check_hdf5_ending(out, f"`supa mamba sample {checkpoint} {{}}` with your options", quiet=quiet)
    require_packages("torch")
    import torch

    from supa.simulation_plan import available_processors
    from supa_cli.summary import chunk_sums
    from supa_mamba import GeneratorCheckpoint, int8_generator, sample_showers, sample_stream
    from supa_mamba.generator.sampling.sampler import BATCH_SIZES

    torch.set_num_threads(threads or available_processors())
    started = time.perf_counter()
    stored = GeneratorCheckpoint.load(Path(checkpoint))
    model = stored.model().to(device_of(device))
    if int8 is not None:
        model = int8_generator(model, int8)
    config = changed_config(_config(stored, preset, config_file, energy), changes, energy)
    options: dict[str, Any] = {"seed": seed, "batch_size": batch_size}
    length = _draft_length(draft, draft_length)
    try:
        none = sample_showers(model, config, 0, first=first, **options)
    except ValueError as error:
        hint = " Choose an energy with --energy." if energy is None and "incident_energy" in str(error) else ""
        raise click.UsageError(f"{error}{hint}") from None

    if draft is not None:
        slots = min(batch_size or BATCH_SIZES[model.inputs.weight.device.type], num_showers)
        options |= _draft_options(model, config, draft, length, slots)
        none = sample_showers(model, config, 0, first=first, **options)

    def make(count: int, begin: int) -> "Iterator[tuple[Showers, ChunkSums]]":
        for showers in sample_stream(model, config, count, first=begin, **options):
            yield showers, chunk_sums(showers)

    FileRun(
        path=Path(out),
        run=none.run,
        num_showers=num_showers,
        compression=compression,
        threads=threads,
        overwrite=overwrite,
        resume=resume,
        quiet=quiet,
    ).write(
        make, started=started, doing="sampling", starting="compiling",
        prepare=lambda: chunk_sums(sample_showers(model, config, 1, **options)),
    )  # fmt: skip


def _draft_length(draft: str | None, given: str | None) -> int | None:
    """Return the number of drafted hits, or None if it is measured."""
    if given is None:
        return None
    if draft is None:
        raise click.UsageError("--draft-length: there is no draft; add --draft, or leave it out.")
    if given == "auto":
        return None
    try:
        return Count(1).convert(given, None, None)
    except click.BadParameter:
        raise click.UsageError(
            f"--draft-length: {given!r} was given, but it must be a whole number of at least 1, or auto."
        ) from None


def _draft_options(
    model: "ShowerGenerator",
    config: "ShowerConfig",
    draft: str,
    length: int | None,
    slots: int,
) -> "dict[str, Any]":
    """Return the draft and the number of drafted hits, which are found once for all pieces of the sample."""
    from supa_mamba import GeneratorCheckpoint
    from supa_mamba.generator.sampling.sampler import measured_length, new_draft
    from supa_mamba.generator.sampling.speculation.drafts import DRAFTS

    proposing: Any = draft
    if draft not in DRAFTS:
        if not Path(draft).is_file():
            raise click.UsageError(
                f"--draft: {draft} is neither a checkpoint nor one of {', '.join(DRAFTS)}.{did_you_mean(draft, DRAFTS)}"
            )
        proposing = GeneratorCheckpoint.load(Path(draft)).model()
    try:
        proposing = new_draft(model, config, proposing)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    return {"draft": proposing, "draft_length": length or measured_length(model, config, proposing, slots)}


def _config(
    checkpoint: "GeneratorCheckpoint", preset: str | None, config_file: str | None, energy: str | None
) -> "ShowerConfig":
    """Return the config of the training showers, or the one that an option names."""
    from supa import preset_name

    def without_energy(config: "ShowerConfig") -> "ShowerConfig":
        return config.replace(incident_energy=1.0)

    trained: list[ShowerConfig] = list(dict.fromkeys(checkpoint.shower_configs))
    chosen = chosen_config(preset, config_file)
    if chosen is not None:
        # The training may have had another distribution of the energy, which is the default.
        alike = [config for config in trained if without_energy(config) == without_energy(chosen)]
        if not alike:
            return chosen
        trained = alike
    if len({without_energy(config) for config in trained}) > 1:
        names = ", ".join(preset_name(config) or "custom" for config in trained)
        raise click.UsageError(f"The model was trained on showers of {names}; choose one with --preset or --config.")
    if len(trained) > 1 and energy is None:
        energies = ", ".join(str(config.spectrum) for config in trained)
        raise click.UsageError(f"The training showers have the energies {energies} GeV; choose one with --energy.")
    return trained[0]

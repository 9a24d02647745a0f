"""Atomic conversion of a file in pieces of bounded memory."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Literal

from supa import Grid, Showers
from supa.atomic_file import reserve, resolve_target
from supa.checks import counted, did_you_mean
from supa.presets import ConfigLike, as_config
from supa_datasets.conversion.formats import Choices, Reader, Source, Writer
from supa_datasets.conversion.registry import source_format, target_format
from supa_datasets.conversion.untrusted_input import named_errors


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    from_format: str | None = None,
    to_format: str | None = None,
    config: ConfigLike | None = None,
    depth: Literal["layer", "slice"] | None = None,
    binning: Grid | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> int:
    """Convert a file of showers to another format.

    The target appears under its name only when it is complete. Until then it is called ``NAME.partial``, which is
    removed if the conversion fails. The page *Convert files between formats* of the documentation lists the contents of
    each format.

    Args:
        source: Path of the file to read, or of a folder of shards.
        target: Path of the file to create; its folder must exist.
        from_format: Name of the source format, out of ``FORMATS``; by default recognised by file extension and
            contents.
        to_format: Name of the target format, out of ``FORMATS``; by default recognised by file extension.
        config: Physics of the showers for source files that do not store it: the name of a preset or a
            `supa.ShowerConfig`. The default is ``"standard"``, or ``"reference"`` for files of the reference code.
        depth: Meaning of the depth of a showerdata point or of a CaloChallenge layer: ``"slice"`` or ``"layer"``. The
            default is ``"slice"`` for showerdata, and the depth that fits the binning for CaloChallenge.
        binning: Cells of CaloChallenge voxels as a `supa.Grid`, see `read_binning`.
        overwrite: Whether to replace an existing file.
        progress: Function that is called with the number of converted showers and the total number.
        note: Function that is called with each message about assumptions and losses.

    Returns:
        Number of showers written.

    Raises:
        FileNotFoundError: If the source or the folder of the target does not exist.
        FileExistsError: If the target exists and ``overwrite`` is False.
        ValueError: If a format is not recognised, the source is damaged, or the target format cannot store its showers.
        OSError: If the target cannot be written.

    Example:
        >>> import supa
        >>> from supa_datasets import convert, load, save
        >>> save(supa.simulate(100, "standard", seed=1), "showers.h5")
        >>> convert("showers.h5", "showers.npz")
        100
        >>> convert("showers.h5", "images.h5", to_format="calogan", note=print)
        CaloGAN files store the energy in the cells of each layer, but not the hits, slices or primaries.
        100
        >>> convert("showers.npz", "again.h5")
        100
        >>> load("again.h5") == load("showers.h5")
        True
    """
    source, target = Path(source), Path(target)
    if depth not in (None, "layer", "slice"):
        raise ValueError(
            f"depth: {depth!r} was given, but it must be 'layer' or 'slice'.{did_you_mean(depth, ('layer', 'slice'))}"
        )
    if not source.is_file() and not source.is_dir():
        if source.exists():
            raise ValueError(f"{source}: it is not a regular file.")
        raise FileNotFoundError(f"{source}: there is no such file.")
    from_ = source_format(source, from_format)
    to = target_format(target, to_format, from_)
    if from_.reader is None or to.writer is None:
        raise ValueError(f"Files of the format {from_.name!r} cannot be read.")
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target}: the target is the source file; choose another name for the target.")
    choices = Choices(None if config is None else as_config(config), depth, binning, note or _silent)
    with _reserved(source, target, overwrite) as partial:
        return _run(from_.reader, source, to.writer, partial, target, choices, progress)


def _run(
    reader: Reader,
    source: Path,
    writer: Writer,
    partial: Path,
    target: Path,
    choices: Choices,
    progress: Callable[[int, int], None] | None,
) -> int:
    done = 0

    def watched(showers: Source) -> Iterator[Showers]:
        nonlocal done
        if progress is not None:
            progress(0, showers.total)
        chunks = iter(showers.chunks)
        while True:
            try:
                with named_errors(source):
                    chunk = next(chunks, None)
            except ValueError as error:
                raise _UnreadableError(str(error)) from None
            if chunk is None:
                break
            yield chunk
            done += len(chunk)
            if progress is not None:
                progress(done, showers.total)
        if done != showers.total:
            raise _UnreadableError(f"{source}: it claims {counted(showers.total, 'shower')}, but contains {done:,}.")

    with ExitStack() as stack:
        with named_errors(source):
            showers = stack.enter_context(reader(source, choices))
        try:
            writer(partial, replace(showers, chunks=watched(showers)), choices)
        except _UnreadableError as error:
            raise ValueError(str(error)) from None
        except ValueError as error:
            raise ValueError(f"{target}: {str(error).rstrip('.')}.") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
            raise OSError(f"{target}: the file cannot be written ({reason}).") from None
    return done


class _UnreadableError(ValueError):
    """Raised if the source is damaged. All other errors during the conversion concern the target."""


@contextmanager
def _reserved(source: Path, target: Path, overwrite: bool) -> Iterator[Path]:
    """Reserve the temporary name of the target, and rename the complete file at the end."""
    target = resolve_target(target)
    partial = target.with_name(f"{target.name}.partial")
    if partial.exists() and not partial.is_symlink() and partial.samefile(source):
        raise ValueError(f"{target}: its temporary name {partial.name} is that of the source file; rename one of them.")
    for there in (target, partial):
        if there.exists() and not overwrite:
            raise FileExistsError(
                f"{there} exists; choose another name or overwrite it (--overwrite; in Python overwrite=True)."
            )
    with reserve(target, partial):
        yield partial


def _silent(_sentence: str) -> None:
    """Ignore a note."""

"""The conversion of a file: atomic, in pieces of bounded memory."""

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

    The file appears under its name only when it is whole; ``NAME.partial`` is there meanwhile, and is removed on any
    failure. ``docs/how_to/convert.md`` lists what each format keeps.

    Args:
        source: the file to read.
        target: the file to make; its folder must exist.
        from_format: a name in ``FORMATS``; by default recognised by the file's suffix and contents.
        to_format: a name in ``FORMATS``; by default recognised by the file's suffix.
        config: the physics of showers whose file does not store it: a preset's name or a config; by default
            ``"standard"``, and ``"reference"`` for the reference code's files.
        depth: whether a depth number or a voxel layer is the slice or the readout layer; by default the slice for
            showerdata, and what fits for CaloChallenge.
        binning: the cells of CaloChallenge voxels, see ``read_binning``.
        overwrite: replace a file of this name.
        progress: called with the number of showers done and of all, first with 0.
        note: called with each sentence on what is assumed or lost.

    Returns:
        The number of showers that were written.

    Raises:
        FileNotFoundError: the source or the target's folder is not there.
        FileExistsError: the target is there, and overwrite was not asked for.
        ValueError: a format is not recognised, the source is damaged, or the target cannot hold its showers.
        OSError: the disk does not take the file.
    """
    source, target = Path(source), Path(target)
    if depth not in (None, "layer", "slice"):
        raise ValueError(
            f"depth: {depth!r} was given, but it must be 'layer' or 'slice'.{did_you_mean(depth, ('layer', 'slice'))}"
        )
    if not source.is_file():
        if source.exists():
            raise ValueError(f"{source}: it is not a regular file.")
        raise FileNotFoundError(f"{source}: there is no such file.")
    from_ = source_format(source, from_format)
    to = target_format(target, to_format, from_)
    if from_.reader is None or to.writer is None:
        raise ValueError(f"Files of the format {from_.name!r} are not read.")
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target}: it is the file to read; give another name to the file to write.")
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
            raise _UnreadableError(f"{source}: it claims {counted(showers.total, 'shower')}, but holds {done:,}.")

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
            raise OSError(f"{target}: the disk does not take the file ({reason}).") from None
    return done


class _UnreadableError(ValueError):
    """The source is damaged; everything else that fails while writing is the target's."""


@contextmanager
def _reserved(source: Path, target: Path, overwrite: bool) -> Iterator[Path]:
    """Reserve the name under which the file is written; then give the file its own name."""
    target = resolve_target(target)
    partial = target.with_name(f"{target.name}.partial")
    if partial.exists() and not partial.is_symlink() and partial.samefile(source):
        raise ValueError(
            f"{target}: it would be made under the name of the file to read, {partial.name}; rename one of them."
        )
    for there in (target, partial):
        if there.exists() and not overwrite:
            raise FileExistsError(
                f"{there} exists; choose another name, or overwrite it (--overwrite; in Python overwrite=True)."
            )
    with reserve(target, partial):
        yield partial


def _silent(_sentence: str) -> None:
    """Ignore a note."""

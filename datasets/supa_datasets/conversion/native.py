"""Shower files of this package (``docs/reference/file_format.md``) as source and target of conversions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.untrusted_input import spans
from supa_datasets.hdf5 import ShowerFile
from supa_datasets.writer import ShowerWriter


@contextmanager
def _read(path: Path, choices: Choices) -> Iterator[Source]:
    with ShowerFile(path) as file:
        choices.config_for(file.run.config)
        total, hits = len(file), int(file.num_hits.sum())
        yield Source(file.run, total, file.has_particles, (file[a:b] for a, b in spans(total, hits)))


def _write(path: Path, source: Source, choices: Choices) -> None:
    # The writer adds up the attempts of all pieces, but only their total is known: the first piece carries it.
    attempts = source.run.attempts
    try:
        with ShowerWriter(path, source.run, has_particles=source.has_particles, overwrite=True) as writer:
            for showers in source.chunks:
                writer.append(replace(showers, run=replace(source.run, attempts=attempts)))
                attempts = None if attempts is None else 0
    except BaseException:
        path.with_name(f"{path.name}.partial").unlink(missing_ok=True)
        raise


NATIVE = Format(
    "supa",
    "the shower files of this package",
    _read,
    _write,
    datasets=("showers/offset", "hits/x"),
)

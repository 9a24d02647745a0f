"""Writing the showers of a run into a file: options, progress, interruption, resume and summary."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from supa.checks import counted
from supa_cli.append_thread import appending
from supa_cli.options import Choice, Count
from supa_cli.progress import progress
from supa_cli.signals import deferred_interrupts, interruptible, mark_output_complete, raise_if_interrupted
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from supa import Run, Showers
    from supa_cli.summary import ChunkSums

Command = TypeVar("Command", bound=Callable[..., Any])


first_option = click.option("--first", type=Count(0), default=0, show_default=True, help="Index of the first shower.")
threads_option = click.option("--threads", type=Count(1), help="Number of threads.  [default: number of processors]")
compression_option = click.option(
    "--compression",
    type=Choice(["none", "lz4", "zstd", "gzip"]),
    default="none",
    show_default=True,
    help="Compression of the file; lz4 and zstd need the package hdf5plugin.",
)


def existing_file_options(command: Command) -> Command:
    """Add the options --overwrite, --resume and --quiet.

    Args:
        command: Function of a command.

    Returns:
        The function with the options.
    """
    for option in (
        click.option("--quiet", is_flag=True, help="Print only errors."),
        click.option("--resume", is_flag=True, help="Resume an interrupted run, or append showers to a finished file."),
        click.option("--overwrite", is_flag=True, help="Replace an existing file."),
    ):
        command = option(command)
    return command


def check_existing_file_options(*, overwrite: bool, resume: bool) -> None:
    """Check that at most one of --overwrite and --resume was given.

    Args:
        overwrite: Whether an existing file is replaced.
        resume: Whether an existing file is continued.

    Raises:
        click.UsageError: If both were given.
    """
    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume cannot be used together; choose one.")


def check_not_an_input(out: Path, inputs: Iterable[str | None]) -> None:
    """Check that a command does not replace a file that it reads.

    Args:
        out: File to write.
        inputs: Files and folders to read. None, and names that are no files, are ignored.

    Raises:
        click.UsageError: If the output is one of the files, or in one of the folders.
    """
    if not out.exists():
        return
    for name in inputs:
        source = None if name is None else Path(name)
        if source is None or not source.exists():
            continue
        if out.samefile(source) or (source.is_dir() and source.resolve() in out.resolve().parents):
            raise click.UsageError(f"{out}: this command reads {source}, and would replace it; choose another name.")


@dataclass(frozen=True, kw_only=True)
class FileRun:
    """A file of showers to write.

    Args:
        path: Path of the file.
        run: Origin of the showers.
        num_showers: Number of showers of the file.
        has_particles: Whether the particles of the trees are written.
        compression: Compression of the file.
        threads: Number of threads that compress, or None for one per processor.
        overwrite: Whether to replace an existing file.
        resume: Whether to continue an existing file.
        quiet: Whether to print nothing.
    """

    path: Path
    run: "Run"
    num_showers: int
    has_particles: bool = False
    compression: Any = "none"
    threads: int | None = None
    overwrite: bool
    resume: bool
    quiet: bool

    def write(
        self,
        make: "Callable[[int, int], Iterator[tuple[Showers, ChunkSums]]]",
        *,
        started: float,
        doing: str,
        starting: str,
        prepare: Callable[[], object],
    ) -> None:
        """Write the showers that are missing, and print a summary.

        Args:
            make: Function of a number of showers and the first index that returns them piece by piece, with their sums.
            started: Time at which the command started, from ``time.perf_counter``.
            doing: Description of the work, in one word.
            starting: Description until ``prepare`` has returned.
            prepare: Function that compiles what the work needs.

        Raises:
            click.UsageError: If the file has more showers than requested.
            ValueError: If the file belongs to another run.
        """
        from supa_cli.summary import Summary, chunk_sums
        from supa_datasets import ResumeInfo, ShowerWriter, resumable

        path, total = self.path, self.num_showers
        stored = ResumeInfo(0, False)
        if self.resume:
            stored = resumable(path, self.run, has_particles=self.has_particles)
        if stored.showers > total:
            raise click.UsageError(
                f"{path} already contains {counted(stored.showers, 'shower')}, more than the {total:,} requested."
            )
        if stored == ResumeInfo(total, True):
            if not self.quiet:
                echo(f"{path} already contains {counted(total, 'shower')} of this run.")
            return
        summary = Summary(self.run)

        def add_existing(showers: "Showers") -> None:
            raise_if_interrupted()
            summary.add(chunk_sums(showers))

        with deferred_interrupts(self._left):
            with ShowerWriter(
                path,
                self.run,
                has_particles=self.has_particles,
                compression=self.compression,
                threads=self.threads,
                overwrite=self.overwrite,
                resume=self.resume,
                on_existing=add_existing,
            ) as writer:
                done = resumed = writer.num_showers
                with progress(doing, starting, quiet=self.quiet) as report:
                    report(resumed, total)
                    prepare()
                    start = time.perf_counter() - started
                    report(resumed, total)
                    results = make(total - resumed, writer.next_attempt)
                    with appending(writer) as append:
                        for showers, sums in interruptible(results):
                            append(showers)
                            summary.add(sums)
                            done += len(showers)
                            report(done, total)
                            del showers, sums  # their memory can be used again
                if done < total:
                    raise RuntimeError(f"only {done:,} of {total:,} showers were made; please report this fault.")
            mark_output_complete()
        if not self.quiet:
            seconds = time.perf_counter() - started
            summary.print(path, made=total - resumed, seconds=seconds, start=start)

    def _left(self) -> str:
        partial = Path(f"{self.path}.partial")
        return f"The finished showers are in {partial}; resume with the same command and --resume." * partial.exists()

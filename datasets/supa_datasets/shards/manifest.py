"""The manifest of a dataset in shards: the run, and the range and the checksum of each file."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from supa import Run, ShowerConfig
from supa.atomic_file import atomic_write
from supa.checks import check_int, counted, format_value
from supa.random import MAX_INDEX, MAX_SEED
from supa.serialise import Config
from supa.texts import printable, read_json
from supa_datasets.compression import Compression

MANIFEST = "manifest.json"
VERSION = 1
MAX_SHARDS = 100_000
"""Maximum number of shards. Five digits number the files, and the manifest stays below 30 MB."""

_MOST_NAMED = 5  # in an error message


def _count(name: str, value: object) -> int:
    return check_int(0, MAX_INDEX, name, value)


def _seed(name: str, value: object) -> int:
    return check_int(0, MAX_SEED, name, value)


def _file_name(name: str, value: object) -> str:
    """Return a name that cannot lead out of the folder of the manifest."""
    path = PurePosixPath(value) if isinstance(value, str) else PurePosixPath("..")
    if path.is_absolute() or ".." in path.parts or "\x00" in str(path) or path.suffix != ".h5":
        raise ValueError(f"{name}: {format_value(value)} was given, but it must be a name of a .h5 file in the folder.")
    return str(path)


Count = Annotated[int, _count]


@dataclass(frozen=True)
class Shard(Config):
    """One file of a dataset.

    Args:
        file: Name of the file, relative to the folder of the manifest.
        first: Index of the first shower.
        count: Number of showers.
        hits: Number of hits; None until the file is finished, like the next two.
        bytes: Size of the file.
        checksum: Checksum of its columns, see ``shards.checksum``.
    """

    file: Annotated[str, _file_name]
    first: Count
    count: Count
    hits: int | None = None
    bytes: int | None = None
    checksum: str | None = None

    @property
    def indices(self) -> str:
        """The range of indices in words."""
        return f"{self.first} to {self.first + self.count - 1}"


@dataclass(frozen=True)
class Manifest(Config):
    """A dataset in shards. All showers are kept, so each range of indices has a known number of showers.

    Args:
        format: Name of the format.
        version: Version of the format.
        config: Physics of the showers.
        seed: Random seed.
        first: Index of the first shower.
        num_showers: Number of showers.
        engine: Random numbers, as in ``Run.engine``.
        record: ``"hits"`` or ``"particles"``.
        compression: Name of the compression.
        hash: Hash function of the checksums.
        shards: The files in the order of their showers.

    Raises:
        ValueError: If the ranges of the shards are not those of the dataset, or two shards have the same file.
    """

    config: ShowerConfig
    seed: Annotated[int, _seed]
    first: Count
    num_showers: Count
    engine: Literal["cpu"]
    record: Literal["hits", "particles"]
    compression: Compression
    shards: tuple[Shard, ...]
    hash: Literal["sha256"] = "sha256"
    format: Literal["supa-shards"] = "supa-shards"
    version: int = VERSION

    def __post_init__(self) -> None:
        super().__post_init__()
        expected, files = self.first, set()
        for shard in self.shards:
            if shard.file in files:
                raise ValueError(f"shards: {shard.file} is listed twice.")
            if shard.first != expected or not shard.count:
                raise ValueError(
                    f"shards: {shard.file} has {counted(shard.count, 'shower')} from {shard.first}, but the next "
                    f"shower is {expected}."
                )
            files.add(shard.file)
            expected += shard.count
        if expected != self.first + self.num_showers or not self.shards:
            raise ValueError(f"shards: they end before shower {expected}, not {self.first + self.num_showers}.")

    @classmethod
    def planned(cls, shards: int, num_showers: int, *, first: int, **settings: Any) -> Self:
        """Return the manifest of a dataset of which no file is finished.

        Args:
            shards: Number of files, whose numbers of showers differ by at most one.
            num_showers: Number of showers.
            first: Index of the first shower.
            **settings: The other fields.

        Returns:
            The manifest.

        Raises:
            ValueError: If a setting is not allowed, or there are more shards than showers.
        """
        num_showers = check_int(1, MAX_INDEX, "num_showers", num_showers)
        why = "and at most the number of showers" if num_showers < MAX_SHARDS else ""
        shards = check_int(1, min(MAX_SHARDS, num_showers), "shards", shards, why)
        starts = [first + k * num_showers // shards for k in range(shards + 1)]
        files = tuple(
            Shard(f"shard-{k:05d}.h5", start, stop - start) for k, (start, stop) in enumerate(pairwise(starts))
        )
        return cls(first=first, num_showers=num_showers, shards=files, **settings)

    @property
    def run(self) -> Run:
        """The run of all showers."""
        return Run(self.config, self.seed, self.first, self.engine, "all", self.num_showers)

    def reduced_to(self, number: int) -> Self:
        """Return the dataset that consists of one shard.

        Args:
            number: Number of the shard, from 0.

        Returns:
            The manifest of the shard alone.
        """
        shard = self.shards[number]
        return replace(self, first=shard.first, num_showers=shard.count, shards=(shard,))

    @property
    def has_particles(self) -> bool:
        """Whether the particles of the shower trees are recorded."""
        return self.record == "particles"

    @property
    def unfinished(self) -> list[str]:
        """Names of the files that are not finished."""
        return [shard.file for shard in self.shards if shard.checksum is None]

    def differences(self, other: "Manifest") -> str:
        """Describe how this dataset differs from another one, apart from which files are finished.

        Args:
            other: The other dataset.

        Returns:
            Text such as "seed is 1 there, 2 here"; empty for the same dataset.
        """
        one, another = self._settings_to_compare(), other._settings_to_compare()
        names = [name for name in one if one[name] != another[name]]
        return "; ".join(f"{name} is {one[name]!r} there, {another[name]!r} here" for name in names[:_MOST_NAMED])

    def _settings_to_compare(self) -> dict[str, Any]:
        values = {name: value for name, value in self.to_dict().items() if name not in ("config", "shards")}
        return {**values, **self.config.to_dict(), "the number of shards": len(self.shards)}

    @classmethod
    def parsed(cls, text: str | bytes) -> Self:
        """Read a manifest from JSON.

        Args:
            text: Text of the manifest.

        Returns:
            The manifest.

        Raises:
            ValueError: If the text is not a manifest, or has a newer version.
        """
        values = read_json(text)
        if not isinstance(values, dict) or values.get("format") != cls.format:
            raise ValueError(f"it is not a manifest of the format {cls.format!r}")
        version = values.get("version")
        if isinstance(version, int) and version > VERSION:
            raise ValueError(f"its version is {version}, but this program reads versions up to {VERSION}; update it")
        return cls.from_dict(values)

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Read the manifest of a folder.

        Args:
            folder: Folder of the dataset.

        Returns:
            The manifest.

        Raises:
            ValueError: If the folder has no manifest, or the manifest is not valid.
        """
        path = folder / MANIFEST
        name = printable(str(path))
        if not path.is_file():
            raise ValueError(f"{printable(str(folder))}: it is a folder without {MANIFEST}, not a dataset in shards.")
        try:
            return cls.parsed(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{name}: {printable(str(error).rstrip('.'))}.") from None

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder atomically.

        Args:
            folder: Folder of the dataset.

        Raises:
            OSError: If the file cannot be written.
        """
        with atomic_write(folder / MANIFEST) as file:
            file.write(self.to_json().encode() + b"\n")


def listed(texts: Iterable[str]) -> str:
    """Join texts for an error message, which names only the first few of many.

    Args:
        texts: Names or sentences.

    Returns:
        The first texts, and the number of the others.
    """
    texts = list(texts)
    more = len(texts) - _MOST_NAMED
    return "; ".join(texts) if more <= 1 else "; ".join([*texts[:_MOST_NAMED], f"and {more:,} more"])

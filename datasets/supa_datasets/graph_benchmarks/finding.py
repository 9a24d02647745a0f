"""Finding the raw files of a set below a folder: in a folder or a zip, with or without ``raw``, at any depth."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from supa_datasets.graph_benchmarks.sources import BenchmarkSource

Contents = dict[str, str]
"""Size and CRC-32 of each file, by name; two files of equal contents have equal entries."""


class DamagedError(ValueError):
    """The raw files of a set cannot be read, or do not fit each other; ``load_benchmark`` raises it as ValueError."""


@dataclass(frozen=True)
class RawFolder:
    """The raw files of a set in a folder.

    Args:
        folder: the folder.
        files: the name in the folder of each raw file, by the name that PyTorch Geometric expects.
    """

    folder: Path
    files: Mapping[str, str]

    def path_of(self, name: str) -> str:
        """Return the path of a raw file for a message.

        Args:
            name: the name that PyTorch Geometric expects.

        Returns:
            The path.
        """
        return str(self.folder / self.files[name])

    def read(self, name: str) -> bytes:
        """Read a raw file.

        Args:
            name: the name that PyTorch Geometric expects.

        Returns:
            Its bytes.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            return (self.folder / self.files[name]).read_bytes()
        except OSError as error:
            raise ValueError(f"{self.path_of(name)}: the file cannot be read ({error.strerror}).") from None

    def contents(self) -> Contents:
        """Return the size and CRC-32 of each raw file.

        Returns:
            Both as text, by the name that PyTorch Geometric expects.

        Raises:
            ValueError: a file cannot be read.
        """
        contents = {}
        for name, own in self.files.items():
            try:
                contents[name] = contents_of(self.folder / own)
            except OSError as error:
                raise ValueError(f"{self.path_of(name)}: the file cannot be read ({error.strerror}).") from None
        return contents


@dataclass(frozen=True)
class RawZip:
    """The raw files of a set in a zip.

    Args:
        archive: the zip.
        files: the name in the zip of each raw file, by the name that PyTorch Geometric expects.
    """

    archive: Path
    files: Mapping[str, str]

    def path_of(self, name: str) -> str:
        """Return the path of a raw file for a message.

        Args:
            name: the name that PyTorch Geometric expects.

        Returns:
            The paths of the zip and of the file in it.
        """
        return f"{self.archive}: {self.files[name]}"

    def read(self, name: str) -> bytes:
        """Read a raw file.

        Args:
            name: the name that PyTorch Geometric expects.

        Returns:
            Its bytes.

        Raises:
            DamagedError: it cannot be read.
        """
        try:
            with zipfile.ZipFile(self.archive) as archive:
                return archive.read(self.files[name])
        except MemoryError:
            raise
        except Exception as error:  # damaged packed bytes raise errors of every decompressor
            raise DamagedError(f"{self.path_of(name)}: the packed file is damaged ({error}).") from None

    def contents(self) -> Contents:
        """Return the size and CRC-32 of each raw file as the zip states them.

        Returns:
            Both as text, by the name that PyTorch Geometric expects.

        Raises:
            DamagedError: the zip cannot be read.
        """
        try:
            with zipfile.ZipFile(self.archive) as archive:
                entries = {name: archive.getinfo(packed) for name, packed in self.files.items()}
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise DamagedError(f"{self.archive}: the zip cannot be read ({error}).") from None
        return {name: _written(entry.file_size, entry.CRC) for name, entry in entries.items()}


@dataclass(frozen=True)
class RawCopy(RawFolder):
    """A copy of raw files, which messages call by the paths of the originals.

    Args:
        folder: the folder of the copy.
        files: the name in the folder of each raw file, by the name that PyTorch Geometric expects.
        originals: the path of each original, by the same names.
    """

    originals: Mapping[str, str]

    def path_of(self, name: str) -> str:
        """Return the path of the original of a raw file for a message.

        Args:
            name: the name that PyTorch Geometric expects.

        Returns:
            The path.
        """
        return self.originals[name]


RawFiles = RawFolder | RawZip


def contents_of(path: Path) -> str:
    """Return the size and the CRC-32 of a file.

    Args:
        path: the file.

    Returns:
        Both as text.

    Raises:
        OSError: it cannot be read.
    """
    size = crc = 0
    with path.open("rb") as file:
        while data := file.read(1 << 22):
            size, crc = size + len(data), zlib.crc32(data, crc)
    return _written(size, crc)


def find(source: BenchmarkSource, root: Path) -> RawFiles:
    """Find the raw files of a set.

    Folders are preferred to zips, and ``FOLDER/raw`` and ``FOLDER.zip`` to other names. Symbolic links are followed.
    Upper and lower case are the same.

    Args:
        source: the set.
        root: the folder to search, at any depth.

    Returns:
        The raw files.

    Raises:
        DamagedError: the set's zip is damaged.
        ValueError: the root does not exist, or does not hold all files of the set.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such folder; root is the folder that holds the raw files.")
    folders, zips, incomplete = [], [], []
    for folder, names in _walk(root):
        files = _matched(source, names)
        if _complete(source, files):
            folders.append(RawFolder(folder, files))
        elif source.raw_files[0] in files:
            incomplete.append((folder, files))
        zips += [folder / name for name in names if name.lower().endswith(".zip")]
    if folders:
        return min(folders, key=lambda raw: (_distance(source, raw.folder), raw.folder))
    for path in sorted(zips, key=lambda path: (path.stem.lower() != source.folder.lower(), path)):
        packed = _in_zip(source, path)
        if packed is not None:
            return packed
    for folder, files in incomplete:
        missing = [name for name in source.raw_files if name not in files]
        raise ValueError(f"{source.name}: {folder} lacks {_listed(missing)}; add what is missing.")
    first = source.raw_files[0]
    raise ValueError(
        f"{source.name}: {root} holds neither {source.folder}.zip nor {source.folder}/raw/{first} (nor {first} in "
        "another folder or zip), at any depth; put the set there, or leave root out to download it."
    )


def in_folder(source: BenchmarkSource, folder: Path) -> RawFolder | None:
    """Return the raw files of a set that lie in a folder itself.

    Args:
        source: the set.
        folder: the folder.

    Returns:
        The files, or None where the folder does not hold all of them.
    """
    try:
        files = _matched(source, [path.name for path in folder.iterdir()])
    except OSError:
        return None
    return RawFolder(folder, files) if _complete(source, files) else None


def _written(size: int, crc: int) -> str:
    return f"{size} {crc:08x}"


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Return each folder below the root and the names of its files; each once, also where links form a cycle."""
    seen = set()
    for path, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        try:
            status = Path(path).stat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield Path(path), names


def _matched(source: BenchmarkSource, names: Iterable[str]) -> dict[str, str]:
    """Return those of the set's raw files that are among the names; an exact name is preferred to another case."""
    names = sorted(names)
    by_lower_case = {name.lower(): name for name in names}
    wanted = {name: name if name in names else by_lower_case.get(name.lower()) for name in source.all_files}
    return {name: found for name, found in wanted.items() if found is not None}


def _complete(source: BenchmarkSource, files: Mapping[str, str]) -> bool:
    return files.keys() >= set(source.raw_files)


def _distance(source: BenchmarkSource, folder: Path) -> int:
    """Rank a folder: ``FOLDER/raw``, then ``FOLDER``, then any other name."""
    wanted = source.folder.lower()
    if folder.name.lower() == "raw" and folder.parent.name.lower() == wanted:
        return 0
    return 1 if folder.name.lower() == wanted else 2


def _in_zip(source: BenchmarkSource, path: Path) -> RawZip | None:
    """Return the raw files in a zip, or None. A damaged zip is an error where it has the set's name."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        if path.stem.lower() == source.folder.lower():
            raise DamagedError(f"{path}: the file is damaged, or no zip ({error}).") from None
        return None
    folders: dict[PurePosixPath, dict[str, str]] = {}
    for name in packed:
        place = PurePosixPath(name.replace("\\", "/"))  # some old programs write backslashes
        folders.setdefault(place.parent, {})[place.name] = name
    candidates = []
    for folder, names in folders.items():
        files = {name: names[inside] for name, inside in _matched(source, names).items()}
        if _complete(source, files):
            candidates.append((_distance(source, Path(folder)), folder, RawZip(path, files)))
    return min(candidates, key=lambda candidate: candidate[:2])[2] if candidates else None


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more files"

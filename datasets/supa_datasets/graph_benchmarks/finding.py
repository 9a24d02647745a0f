"""Search for the raw files of a set below a folder, in folders and zip archives."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from supa_datasets.graph_benchmarks.sources import BenchmarkSource

Contents = dict[str, str]
"""Size and CRC-32 of each file by name. Files with equal contents have equal entries."""


class DamagedError(ValueError):
    """Raised if the raw files of a set are unreadable or inconsistent. ``load_benchmark`` turns it into ValueError."""


@dataclass(frozen=True)
class RawFolder:
    """The raw files of a set in a folder.

    Args:
        folder: Path of the folder.
        files: Name of each raw file in the folder, by the name that PyTorch Geometric expects.
    """

    folder: Path
    files: Mapping[str, str]

    def path_of(self, name: str) -> str:
        """Return the path of a raw file for a message.

        Args:
            name: The name that PyTorch Geometric expects.

        Returns:
            The path.
        """
        return str(self.folder / self.files[name])

    def read(self, name: str) -> bytes:
        """Read a raw file.

        Args:
            name: The name that PyTorch Geometric expects.

        Returns:
            Contents of the file.

        Raises:
            ValueError: If the file cannot be read.
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
            ValueError: If a file cannot be read.
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
    """The raw files of a set in a zip archive.

    Args:
        archive: Path of the archive.
        files: Name of each raw file in the archive, by the name that PyTorch Geometric expects.
    """

    archive: Path
    files: Mapping[str, str]

    def path_of(self, name: str) -> str:
        """Return the path of a raw file for a message.

        Args:
            name: The name that PyTorch Geometric expects.

        Returns:
            The path of the archive and the name of the file in it.
        """
        return f"{self.archive}: {self.files[name]}"

    def read(self, name: str) -> bytes:
        """Read a raw file.

        Args:
            name: The name that PyTorch Geometric expects.

        Returns:
            Contents of the file.

        Raises:
            DamagedError: If the file cannot be read.
        """
        try:
            with zipfile.ZipFile(self.archive) as archive:
                return archive.read(self.files[name])
        except MemoryError:
            raise
        except Exception as error:  # damaged packed bytes raise errors of every decompressor
            raise DamagedError(f"{self.path_of(name)}: the compressed file is damaged ({error}).") from None

    def contents(self) -> Contents:
        """Return the size and CRC-32 of each raw file as stated in the archive.

        Returns:
            Both as text, by the name that PyTorch Geometric expects.

        Raises:
            DamagedError: If the archive cannot be read.
        """
        try:
            with zipfile.ZipFile(self.archive) as archive:
                entries = {name: archive.getinfo(packed) for name, packed in self.files.items()}
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise DamagedError(f"{self.archive}: the zip archive cannot be read ({error}).") from None
        return {name: _written(entry.file_size, entry.CRC) for name, entry in entries.items()}


@dataclass(frozen=True)
class RawCopy(RawFolder):
    """A copy of raw files. Its error messages name the original files.

    Args:
        folder: Path of the folder with the copy.
        files: Name of each raw file in the folder, by the name that PyTorch Geometric expects.
        originals: Path of each original, by the same names.
    """

    originals: Mapping[str, str]

    def path_of(self, name: str) -> str:
        """Return the path of the original of a raw file for a message.

        Args:
            name: The name that PyTorch Geometric expects.

        Returns:
            The path.
        """
        return self.originals[name]


RawFiles = RawFolder | RawZip


def contents_of(path: Path) -> str:
    """Return the size and the CRC-32 of a file.

    Args:
        path: Path of the file.

    Returns:
        Both as text.

    Raises:
        OSError: If the file cannot be read.
    """
    size = crc = 0
    with path.open("rb") as file:
        while data := file.read(1 << 22):
            size, crc = size + len(data), zlib.crc32(data, crc)
    return _written(size, crc)


def find(source: BenchmarkSource, root: Path) -> RawFiles:
    """Find the raw files of a set.

    Folders are preferred to archives, and the names ``FOLDER/raw`` and ``FOLDER.zip`` to other names. Symbolic links
    are followed. Names are not case-sensitive.

    Args:
        source: The set.
        root: Folder to search, including its subfolders.

    Returns:
        The raw files.

    Raises:
        DamagedError: If the zip archive of the set is damaged.
        ValueError: If ``root`` does not exist, or does not contain all files of the set.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such folder; root must be the folder with the raw files.")
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
        raise ValueError(f"{source.name}: {folder} lacks {_listed(missing)}; add the missing files.")
    first = source.raw_files[0]
    raise ValueError(
        f"{source.name}: {root} holds neither {source.folder}.zip nor {source.folder}/raw/{first} (nor {first} in "
        "another folder or zip archive), at any depth; put the set there, or omit root to download it."
    )


def in_folder(source: BenchmarkSource, folder: Path) -> RawFolder | None:
    """Return the raw files of a set in a folder, without its subfolders.

    Args:
        source: The set.
        folder: Path of the folder.

    Returns:
        The files, or None if the folder does not contain all of them.
    """
    try:
        files = _matched(source, [path.name for path in folder.iterdir()])
    except OSError:
        return None
    return RawFolder(folder, files) if _complete(source, files) else None


def _written(size: int, crc: int) -> str:
    return f"{size} {crc:08x}"


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder below the root with the names of its files. Cycles of links are visited once."""
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
    """Return the raw files of the set among the names. Exact names are preferred to names in another case."""
    names = sorted(names)
    by_lower_case = {name.lower(): name for name in names}
    wanted = {name: name if name in names else by_lower_case.get(name.lower()) for name in source.all_files}
    return {name: found for name, found in wanted.items() if found is not None}


def _complete(source: BenchmarkSource, files: Mapping[str, str]) -> bool:
    return files.keys() >= set(source.raw_files)


def _distance(source: BenchmarkSource, folder: Path) -> int:
    """Return the rank of a folder: 0 for ``FOLDER/raw``, 1 for ``FOLDER``, 2 for other names."""
    wanted = source.folder.lower()
    if folder.name.lower() == "raw" and folder.parent.name.lower() == wanted:
        return 0
    return 1 if folder.name.lower() == wanted else 2


def _in_zip(source: BenchmarkSource, path: Path) -> RawZip | None:
    """Return the raw files in a zip archive, or None. A damaged archive with the name of the set is an error."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        if path.stem.lower() == source.folder.lower():
            raise DamagedError(f"{path}: the file is damaged or not a zip archive ({error}).") from None
        return None
    folders: dict[PurePosixPath, dict[str, str]] = {}
    for name in packed:
        place = PurePosixPath(name.replace("\\", "/"))  # some old archivers write backslashes
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

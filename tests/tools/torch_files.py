"""Files in the formats of torch.save with lists of NumPy arrays, written without torch."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

MAGIC = 0x1950A86A20F9469CFC6C


def write_zip(path: Path, content: bytes, *, member: str = "archive/data.pkl", compressed: bool = False) -> None:
    """Write a pickle in the format of torch 1.6 and newer."""
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(member, content)
        archive.writestr("archive/version", "3\n")


def write_legacy(path: Path, content: bytes) -> None:
    """Write a pickle in the format of older versions of torch."""
    facts: dict[str, Any] = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}
    before = [pickle.dumps(value, protocol=2) for value in (MAGIC, 1001, facts)]
    path.write_bytes(b"".join([*before, content, pickle.dumps([], protocol=2)]))


def pickled(value: Any) -> bytes:
    """Pickle like torch.save with NumPy 1, which the reference code used."""
    return pickle.dumps(value, protocol=2).replace(b"numpy._core.", b"numpy.core.")

"""Folders for files that the package can make again: machine code and downloaded data sets."""

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path


def user_cache() -> Path:
    """Return the package's folder in the user's cache.

    Returns:
        ``$XDG_CACHE_HOME/supa``, or ``~/.cache/supa`` where that variable is not an absolute path. The folder need not
        exist.

    Raises:
        RuntimeError: the system names no home folder of the user.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "supa"


@cache
def machine_code_folder(given: str) -> str | None:
    """Return the folder that takes the machine code of this version of the package.

    Numba compares the source file of a kernel only. A kernel also contains the functions that are inlined into it, so
    the name of the folder holds a digest of all source files: another version of the package uses another folder.

    Args:
        given: the folder that ``NUMBA_CACHE_DIR`` names, or an empty string.

    Returns:
        A folder below that folder, or below ``user_cache()``; None if it cannot be written.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    try:
        root = Path(given) if given else user_cache() / "numba"
        folder = root / f"supa-{digest.hexdigest()[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):
        return None
    return str(folder)

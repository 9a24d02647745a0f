"""Cache folders for machine code and downloaded data sets, which can be deleted at any time."""

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path


def user_cache() -> Path:
    """Return the folder of the package in the cache of the user.

    Returns:
        ``$XDG_CACHE_HOME/supa``, or ``~/.cache/supa`` if that variable is not an absolute path. The folder may not
        exist.

    Raises:
        RuntimeError: If the home folder of the user cannot be determined.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "supa"


@cache
def machine_code_folder(given: str) -> str | None:
    """Return the folder for the machine code of this version of the package.

    Numba detects only changes in the source file of a kernel, but a kernel also contains functions that are inlined
    from other files. The name of the folder therefore contains a digest of all source files, so each version of the
    package has its own folder.

    Args:
        given: Folder in ``NUMBA_CACHE_DIR``, or an empty string.

    Returns:
        Folder below the given folder, or below ``user_cache()``; None if it is not writable.
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

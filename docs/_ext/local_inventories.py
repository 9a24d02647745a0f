"""Links to the documentation of other packages, without a network at build time.

Intersphinx reads an inventory for each package. These inventories are written from ``inventories.toml``, which lists
the few names that this documentation refers to.
"""

import tomllib
import zlib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

LIST = Path(__file__).parent.parent / "inventories.toml"


def inventory(package: str, names: dict[str, dict[str, str]]) -> bytes:
    """Return the bytes of a Sphinx inventory.

    Args:
        package: Name of the package.
        names: For each kind of object ("class", "function", ...), the page of each name.
    """
    lines = [f"{name} py:{kind} 1 {page} -\n" for kind, pages in names.items() for name, page in pages.items()]
    header = (
        "# Sphinx inventory version 2\n"
        f"# Project: {package}\n"
        "# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    return header.encode() + zlib.compress("".join(lines).encode())


def _write_inventories(app: Sphinx, config: Config) -> None:
    folder = Path(app.doctreedir) / "inventories"
    folder.mkdir(parents=True, exist_ok=True)
    packages = tomllib.loads(LIST.read_text())
    for package, content in packages.items():
        (folder / f"{package}.inv").write_bytes(inventory(package, content["names"]))
    config.intersphinx_mapping = {
        package: (content["url"], str(folder / f"{package}.inv")) for package, content in packages.items()
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the inventories before intersphinx reads its configuration."""
    app.connect("config-inited", _write_inventories, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

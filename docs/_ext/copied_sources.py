"""The notebooks, whose source is outside of ``docs``."""

import shutil
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent


def _copy(app: Sphinx) -> None:
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        _copy_if_changed(notebook, DOCS / "tutorials" / notebook.name)


def _copy_if_changed(source: Path, target: Path) -> None:
    # An unchanged page keeps its time of modification, so that Sphinx does not read it again.
    if not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Copy the files before Sphinx lists the pages."""
    app.connect("builder-inited", _copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

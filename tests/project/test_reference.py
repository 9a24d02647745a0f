"""The API reference lists every public name."""

import re
from pathlib import Path

import pytest
from public_names import public_names
from public_packages import PACKAGES

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "api"


def _listed(page: Path) -> set[str]:
    """Return the full names that a page documents."""
    names: set[str] = set()
    module = ""
    for line in page.read_text().splitlines():
        if found := re.match(r"\.\. (?:currentmodule|automodule):: (\S+)", line):
            module = found[1]
        elif found := re.match(r"   :members: (.+)", line):
            names |= {f"{module}.{name}" for name in found[1].split(", ")}
        elif found := re.match(r"\.\. py:data:: (\S+)", line):
            names.add(found[1])
        elif found := re.fullmatch(r"   (\w+)", line):
            names.add(f"{module}.{found[1]}")
    return names


LISTED = set().union(*map(_listed, REFERENCE.glob("*.md")))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_a_page(package):
    missing = {f"{home}.{name}" for home, name in public_names() if home == package} - LISTED
    # A name that two packages share has its page in one of them.
    elsewhere = {name for name in missing if any(other.endswith(f".{name.rpartition('.')[2]}") for other in LISTED)}
    assert not missing - elsewhere

"""ROOT files through uproot: a TTree (branches ``hits_x``) or an RNTuple (fields ``hits.x``) named ``showers``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from supa import Ragged, Showers
from supa_datasets.conversion.awkward_arrays import numbers, ragged_table
from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.run_json import RUN, run_to_text
from supa_datasets.conversion.tables import TABLES, assembled, brief, columns_in, may_be_read, named, run_of, stored
from supa_datasets.layout import SHOWER_TYPES, tables_of

_NAME = "showers"
_TABLES = tuple(table.group for table in TABLES)
_STEP = 8192
_MOST_ELEMENTS_PER_BYTE = 8192


def _uproot() -> Any:
    try:
        import awkward  # noqa: F401
        import uproot
    except ImportError:
        raise ValueError("ROOT needs the packages uproot and awkward: pip install 'supa-showers[hep]'.") from None
    return uproot


@contextmanager
def _read(path: Path, choices: Choices) -> Iterator[Source]:
    uproot = _uproot()
    # A path as dictionary key is taken literally; a string could also name an object or a remote file.
    with uproot.open({str(path): None}) as file:
        kinds = file.classnames(recursive=False, cycle=False)
        reading = {"TTree": _branches, "ROOT::RNTuple": _fields}.get(kinds.get(_NAME, ""))
        if reading is None:
            raise ValueError(f"it has no TTree or RNTuple named {_NAME!r}")
        text = None
        if kinds.get(RUN) == "TObjString":
            text = str(file[RUN])
        tree = file[_NAME]
        total = int(tree.num_entries)
        columns, unfit = reading(tree)
        run, told = run_of(text, choices, total)
        chosen = columns_in(named(columns), told=told, unfit=unfit)

        def chunk(start: int, stop: int) -> Showers:
            rows = {name: numbers(own, columns[own](start, stop), start) for name, own in chosen.plain.items()}
            if any(len(values) != stop - start for values in rows.values()):
                raise ValueError(f"some of the showers {start} to {stop - 1} are missing")
            parts: dict[str, Ragged] = {
                table: ragged_table({name: (own, columns[own](start, stop)) for name, own in found.items()}, start)
                for table, found in chosen.tables.items()
            }
            return assembled(run, told, rows, parts, start)

        starts = range(0, max(total, 1), _STEP)
        yield Source(run, total, "particles" in chosen.tables, (chunk(a, min(a + _STEP, total)) for a in starts))


_Column = Callable[[int, int], Any]
_Columns = tuple[dict[str, _Column], dict[str, str]]
"""Reader of each column by name; and type by name of each column that has the name of a table but no columns itself."""


def _branches(tree: Any) -> _Columns:
    """Return the columns of a TTree. Branches are read one by one, so aliases in the file are never evaluated."""
    branches = {branch.name: branch for branch in tree.branches if may_be_read(branch.name)}
    unfit = {name: branch.typename for name, branch in branches.items() if name in _TABLES}
    return {name: _branch(branch) for name, branch in branches.items() if name not in unfit}, unfit


def _branch(branch: Any) -> _Column:
    from uproot.interpretation.jagged import AsJagged
    from uproot.interpretation.numerical import AsDtype

    def read(start: int, stop: int) -> Any:
        content = branch.interpretation
        # For branches with objects, uproot would generate classes from the contents of the file.
        if not isinstance(content.content if isinstance(content, AsJagged) else content, AsDtype):
            raise ValueError(
                f"the column {branch.name!r} contains {brief(branch.typename)}, but it must be numbers or lists of "
                "numbers"
            )
        return branch.array(entry_start=start, entry_stop=stop, library="ak")

    return read


def _fields(ntuple: Any) -> _Columns:
    """Return the columns of an RNTuple."""
    for pages in (column.pages for cluster in ntuple.page_link_list for column in cluster):
        # uproot allocates the memory that a page claims, so an impossible compression ratio must be rejected.
        if any(page.num_elements > _MOST_ELEMENTS_PER_BYTE * max(page.locator.num_bytes, 1) for page in pages):
            raise ValueError("it is damaged: a page claims more numbers than it can contain")
    columns: dict[str, _Column] = {}
    unfit: dict[str, str] = {}
    for field in ntuple.fields:
        if not may_be_read(field.name):
            continue
        if field.name not in _TABLES:
            columns[field.name] = _field(ntuple, field.name)
        elif field.fields:
            columns |= {
                f"{field.name}.{inner.name}": _inner_field(ntuple, field.name, inner.name) for inner in field.fields
            }
        else:
            unfit[field.name] = field.typename
    return columns, unfit


def _field(ntuple: Any, name: str) -> _Column:
    # Look-up by key fails for names with a dot or a slash, so a filter is used.
    return lambda start, stop: ntuple.arrays(filter_name=[name], entry_start=start, entry_stop=stop, library="ak")[name]


def _inner_field(ntuple: Any, table: str, name: str) -> _Column:
    return lambda start, stop: ntuple[f"{table}.{name}"].array(entry_start=start, entry_stop=stop, library="ak")


def _types(has_particles: bool) -> dict[str, Any]:
    types: dict[str, Any] = {name: np.dtype(kind) for name, kind in SHOWER_TYPES.items()}
    for table in tables_of(has_particles):
        fields = ", ".join(f"{name}: {np.dtype(kind)}" for name, kind in table.types.items())
        types[table.group] = f"var * {{{fields}}}"
    return types


def _write_tree(path: Path, source: Source, _choices: Choices) -> None:
    _write(path, source, "mktree")


def _write_ntuple(path: Path, source: Source, _choices: Choices) -> None:
    _write(path, source, "mkrntuple")


def _write(path: Path, source: Source, make: str) -> None:
    types = _types(source.has_particles)
    with _uproot().recreate(path) as file:
        file[RUN] = run_to_text(source.run)
        tree = getattr(file, make)(_NAME, types)
        for showers in source.chunks:
            array = stored(showers).to_awkward()
            tree.extend({name: array[name] for name in types})


ROOT = Format("root", "ROOT TTree through uproot (also reads an RNTuple)", _read, _write_tree)
RNTUPLE = Format("rntuple", "ROOT RNTuple through uproot (in a .root file)", _read, _write_ntuple)

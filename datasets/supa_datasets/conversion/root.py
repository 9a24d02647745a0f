"""ROOT files through uproot: a TTree (branches ``hits_x``) or an RNTuple (fields ``hits.x``) called ``showers``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from supa import Ragged, Showers
from supa_datasets.conversion.awkward_arrays import flat, lists_to_table
from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.runs import RUN, run_to_text
from supa_datasets.conversion.tables import assembled, columns_in, run_of, stored
from supa_datasets.layout import SHOWER_TYPES, tables_of

_NAME = "showers"
_TABLES = ("hits", "primaries", "particles")
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
    # As a key, the path is not searched for the name of an object or of another machine.
    with uproot.open({str(path): None}) as file:
        kinds = file.classnames(recursive=False, cycle=False)
        reading = {"TTree": _branches, "ROOT::RNTuple": _fields}.get(kinds.get(_NAME, ""))
        if reading is None:
            raise ValueError(f"it has no TTree or RNTuple called {_NAME!r}")
        text = None
        if kinds.get(RUN) == "TObjString":
            text = str(file[RUN])
        tree = file[_NAME]
        total = int(tree.num_entries)
        columns = reading(tree)
        run, told = run_of(text, choices, total)
        plain, ragged = columns_in(set(columns), told)
        tables = {
            table: {name.split("/")[1]: columns[name] for name in ragged if name.startswith(f"{table}/")}
            for table in dict.fromkeys(name.split("/")[0] for name in ragged)
        }

        def chunk(start: int, stop: int) -> Showers:
            rows = {name: flat(columns[name](start, stop)) for name in plain}
            if any(len(values) != stop - start for values in rows.values()):
                raise ValueError(f"showers {start} to {stop - 1} are not all there")
            parts: dict[str, Ragged] = {
                table: lists_to_table({name: column(start, stop) for name, column in found.items()})
                for table, found in tables.items()
            }
            return assembled(run, told, rows, parts, start)

        starts = range(0, max(total, 1), _STEP)
        yield Source(run, total, "particles" in tables, (chunk(a, min(a + _STEP, total)) for a in starts))


_Column = Callable[[int, int], Any]


def _branches(tree: Any) -> dict[str, _Column]:
    """Give the branches of numbers and of lists of numbers; each is read alone, so that no alias of the file is."""
    from uproot.interpretation.jagged import AsJagged
    from uproot.interpretation.numerical import AsDtype

    columns: dict[str, _Column] = {}
    for branch in tree.branches:
        content = branch.interpretation
        content = content.content if isinstance(content, AsJagged) else content
        if isinstance(content, AsDtype) and content.to_dtype.kind in "fiu":
            columns[_slashed(branch.name)] = _range_of(branch)
    return columns


def _range_of(column: Any) -> _Column:
    return lambda start, stop: column.array(entry_start=start, entry_stop=stop, library="ak")


def _slashed(name: str) -> str:
    """Give ``hits/x`` for ``hits_x``."""
    table, _, column = name.partition("_")
    return f"{table}/{column}" if table in _TABLES else name


def _fields(ntuple: Any) -> dict[str, _Column]:
    for pages in (column.pages for cluster in ntuple.page_link_list for column in cluster):
        # uproot takes the memory that a page claims to need; no page that holds so much is packed so well.
        if any(page.num_elements > _MOST_ELEMENTS_PER_BYTE * max(page.locator.num_bytes, 1) for page in pages):
            raise ValueError("it is damaged: a page claims more numbers than it can hold")
    columns: dict[str, _Column] = {}
    for name in ntuple.keys():  # noqa: SIM118  (an RNTuple iterates over entries)
        table, dot, column = name.partition(".")
        if dot and table in _TABLES:
            columns[f"{table}/{column}"] = _field_of(ntuple, table, column)
        elif not dot and table not in _TABLES:
            columns[name] = _range_of(ntuple[name])
    return columns


def _field_of(ntuple: Any, table: str, column: str) -> _Column:
    return lambda start, stop: ntuple[f"{table}.{column}"].array(entry_start=start, entry_stop=stop, library="ak")


def _types(recorded: bool) -> dict[str, Any]:
    types: dict[str, Any] = {name: np.dtype(kind) for name, kind in SHOWER_TYPES.items()}
    for table in tables_of(recorded):
        fields = ", ".join(f"{name}: {np.dtype(kind)}" for name, kind in table.types.items())
        types[table.group] = f"var * {{{fields}}}"
    return types


def _write_tree(path: Path, source: Source, _choices: Choices) -> None:
    _write(path, source, "mktree")


def _write_ntuple(path: Path, source: Source, _choices: Choices) -> None:
    _write(path, source, "mkrntuple")


def _write(path: Path, source: Source, make: str) -> None:
    types = _types(source.recorded)
    with _uproot().recreate(path) as file:
        file[RUN] = run_to_text(source.run)
        tree = getattr(file, make)(_NAME, types)
        for showers in source.chunks:
            array = stored(showers).to_awkward()
            tree.extend({name: array[name] for name in types})


ROOT = Format("root", "ROOT TTree through uproot (reads an RNTuple, too)", _read, _write_tree)
RNTUPLE = Format("rntuple", "ROOT RNTuple through uproot (in a .root file)", _read, _write_ntuple)

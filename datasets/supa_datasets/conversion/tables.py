"""The columns of showers for formats that hold all of them: in which types they are written, and how they are read."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from supa import Ragged, Run, ShowerConfig, Showers, from_hits
from supa.arrays import Array
from supa.physics import UNKNOWN_SLICE
from supa_datasets.conversion.formats import Choices
from supa_datasets.conversion.run_json import imported, run_from_text
from supa_datasets.layout import HITS, PARTICLES, PRIMARIES, SHOWER_TYPES, Table, tables_of
from supa_datasets.validation import check_rows

TABLES = (HITS, PRIMARIES, PARTICLES)
_NEEDED = ("incident_energy", "hits/x", "hits/y", "hits/energy")
_IN_A_TABLE = re.compile(rf"({'|'.join(table.group for table in TABLES)})[/._](.+)")


@dataclass(frozen=True)
class Chosen:
    """The columns to read from a file.

    Args:
        plain: the columns with one row a shower: their names, and those that the file gives them.
        tables: the same of each ragged table, by the table.
    """

    plain: Mapping[str, str]
    tables: Mapping[str, Mapping[str, str]]


def stored(showers: Showers) -> Showers:
    """Return showers in the types of a shower file, so that every chunk of a file has the same.

    Args:
        showers: the showers.

    Returns:
        The showers; x, y and energies of hits and particles are float32.
    """

    def typed(rows: Ragged, table: Table) -> Ragged:
        return Ragged({name: np.asarray(rows[name], kind) for name, kind in table.types.items()}, rows.offset)

    return replace(
        showers,
        hits=typed(showers.hits, HITS),
        primaries=typed(showers.primaries, PRIMARIES),
        particles=None if showers.particles is None else typed(showers.particles, PARTICLES),
    )


def run_of(text: str | bytes | None, choices: Choices, total: int) -> tuple[Run, bool]:
    """Tell what made the showers of a file.

    Args:
        text: the run that the file tells, or None.
        choices: what the user chose.
        total: how many showers there are.

    Returns:
        The run, and whether the file told it.

    Raises:
        ValueError: the text is damaged, or the user gave another config.
    """
    if text is None:
        return imported(choices.config_for(None), total), False
    run = run_from_text(text)
    choices.config_for(run.config)
    return run, True


def named(names: Iterable[str]) -> dict[str, str]:
    """Find the columns of a file by their names; a column of a table is called ``hits/x``, ``hits.x`` or ``hits_x``.

    Args:
        names: what the file calls its columns.

    Returns:
        These names by those that the columns have here, such as ``"hits/x"`` or ``"index"``.

    Raises:
        ValueError: a column is there twice.
    """
    found: dict[str, str] = {}
    for own in names:
        parts = _IN_A_TABLE.fullmatch(own)
        name = own if parts is None else "/".join(parts.groups())
        if name in found:
            raise ValueError(f"the columns {found[name]!r} and {own!r} are the same one; leave one of them out")
        found[name] = own
    return found


def may_be_read(own: str) -> bool:
    """Return by its name whether a column of a file can be one of showers, or a table of them.

    Args:
        own: what the file calls it.

    Returns:
        Whether it can be.
    """
    columns = {f"{table.group}/{name}" for table in TABLES for name in table.types}
    return next(iter(named([own]))) in {*SHOWER_TYPES, *columns, *(table.group for table in TABLES)}


def columns_in(found: Mapping[str, str], *, told: bool, unfit: Mapping[str, str]) -> Chosen:
    """Choose the columns to read from a file.

    Args:
        found: what ``named`` found.
        told: whether the file tells what made its showers, and so must have every column.
        unfit: name and type of each column that is called like a table, but has no columns itself.

    Returns:
        The columns.

    Raises:
        ValueError: a column is missing.
    """
    has_particles = told and any(name.startswith(f"{PARTICLES.group}/") for name in found)
    wanted = {table.group: [f"{table.group}/{name}" for name in table.types] for table in tables_of(has_particles)}
    every = [*SHOWER_TYPES, *(name for names in wanted.values() for name in names)]
    for name in every if told else _NEEDED:
        if name not in found:
            raise ValueError(_missing(f"the column {name!r} is missing", name, found, unfit))
    if not told and not {"hits/slice", "hits/layer"} & found.keys():
        raise ValueError("the columns 'hits/slice' and 'hits/layer' are missing; one of them is needed")
    if not set(wanted[PRIMARIES.group]) <= found.keys():
        del wanted[PRIMARIES.group]
    return Chosen(
        {name: found[name] for name in SHOWER_TYPES if name in found},
        {
            group: {name.removeprefix(f"{group}/"): found[name] for name in names if name in found}
            for group, names in wanted.items()
        },
    )


def _missing(message: str, name: str, found: Mapping[str, str], unfit: Mapping[str, str]) -> str:
    """Say what is there instead of a column that is missing."""
    table, inside, column = name.partition("/")
    if inside and table in unfit:
        return (
            f"{message}: the column {table!r} holds {brief(unfit[table])}, but it must hold a list of records of "
            f"numbers for each shower; or give a column '{table}_{column}' of lists of numbers"
        )
    others = f", and so are '{table}_{column}' and '{table}.{column}'" if inside else ""
    return f"{message}{others}; there are {brief(', '.join([*unfit, *found.values()]) or 'none')}"


def brief(text: object) -> str:
    """Write something for a message, cut where it is long.

    Args:
        text: what is written.

    Returns:
        At most 80 characters.
    """
    words = str(text)
    return words if len(words) <= 80 else f"{words[:77]}..."


def assembled(run: Run, told: bool, columns: Mapping[str, Array], tables: Mapping[str, Ragged], first: int) -> Showers:
    """Put showers together that were read from a file.

    Args:
        run: what made them.
        told: whether the file told that.
        columns: the columns with one row a shower.
        tables: the ragged tables ``"hits"``, ``"primaries"`` and ``"particles"``, as far as they are there.
        first: number of the first of these showers in the file.

    Returns:
        The showers, checked.

    Raises:
        ValueError: a value cannot be that of a shower.
    """
    if not told:
        return _imported(run.config, columns, tables, first)
    typed = {}
    for table in tables_of(PARTICLES.group in tables):
        rows = tables[table.group]
        checked = {name: _typed(f"{table.group}/{name}", rows[name], kind) for name, kind in table.types.items()}
        typed[table.group] = Ragged(checked, rows.offset)
    showers = Showers(
        run=run,
        **{name: _typed(name, columns[name], kind) for name, kind in SHOWER_TYPES.items()},
        hits=typed[HITS.group],
        primaries=typed[PRIMARIES.group],
        particles=typed.get(PARTICLES.group),
    )
    check_rows(showers)
    return showers


def _imported(config: ShowerConfig, columns: Mapping[str, Array], tables: Mapping[str, Ragged], first: int) -> Showers:
    hits, primaries = tables[HITS.group], tables.get(PRIMARIES.group)
    if primaries is not None:
        finite = {name: _finite(f"primaries/{name}", primaries[name]) for name in PRIMARIES.types}
        primaries = Ragged(finite, primaries.offset)
        if np.less(primaries["energy"], 0).any():
            raise ValueError("primaries/energy: a negative energy was given")
    known = "slice" in hits.columns and not ("layer" in hits.columns and np.equal(hits["slice"], UNKNOWN_SLICE).any())
    depth: dict[str, Any] = {"slice": hits["slice"]} if known else {"layer": hits["layer"]}
    leaked = columns.get("leaked_energy")
    unknown = leaked is None or bool(np.isnan(_real("leaked_energy", leaked)).all())
    return from_hits(
        config,
        offset=hits.offset,
        incident_energy=columns["incident_energy"],
        x=hits["x"],
        y=hits["y"],
        energy=hits["energy"],
        **depth,
        primary=hits.columns.get("primary") if primaries is not None else None,
        primaries=primaries,
        index=columns.get("index", first + np.arange(len(hits))),
        leaked_energy=None if unknown else leaked,
    )


def _typed(name: str, column: Array, kind: str) -> Any:
    if column.dtype != np.dtype(kind):
        raise ValueError(f"the column {name!r} is {column.dtype}, not {np.dtype(kind)}")
    return column


def _real(name: str, column: Array) -> Any:
    if column.dtype.kind not in "fiu":
        raise ValueError(f"the column {name!r} is {column.dtype}, not numbers")
    return column.astype(np.float64)


def _finite(name: str, column: Array) -> Any:
    values = _real(name, column)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: a value is not finite")
    return values

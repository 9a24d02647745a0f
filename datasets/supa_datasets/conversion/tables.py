"""Reading and writing the columns of showers for formats that store all of them."""

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
        plain: Name in the file of each column with one row per shower, by the name of the column.
        tables: The same for the columns of each ragged table, by the name of the table.
    """

    plain: Mapping[str, str]
    tables: Mapping[str, Mapping[str, str]]


def stored(showers: Showers) -> Showers:
    """Return showers in the types of a shower file, so that all chunks have the same types.

    Args:
        showers: The showers.

    Returns:
        The showers. Positions and energies of hits and particles are float32.
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
    """Return the run of the showers of a file.

    Args:
        text: Run that is stored in the file as JSON, or None.
        choices: Choices of the user.
        total: Number of showers.

    Returns:
        The run, and whether it is stored in the file.

    Raises:
        ValueError: If the text is damaged, or the user provides another config.
    """
    if text is None:
        return imported(choices.config_for(None), total), False
    run = run_from_text(text)
    choices.config_for(run.config)
    return run, True


def named(names: Iterable[str]) -> dict[str, str]:
    """Return the columns of a file by their standard names, such as ``"hits/x"`` or ``"index"``.

    In the file, a column of a table can be named ``hits/x``, ``hits.x`` or ``hits_x``.

    Args:
        names: Names of the columns in the file.

    Returns:
        Names in the file by standard name.

    Raises:
        ValueError: If two columns have the same standard name.
    """
    found: dict[str, str] = {}
    for own in names:
        parts = _IN_A_TABLE.fullmatch(own)
        name = own if parts is None else "/".join(parts.groups())
        if name in found:
            raise ValueError(f"the columns {found[name]!r} and {own!r} have the same meaning; leave one of them out")
        found[name] = own
    return found


def may_be_read(own: str) -> bool:
    """Return whether the name of a column in a file is that of a column or table of showers.

    Args:
        own: Name of the column in the file.

    Returns:
        True for columns and tables of showers.
    """
    columns = {f"{table.group}/{name}" for table in TABLES for name in table.types}
    return next(iter(named([own]))) in {*SHOWER_TYPES, *columns, *(table.group for table in TABLES)}


def columns_in(found: Mapping[str, str], *, told: bool, unfit: Mapping[str, str]) -> Chosen:
    """Choose the columns to read from a file.

    Args:
        found: Names in the file by standard name, from ``named``.
        told: Whether the file stores its run, in which case every column is required.
        unfit: Type of each column that has the name of a table but contains no columns, by name.

    Returns:
        The columns to read.

    Raises:
        ValueError: If a column is missing.
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
    """Return the message for a missing column, with the columns that the file has instead."""
    table, inside, column = name.partition("/")
    if inside and table in unfit:
        return (
            f"{message}: the column {table!r} contains {brief(unfit[table])}, but it must be a list of records of "
            f"numbers per shower; alternatively provide a column '{table}_{column}' of lists of numbers"
        )
    others = f", and so are '{table}_{column}' and '{table}.{column}'" if inside else ""
    return f"{message}{others}; the columns are {brief(', '.join([*unfit, *found.values()]) or 'none')}"


def brief(text: object) -> str:
    """Return a text for a message, shortened if necessary.

    Args:
        text: Any object.

    Returns:
        String of at most 80 characters.
    """
    words = str(text)
    return words if len(words) <= 80 else f"{words[:77]}..."


def assembled(run: Run, told: bool, columns: Mapping[str, Array], tables: Mapping[str, Ragged], first: int) -> Showers:
    """Build showers from columns that were read from a file.

    Args:
        run: Run of the showers.
        told: Whether the run is stored in the file.
        columns: Columns with one row per shower.
        tables: Ragged tables ``"hits"``, ``"primaries"`` and ``"particles"``, if they are in the file.
        first: Position in the file of the first of these showers.

    Returns:
        The checked showers.

    Raises:
        ValueError: If a value is impossible for a shower.
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
            raise ValueError("primaries/energy: an energy is negative")
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
        raise ValueError(f"the column {name!r} must be {np.dtype(kind)}, got {column.dtype}")
    return column


def _real(name: str, column: Array) -> Any:
    if column.dtype.kind not in "fiu":
        raise ValueError(f"the column {name!r} must be numbers, got {column.dtype}")
    return column.astype(np.float64)


def _finite(name: str, column: Array) -> Any:
    values = _real(name, column)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: a value is not finite")
    return values

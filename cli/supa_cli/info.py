"""``supa info``: show or check the contents of a shower file."""

import json
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.options import InputFile
from supa_cli.progress import progress
from supa_cli.signals import mark_output_complete, raise_if_interrupted
from supa_cli.tables import print_facts, print_table

if TYPE_CHECKING:
    from supa_datasets import Fault, ShowerFile


_LABELS = {"incident_energy_gev": "incident energy (GeV)", "first": "first index"}
"""Names of facts that differ from their keys in JSON."""

_WORDS = {"None": "unknown", "False": "no", "True": "yes"}


@click.command(name="info")
@click.argument("file", type=InputFile(folders=True))
@click.option(
    "--check", "full_check", is_flag=True, help="Check every value. The exit status is 1 if any value is invalid."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def command(context: click.Context, file: str, full_check: bool, as_json: bool) -> None:
    """Show the contents and the origin of a shower file or a folder of shards.

    With --check, also read and check all data, and the checksum of each shard. For each kind of invalid value, print
    its count and the first shower in which it occurs.
    """
    from supa_datasets import ShowerFile

    with ShowerFile(file) as showers:
        facts, config = _facts(showers)
        faults = _faults(showers) if full_check else None
    mark_output_complete()
    if as_json:
        found = {} if faults is None else {"faults": [vars(fault) for fault in faults]}
        click.echo(json.dumps({**facts, "config": config, **found}, indent=2))
    else:
        _print(facts, config)
        if faults is not None:
            _print_faults(faults, facts["showers"])
    if faults:
        context.exit(1)


def _facts(showers: "ShowerFile") -> tuple[dict[str, Any], dict[str, Any]]:
    from supa import preset_name

    run, attributes = showers.run, showers.attributes
    hits = int(showers.num_hits.sum())
    facts: dict[str, Any] = {
        "path": str(showers.path),
        "bytes": showers.num_bytes,
        **({"shards": len(showers.shards)} if showers.shards != (showers.path,) else {}),
        "format": f"{attributes['format']} {attributes['version']}",
        "showers": len(showers),
        "hits": hits,
        "hits_per_shower": round(hits / len(showers), 3) if len(showers) else None,
        "particles_recorded": showers.has_particles,
        "preset": preset_name(run.config),
        "incident_energy_gev": str(run.config.spectrum),
        "seed": run.seed,
        "first": run.first,
        "engine": run.engine,
        **({"model": run.model} if run.model is not None else {}),
        **({"refinement": str(run.refinement)} if run.refinement is not None else {}),
        "keep": run.keep,
        "attempts": run.attempts,
        "acceptance": len(showers) / run.attempts if run.attempts else None,
        "compression": showers.compression,
    }
    facts.update({name: str(value) for name, value in attributes.items() if name.startswith("version of ")})
    return facts, run.config.to_dict()


def _faults(showers: "ShowerFile") -> "list[Fault]":
    with progress("checking", "checking every value", quiet=False) as report:
        report(0, len(showers))

        def update(done: int) -> None:
            raise_if_interrupted()
            report(done, len(showers))

        return showers.faults(update)


def _print(facts: dict[str, Any], config: dict[str, Any]) -> None:
    rows = []
    for name, value in facts.items():
        is_count = type(value) is int and name != "seed"
        text = f"{value:,}" if is_count else _WORDS.get(repr(value), f"{value}")
        rows.append((_LABELS.get(name, name.replace("_", " ")), text))
    rows.append(("config", ""))
    print_facts([*rows, *((f"  {name}", f"{value}") for name, value in config.items())])


def _print_faults(faults: "list[Fault]", showers: int) -> None:
    if not faults:
        click.echo(f"{counted(showers, 'shower')} checked: no invalid values.")
        return
    rows = [[fault.kind, f"{fault.count:,}", f"{fault.shower}"] for fault in faults]
    print_table(["fault", "count", "first shower"], rows, title="Invalid values")

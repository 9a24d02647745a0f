"""``supa info``: tell what a shower file holds."""

import json
from typing import Any

import click

from supa_cli.tables import print_facts


@click.command(name="info")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: str, as_json: bool) -> None:
    """Tell what the shower FILE holds and what made it."""
    facts, config = _facts(file)
    if as_json:
        click.echo(json.dumps({**facts, "config": config}, indent=2))
        return
    rows = []
    for name, value in facts.items():
        counted = type(value) is int and name != "seed"
        rows.append((name.replace("_", " "), f"{value:,}" if counted else f"{value}"))
    rows.append(("config", ""))
    print_facts([*rows, *((f"  {name}", f"{value}") for name, value in config.items())])


def _facts(file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from supa import preset_name
    from supa_datasets import ShowerFile

    with ShowerFile(file) as showers:
        run, attributes = showers.run, showers.attributes
        hits = int(showers.num_hits.sum())
        facts: dict[str, Any] = {
            "path": str(showers.path),
            "bytes": showers.path.stat().st_size,
            "format": f"{attributes['format']} {attributes['version']}",
            "showers": len(showers),
            "hits": hits,
            "hits_per_shower": round(hits / len(showers), 3) if len(showers) else None,
            "particles_recorded": showers.recorded,
            "preset": preset_name(run.config),
            "incident_energy_gev": str(run.config.spectrum),
            "seed": run.seed,
            "first": run.first,
            "engine": run.engine,
            "keep": run.keep,
            "attempts": run.attempts,
            "acceptance": len(showers) / run.attempts if run.attempts else None,
            "compression": showers.compression,
        }
        facts.update({name: str(value) for name, value in attributes.items() if name.startswith("version of ")})
        return facts, run.config.to_dict()

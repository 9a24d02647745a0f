"""``supa presets``: list the presets, or print one as a config file."""

import click

from supa_cli.options import PresetName
from supa_cli.tables import print_table


@click.command(name="presets")
@click.argument("name", type=PresetName(), required=False)
def command(name: str | None) -> None:
    """List the presets with their exact expectations, or print the preset NAME as a TOML file for --config."""
    from supa import PRESETS, NoClosedFormError, expectation, preset

    if name is not None:
        click.echo(preset(name).to_toml(), nl=False)
        return
    rows = []
    for item in PRESETS.values():
        try:
            exact = expectation(item.config)
        except NoClosedFormError:
            rows.append([item.name, *["-"] * 5])
            continue
        row = [
            item.name,
            f"{exact.total_hits:.1f}",
            f"{exact.tree_particles:.1f}",
            " ".join(f"{share:.3g}" for share in exact.layer_energy),
            f"{exact.leaked_energy:.1e}" if exact.leaked_energy > 1e-15 else "0",
            f"{100 * exact.probability_complete:.4g} %",
        ]
        rows.append(row)
    header = ["name", "hits", "particles", "energy by layer", "leaked", "complete"]
    print_table(
        header, rows, title="Presets, with exact means of one shower; energies as fractions of the incident energy"
    )
    click.echo("complete: fraction of showers with a hit in every readout layer (--keep complete); -: no closed form\n")
    for item in PRESETS.values():
        click.echo(f"{click.style(item.name, bold=True)}: {item.summary}")

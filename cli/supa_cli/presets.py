"""``supa presets``: list the presets, or print one as a config file."""

import click

from supa_cli.options import PresetName


@click.command(name="presets")
@click.argument("name", type=PresetName(), required=False)
def command(name: str | None) -> None:
    """List the presets with their exact expectations, or print the preset NAME as TOML, ready for --config."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from supa import PRESETS, NoClosedFormError, expectation, preset

    if name is not None:
        click.echo(preset(name).to_toml(), nl=False)
        return
    table = Table(title="Presets, with exact expectations of one shower", title_justify="left", box=box.SIMPLE)
    table.add_column("name", no_wrap=True)
    for heading in ("hits", "particles", "energy by layer", "leaked", "kept"):
        table.add_column(heading, justify="right", no_wrap=True)
    for item in PRESETS.values():
        try:
            exact = expectation(item.config)
        except NoClosedFormError:
            table.add_row(item.name, *["-"] * 5)
            continue
        table.add_row(
            item.name,
            f"{exact.total_hits:.1f}",
            f"{exact.tree_particles:.1f}",
            " ".join(f"{share:.3g}" for share in exact.layer_energy),
            f"{exact.leaked_energy:.1e}" if exact.leaked_energy > 1e-15 else "0",
            f"{100 * exact.probability_complete:.4g} %",
        )
    console = Console()
    console.print(table)
    console.print("kept: share of the showers with a hit in every readout layer (--keep complete); -: no closed form\n")
    for item in PRESETS.values():
        console.print(f"[bold]{item.name}[/bold]: {item.summary}")

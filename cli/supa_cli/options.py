"""Kinds of option values that several commands take."""

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from supa import ShowerConfig


def chosen_config(preset_name: str | None, config_file: str | None) -> "ShowerConfig | None":
    """Give the config that --preset or --config names.

    Args:
        preset_name: value of --preset.
        config_file: value of --config.

    Returns:
        The config, None if neither was given.

    Raises:
        click.UsageError: both were given, or the file is no config.
    """
    from supa import ShowerConfig, preset

    if preset_name is not None and config_file is not None:
        raise click.UsageError("--preset and --config exclude each other; choose one.")
    if preset_name is not None:
        return preset(preset_name)
    try:
        return None if config_file is None else ShowerConfig.from_file(config_file)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


class Count(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """A whole number, also written 1e6 or 1_000_000.

    Args:
        low: the smallest that is allowed.
    """

    name = "number"

    def __init__(self, low: int) -> None:
        self._low = low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number."""
        if isinstance(value, int):
            return value
        try:
            number = int(value)
        except ValueError:
            try:
                number = int(float(value)) if float(value).is_integer() else self._low - 1
            except (ValueError, OverflowError):
                number = self._low - 1
        if number < self._low:
            text = value if len(value) <= 60 else f"{value[:57]}..."
            self.fail(f"{text!r} was given, but it must be a whole number of at least {self._low}.", param, ctx)
        return number


class PresetName(click.ParamType):  # type: ignore[type-arg]
    """The name of a preset."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name."""
        from supa import preset

        try:
            preset(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the name."""
        from supa import PRESETS

        return [CompletionItem(p.name, help=p.summary) for p in PRESETS.values() if p.name.startswith(incomplete)]

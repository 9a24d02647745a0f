"""Types of option values that several commands share."""

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from supa import ShowerConfig


def chosen_config(preset_name: str | None, config_file: str | None) -> "ShowerConfig | None":
    """Return the config that --preset or --config selects.

    Args:
        preset_name: Value of --preset.
        config_file: Value of --config.

    Returns:
        The config, or None if neither option was given.

    Raises:
        click.UsageError: If both options were given, or if the file is not a config.
    """
    from supa.config import ShowerConfig
    from supa.presets import preset

    if preset_name is not None and config_file is not None:
        raise click.UsageError("--preset and --config cannot be used together; choose one.")
    if preset_name is not None:
        return preset(preset_name)
    try:
        return None if config_file is None else ShowerConfig.from_file(config_file)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def changed_config(config: "ShowerConfig", changes: Iterable[str], energy: str | None) -> "ShowerConfig":
    """Return a config with the changes of --set and --energy.

    Args:
        config: The config.
        changes: Values of --set, such as ``"num_slices=24"``.
        energy: Value of --energy, or None.

    Returns:
        The changed config.

    Raises:
        click.UsageError: If a change is not allowed.
    """
    try:
        config = config.replace(**dict(_change(text) for text in changes))
        return config.replace(incident_energy=energy) if energy is not None else config
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set {text!r} was given, but it must be KEY=VALUE, such as --set num_slices=24.")
    try:
        read = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        read = {}
    # Text that is not a TOML value is a string without quotes.
    return key.strip(), read["value"] if read.keys() == {"value"} else value.strip()


class Count(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """An integer, also written as 1e6 or 1_000_000.

    Args:
        low: Smallest allowed value.
    """

    name = "number"

    def __init__(self, low: int) -> None:
        self._low = low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert the text to an integer."""
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


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """One or several integers, separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Convert the text to a tuple of integers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            text = value if len(value) <= 60 else f"{value[:57]}..."
            self.fail(
                f"{text!r} was given, but it must be whole numbers separated by commas, such as 3 or 3,5.", param, ctx
            )


class PresetName(click.ParamType):  # type: ignore[type-arg]
    """The name of a preset."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that a preset has this name."""
        from supa.presets import preset

        try:
            preset(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the name."""
        from supa.presets import PRESETS

        return [CompletionItem(p.name, help=p.summary) for p in PRESETS.values() if p.name.startswith(incomplete)]


class PresetOrConfig(PresetName):
    """The name of a preset, or the path of a config."""

    name = "preset or config"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that the preset or the file exists."""
        if not Path(value).suffix:
            return super().convert(value, param, ctx)
        return str(InputFile().convert(value, param, ctx))


class CompletedName(click.ParamType):  # type: ignore[type-arg]
    """A name from a fixed list, which the shell completes and the command checks.

    Args:
        names: Function that returns the names. It is called on demand, since loading its module takes time.
        several: Whether the value may be several names, separated by commas.
    """

    name = "name"

    def __init__(self, names: Callable[[], Iterable[str]], *, several: bool = False) -> None:
        self._names, self._several = names, several

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the last name."""
        before, comma, last = incomplete.rpartition(",") if self._several else ("", "", incomplete)
        return [CompletionItem(f"{before}{comma}{name}") for name in self._names() if name.startswith(last)]


class Choice(click.Choice):  # type: ignore[type-arg]
    """One of a few words; the error for any other word suggests the most similar one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the word."""
        from supa.checks import did_you_mean

        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message}{did_you_mean(value, map(str, self.choices))}", param, ctx)


class InputFile(click.Path):
    """The path of a file to read.

    Args:
        folders: Whether the path may also be that of a folder.
    """

    def __init__(self, *, folders: bool = False) -> None:
        super().__init__(dir_okay=folders)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check that the file exists, before heavy packages are loaded."""
        _check_not_empty(self, value, param, ctx)
        path = str(super().convert(value, param, ctx))
        if not Path(path).exists():
            hint = " Standard input is not supported; specify a file." if path == "-" else ""
            raise click.ClickException(f"{path}: there is no such file.{hint}")
        return path


class OutputFile(click.Path):
    """The path of a file to write.

    Args:
        folders: Whether the path may also be that of a folder.
    """

    def __init__(self, *, folders: bool = False) -> None:
        super().__init__(dir_okay=folders)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check that the value is the name of a file."""
        _check_not_empty(self, value, param, ctx)
        if value == "-":
            self.fail("'-' was given, but writing to standard output is not supported; specify a file.", param, ctx)
        return super().convert(value, param, ctx)


class Folder(click.Path):
    """The path of a folder.

    Args:
        exists: Whether the folder must exist.
    """

    def __init__(self, *, exists: bool = False) -> None:
        super().__init__(file_okay=False)
        self._must_exist = exists

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check that the value is the name of a folder."""
        _check_not_empty(self, value, param, ctx)
        path = str(super().convert(value, param, ctx))
        if self._must_exist and not Path(path).is_dir():
            self.fail(f"{path}: there is no such folder.", param, ctx)
        return path


def _check_not_empty(
    kind: click.ParamType,  # type: ignore[type-arg]
    value: Any,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> None:
    if value == "":
        kind.fail("an empty name was given; is a shell variable empty?", param, ctx)

"""An unexpected end of a file, which click would report as the end of standard input."""

import click
import pytest
from click.testing import CliRunner

from supa_cli.lazy_group import LazyGroup
from supa_cli.main import cli


def _cut(*_arguments, **_options):
    raise EOFError("Ran out of input")


def test_an_unexpected_end_of_a_file_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"")
    monkeypatch.setattr("supa_datasets.ShowerFile", _cut)
    result = CliRunner().invoke(cli, ["info", str(tmp_path / "a.h5")])
    assert result.exit_code == 1
    assert result.output == "Error: A file ended unexpectedly (Ran out of input); it is empty or truncated.\n"


def test_the_end_of_standard_input_at_a_prompt_is_an_interruption():
    group = LazyGroup(
        package="supa_cli", summaries={}, invoke_without_command=True, callback=lambda: click.confirm("Go on?")
    )
    with pytest.raises(click.Abort):
        CliRunner().invoke(group, [], standalone_mode=False, catch_exceptions=False)

"""Every script in ``benchmarks/`` can start: its imports exist, and it prints its options."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "parse_args(" in path.read_text(encoding="utf-8"))


def test_scripts_are_found():
    assert len(SCRIPTS) > 40


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_starts(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    script = importlib.import_module(name)
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {name}.py")

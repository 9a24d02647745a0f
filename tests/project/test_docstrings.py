"""Every public name has a complete docstring, and its example runs."""

import doctest
import importlib
import inspect
import re

import pytest
from public_names import public_names

SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Source|Note|See also):(.*)$", re.MULTILINE)


def sections(docstring: str) -> dict[str, str]:
    """Return the text before the first section under "" and the text of each section under its name."""
    parts = SECTION.split(docstring)
    return {"": parts[0], **{parts[k]: parts[k + 1] + parts[k + 2] for k in range(1, len(parts), 3)}}


def parameters(value) -> list[str]:
    """Return the names of the arguments that a caller passes."""
    try:
        found = inspect.signature(value).parameters.values()
    except ValueError:
        return []
    return [p.name for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and not p.name.startswith("_")]


NAMES = public_names()
# Their examples take seconds. Other tests of the default run call these functions, too.
LONG = {
    "supa.write_report",
    "supa_datasets.generate_shards",
    "supa_datasets.merge_shards",
    "supa_datasets.score_file",
    "supa_datasets.score_showers",
    "supa_mamba.export_generator",
}
EXAMPLES = [
    pytest.param(*pair, id=name, marks=[pytest.mark.slow] * (name in LONG))
    for pair in NAMES
    for name in [".".join(pair)]
]


@pytest.mark.parametrize(("package", "name"), NAMES, ids=[".".join(pair) for pair in NAMES])
def test_docstring_describes_arguments_and_returned_values(package, name):
    value = getattr(importlib.import_module(package), name)
    text = inspect.getdoc(value) or ""
    found = sections(text)
    summary = text.partition("\n")[0]
    assert summary.endswith("."), f"the first line must be one sentence: {summary!r}"
    described = found.get("Args", "") + found.get("Attributes", "")
    is_exception = inspect.isclass(value) and issubclass(value, Exception)
    missing = (
        [] if is_exception else [p for p in parameters(value) if not re.search(rf"^\s+\*{{0,2}}{p}\b", described, re.M)]
    )
    assert not missing, f"arguments without a description: {missing}"
    if inspect.isfunction(value) and inspect.signature(value).return_annotation not in (None, "None"):
        assert {"Returns", "Yields"} & set(found), "no section Returns"
    assert "Example" in found, "no section Example"
    assert ">>>" in found["Example"], "the example must be a doctest"


@pytest.mark.parametrize(("package", "name"), EXAMPLES)
def test_example_runs(package, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = getattr(importlib.import_module(package), name)
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", {}, f"{package}.{name}", None, None)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(examples, out=report.append)
    assert not runner.failures, "".join(report)

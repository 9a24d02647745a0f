"""README, docs and CI say what is so."""

import importlib.util
import re

import pytest
from benchmark_files import write_tu

import supa


def _module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _blocks(root, language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (root / page).read_text(), re.DOTALL)


def test_ci_runs_the_two_commands_of_the_readme_word_for_word(root):
    job, tests, *_ = (block.strip() for block in _blocks(root, "sh"))
    assert job.startswith("pip install . && supa generate")
    assert tests.endswith("pytest")
    script = (root / ".ci" / "run").read_text().splitlines()
    assert job in script
    assert tests in script


def test_the_ten_lines_of_the_readme_run(root, tmp_path, monkeypatch, capsys):
    import supa_datasets

    monkeypatch.chdir(tmp_path)
    supa_datasets.save(supa.simulate(100), "showers.h5")
    code, _ = _blocks(root, "python")
    assert code.count("\n") <= 12
    exec(compile(code, "README.md", "exec"), {})
    assert "exact: 72.09" in capsys.readouterr().out


def test_the_lines_for_models_of_the_readme_run(root, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    import supa_datasets

    monkeypatch.chdir(tmp_path)
    supa_datasets.save(supa.simulate(500), "showers.h5")
    _, code = _blocks(root, "python")
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert set(names["batch"]) == {"points", "offset", "incident_energy"}
    assert len(names["made"]) == 1


def test_the_code_of_the_page_on_comparison_runs(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("torch", reason="PyTorch is not installed")
    names = {}
    for code in _blocks(root, "python", "docs/how_to/compare.md"):
        exec(compile(code, "compare.md", "exec"), names)
    assert (tmp_path / "report" / "report.html").exists()
    true, made = names["true"], names["made"]
    assert (made.slice == true[:100].slice).all()
    assert abs(made.energy / true[:100].energy - 1).max() < 1e-4


def test_the_learner_of_the_page_on_learning_learns(root, capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    (code,) = _blocks(root, "python", "docs/how_to/own_learner.md")
    names = {}
    exec(compile(code, "own_learner.md", "exec"), names)
    assert names["state"].history[-1].valid["model"]["loss"] < 0.03 < names["state"].history[0].valid["model"]["loss"]


def test_the_code_of_the_page_on_loaders_runs(root, tmp_path, monkeypatch):
    pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
    import supa_datasets

    monkeypatch.chdir(tmp_path)
    supa_datasets.save(supa.simulate(500), "showers.h5")
    names = {}
    for code in _blocks(root, "python", "docs/how_to/load.md"):
        exec(compile(code, "load.md", "exec"), names)
    assert names["points"].shape[1] == 4
    assert names["batch"].num_graphs == 64
    page = (root / "docs" / "how_to" / "load.md").read_text()
    for name in (*supa_datasets.TARGETS, *supa_datasets.SPLITS):
        assert f"`{name}`" in page or f'"{name}"' in page, name


def test_the_commands_of_the_readme_run(root, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from supa_cli.main import cli

    monkeypatch.chdir(tmp_path)
    first, second = _blocks(root, "sh")[2:4]
    commands = re.sub(r" +#.*", "", first + second).replace("1e4", "60").replace("1000", "60").splitlines()
    assert len(commands) == 9
    for number, name in enumerate(("true.h5", "generated.h5")):
        CliRunner().invoke(cli, ["generate", name, "-n", "60", "--seed", str(number)], catch_exceptions=False)
    for command in commands:
        program, *arguments = command.split()
        assert program == "supa"
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output


@pytest.fixture
def made_up_mutag(tmp_path, monkeypatch):
    """A small made-up set where the command looks for MUTAG first, so that nothing is downloaded."""
    pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_tu(tmp_path / "cache" / "supa" / "benchmarks" / "TUDataset", "MUTAG")


@pytest.mark.usefixtures("made_up_mutag")
def test_the_graph_commands_of_the_readme_run(root):
    from click.testing import CliRunner

    from supa_cli.main import cli

    commands = re.sub(r" +#.*", "", _blocks(root, "sh")[4]).splitlines()
    assert [command.split()[:3] for command in commands] == [["supa", "gff", k] for k in ("train", "evaluate", "bench")]
    for command in commands:
        shorter = command.replace("--folds 10", "--folds 2").replace("gff,best,backprop,majority", "majority")
        arguments = shorter.split()[1:] + (["--epochs", "2"] if "train" in command else [])
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("made_up_mutag")
def test_the_code_of_the_page_on_graph_networks_runs(root, capsys):
    names = {}
    for code in _blocks(root, "python", "docs/explanation/gff.md"):
        exec(compile(code.replace('preset("best")', 'preset("best").replace(epochs=2)'), "gff.md", "exec"), names)
    assert "tensor(" in capsys.readouterr().out
    import supa_gff

    page = (root / "docs" / "explanation" / "gff.md").read_text()
    for name in supa_gff.PRESETS:
        assert f"`{name}`" in page, name


def test_links_lead_somewhere(root):
    for page in [root / "README.md", *(root / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), (page, link)


def test_the_number_of_constants_is_that_of_the_readme(root):
    assert f"{len(supa.ShowerConfig().to_dict())} constants" in (root / "README.md").read_text()


def test_the_page_of_presets_is_up_to_date(root):
    assert (root / "docs" / "reference" / "presets.md").read_text() == _module(root / "docs" / "make_presets.py").page()


def test_every_constant_and_column_is_documented(root):
    physics = (root / "docs" / "explanation" / "physics.md").read_text()
    for name in supa.ShowerConfig().to_dict():
        spoken = {"incident_energy": "incident energy", "polar_angle": "polar angle", "azimuth": "azimuth"}
        assert spoken.get(name, f"`{name}") in physics, name
    from supa_datasets import layout

    page = (root / "docs" / "reference" / "file_format.md").read_text()
    for table in layout.tables_of(True):
        for name in table.types:
            assert re.search(rf"`({table.group}/)?{name}`", page), (table.group, name)


def test_the_changelog_and_the_citation_name_this_version(root):
    assert f"version: {supa.__version__}" in (root / "CITATION.cff").read_text()
    assert (
        "[Unreleased]" in (root / "CHANGELOG.md").read_text() or supa.__version__ in (root / "CHANGELOG.md").read_text()
    )


@pytest.mark.parametrize("word", ["/work/", "/root/", "pypi.org/simple"])
def test_no_path_of_a_machine_is_named(root, word):
    import subprocess

    listing = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in listing.stdout.split():
        path = root / name
        if path.suffix in {".py", ".md", ".toml", ".cff", ""} and path.name != "test_documents.py":
            assert word not in path.read_text(), name

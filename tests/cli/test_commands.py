"""Tests of info, plot and presets, and of the behaviour that all commands share."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

import supa
import supa_datasets
from supa_cli.commands import COMMANDS, cli

PNG = b"\x89PNG"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    supa_datasets.save(supa.simulate(200, seed=2, record="particles"), "tree.h5")
    supa_datasets.save(supa.simulate(200, "critical", seed=2), "hits.h5")
    (tmp_path / "there.png").write_text("old")
    return tmp_path


def _run(*arguments) -> str:
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_info_shows_the_origin_of_a_file(folder):
    text = _run("info", "tree.h5")
    for part in ("showers", "200", "standard", "65.0", "num_slices", "particles recorded", "supa-showers 1"):
        assert part in text
    facts = json.loads(_run("info", "tree.h5", "--json"))
    assert (facts["showers"], facts["preset"], facts["seed"], facts["attempts"]) == (200, "standard", 2, 200)
    assert facts["particles_recorded"] is True
    assert supa.ShowerConfig.from_dict(facts["config"]) == supa.preset("standard")
    assert json.loads(_run("info", "hits.h5", "--json"))["preset"] == "critical"


def test_plot_draws_profiles_and_single_showers(folder):
    assert _run("plot", "tree.h5").strip() == "tree-profile.png"
    assert _run("plot", "hits.h5", "--profile", "-o", "p.pdf").strip() == "p.pdf"
    assert _run("plot", "tree.h5", "--shower", "3").strip() == "tree-shower3.png"
    assert _run("plot", "hits.h5", "--shower", "0", "-o", "s.svg").strip() == "s.svg"
    assert _run("plot", "hits.h5", "--image", "1").strip() == "hits-layer1.png"
    assert _run("plot", "hits.h5", "--image", "0", "--shower", "3").strip() == "hits-shower3-layer0.png"
    assert _run("plot", "hits.h5", "--image", "0", "-o", "s.svg", "--overwrite").strip() == "s.svg"
    for name in ("tree-profile.png", "tree-shower3.png"):
        assert (folder / name).read_bytes()[:4] == PNG
    assert (folder / "p.pdf").read_bytes()[:4] == b"%PDF"
    assert "<svg" in (folder / "s.svg").read_text()


def test_plot_writes_interactive_pages(folder):
    pytest.importorskip("plotly", reason="plotly is not installed")
    assert _run("plot", "tree.h5", "--shower", "3", "-o", "one.html").strip() == "one.html"
    assert _run("plot", "tree.h5", "--shower", "3,5", "-o", "two.html").strip() == "two.html"
    for name, title in (("one.html", "Shower 3, seed 2: 65 GeV"), ("two.html", "2 showers of standard")):
        page = (folder / name).read_text()
        assert f"<title>{title}" in page
        assert "Colour by primary" in page
    assert sorted(path.name for path in folder.glob("*.new")) == []


MISTAKES = {
    "shower": (["plot", "tree.h5", "--shower", "200"], 2, "the file has 200 showers; the last index is 199"),
    "several": (["plot", "tree.h5", "--shower", "1,2"], 2, "only an interactive page can show several; write one "),
    "many": (["plot", "tree.h5", "--shower", "0,1,2,3,4,5,6", "-o", "a.html"], 2, "a page shows at most 6"),
    "not numbers": (["plot", "tree.h5", "--shower", "1;2"], 2, "whole numbers separated by commas, such as 3 or 3,5"),
    "page of profiles": (["plot", "tree.h5", "-o", "a.html"], 2, "only single showers have an interactive page"),
    "both": (["plot", "tree.h5", "--shower", "1", "--profile"], 2, "cannot be used together"),
    "image and profile": (["plot", "tree.h5", "--image", "1", "--profile"], 2, "cannot be used together"),
    "image of two": (["plot", "tree.h5", "hits.h5", "--image", "1"], 2, "--image draws one file, but 2"),
    "layer": (["plot", "tree.h5", "--image", "3"], 2, "the readout layers of these showers are 0 to 2"),
    "picture": (["plot", "tree.h5", "-o", "there.png"], 1, "there.png exists; choose another name, or overwrite it"),
    "ending": (["plot", "tree.h5", "-o", "a.docx"], 2, "must end in one of"),
    "no folder": (["plot", "tree.h5", "-o", "none/a.png"], 2, "the folder none does not exist"),
    "preset": (["presets", "SUPAv1"], 2, "no preset 'SUPAv1'"),
    "command": (["simulate"], 2, "No such command 'simulate'"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.usefixtures("folder")
def test_a_mistake_is_one_clear_error(arguments, code, message):
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == code
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize("command", ["info", "plot"])
def test_a_file_that_cannot_be_read_exits_with_1(tmp_path, command):
    (tmp_path / "text.h5").write_text("hello")
    for name, message in (("text.h5", "not an HDF5 file"), ("absent.h5", "no such file")):
        result = subprocess.run(
            [sys.executable, "-m", "supa_cli.main", command, name], cwd=tmp_path, capture_output=True, text=True
        )
        assert result.returncode == 1
        assert result.stderr.startswith("Error: ")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


def test_presets_are_listed_and_printed():
    text = _run("presets")
    for name in supa.PRESETS:
        assert name in text
        assert supa.ShowerConfig.from_toml(_run("presets", name)) == supa.preset(name)


def test_every_command_is_listed_with_its_own_help():
    text = _run("--help")
    for name, summary in COMMANDS.items():
        assert name in text
        assert summary in text
        assert "Usage:" in _run(name, "-h")
    assert supa.__version__ in _run("--version")


def test_help_loads_nothing_heavy():
    """`supa --help` does not import NumPy; `import supa` imports only NumPy and Numba."""
    heavy = ["h5py", "matplotlib", "scipy.stats", "torch", "rich", "awkward", "dask"]  # Numba itself imports scipy
    for code, forbidden in (
        ("import supa_cli.main", [*heavy, "numpy", "numba"]),
        ("import supa", heavy),
        ("import supa_datasets", [m for m in heavy if m != "h5py"]),
    ):
        check = f"{code}, sys\nprint(*[m for m in {forbidden!r} if m in sys.modules])"
        result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
        assert result.stdout.strip() == ""


def test_the_shell_completes_preset_names():
    from supa_cli.options import PresetName

    assert [item.value for item in PresetName().shell_complete(None, None, "s")] == [
        "standard",
        "symmetric",
        "single-layer",
    ]


LEARNING = {
    "gff train": (["gff", "train", "--dataset", "MUTAG", "-o", "m.ckpt"], "torch_geometric"),
    "gff evaluate": (["gff", "evaluate", "hits.h5"], "torch_geometric"),
    "mamba train": (["mamba", "train", "hits.h5", "--target", "primary", "-o", "m.ckpt"], "torch"),
    "mamba evaluate": (["mamba", "evaluate", "hits.h5", "hits.h5"], "torch"),
}


@pytest.mark.parametrize(("arguments", "package"), LEARNING.values(), ids=LEARNING.keys())
def test_a_missing_package_of_an_extra_is_one_clear_error(folder, monkeypatch, arguments, package):
    from supa_cli.training import options

    monkeypatch.setattr(options, "find_spec", lambda name: None if name == package else name)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert f"needs the package {package}: pip install 'supa-showers[learn]'" in " ".join(result.output.split())

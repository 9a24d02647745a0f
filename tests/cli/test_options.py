"""Values of options: misspelt names, unsuitable files and shell completion, all before PyTorch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import supa
import supa_datasets
from supa_cli.main import cli


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.h5").touch()
    Path("there.ckpt").touch()
    return tmp_path


TRAIN = ["gff", "train", "-o", "m.ckpt", "--dataset"]
ENCODER = ["mamba", "train", "x.h5", "--target"]
MISSPELT = {
    "command": (["genrate"], "Did you mean 'generate'?"),
    "sub-command": (["gff", "tarin"], "Did you mean 'train'?"),
    "preset": (["presets", "standart"], "Did you mean 'standard'?"),
    "constant": (["generate", "a.h5", "-n", "1", "--set", "num_slice=3"], "Did you mean 'num_slices'?"),
    "word": (["generate", "a.h5", "-n", "1", "--keep", "complet"], "Did you mean 'complete'?"),
    "set": ([*TRAIN, "mutag"], "Did you mean 'MUTAG'?"),
    "method": ([*TRAIN, "MUTAG", "--method", "gf"], "Did you mean 'gff'?"),
    "convolution": ([*TRAIN, "MUTAG", "--conv", "gni"], "Did you mean 'gin'?"),
    "sets": (["gff", "bench", "--datasets", "MUTAG,PROTEIN"], "Did you mean 'PROTEINS'?"),
    "methods": (["gff", "bench", "--methods", "bets"], "Did you mean 'best'?"),
    "convolutions": (["gff", "bench", "--convs", "gcn,sag"], "Did you mean 'sage'?"),
    "reference": (["gff", "bench", "--methods", "size", "--reference", "siz"], "Did you mean 'size'?"),
    "target": ([*ENCODER, "incident_enrgy", "-o", "m.ckpt"], "Did you mean 'incident_energy'?"),
    "precision": ([*ENCODER, "preset", "--precision", "bf_16", "-o", "m.ckpt"], "Did you mean 'bf16'?"),
    "format": (["convert", "x.h5", "y", "--to", "parqet"], "Did you mean 'parquet'?"),
}


@pytest.mark.parametrize(("arguments", "question"), MISSPELT.values(), ids=MISSPELT.keys())
def test_a_misspelt_name_suggests_a_similar_one(arguments, question):
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert question in " ".join(result.output.split())


def test_a_dissimilar_name_gets_no_suggestion():
    assert "Did you mean" not in CliRunner().invoke(cli, ["quark"]).output


BEFORE_TORCH = [
    *(arguments for arguments, _ in MISSPELT.values() if arguments[0] in ("gff", "mamba")),
    [*TRAIN, "MUTAG", "--method", "single-forward"],
    [*TRAIN, "MUTAG", "--root", "nowhere"],
    ["gff", "train", "--dataset", "MUTAG", "-o", "there.ckpt"],
    ["gff", "evaluate", "none.ckpt"],
    ["gff", "bench", "--root", "nowhere"],
    ["mamba", "train", "none.h5", "--target", "preset", "-o", "m.ckpt"],
    [*ENCODER, "preset", "-o", "there.ckpt"],
    [*ENCODER, "preset", "--learning-rate", "0", "-o", "m.ckpt"],
    ["mamba", "evaluate", "none.ckpt", "x.h5"],
]


def test_mistakes_are_reported_before_pytorch_is_imported():
    program = (
        "import sys\n"
        "from supa_cli.main import cli\n"
        f"for arguments in {BEFORE_TORCH!r}:\n"
        "    try:\n"
        "        cli(arguments)\n"
        "    except SystemExit as stop:\n"
        "        print(stop.code != 0, 'torch' in sys.modules, 'numba' in sys.modules and arguments[0] == 'gff')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["True False False"] * len(BEFORE_TORCH), result.stderr


def _completed(*arguments: str) -> list[str]:
    *words, last = arguments
    return [item.value for item in ShellComplete(cli, {}, "supa", "_SUPA_COMPLETE").get_completions(words, last)]


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (("gff", "train", "--dataset", "MU"), ["MUTAG"]),
        (("gff", "train", "--method", "backprop-"),
         ["backprop-linear", "backprop-accumulation", "backprop-checkpointing"]),
        (("gff", "train", "--conv", "g"), ["gcn", "gin", "gat", "gatv2", "graph"]),
        (("gff", "bench", "--datasets", "MUTAG,C"), ["MUTAG,COLLAB", "MUTAG,COX2", "MUTAG,Cora", "MUTAG,CiteSeer",
                                                      "MUTAG,CitationFull-Cora_ML", "MUTAG,CitationFull-CiteSeer",
                                                      "MUTAG,CitationFull-DBLP", "MUTAG,Coauthor-CS", "MUTAG,Cornell"]),
        (("gff", "bench", "--methods", "size,maj"), ["size,majority"]),
        (("gff", "bench", "--reference", "size"), ["size", "size-forest"]),
        (("mamba", "train", "--target", "pr"), ["primary", "preset"]),
        (("mamba", "train", "--precision", "b"), ["bf16"]),
        (("convert", "--to", "r"), ["root", "rntuple", "reference"]),
        (("convert", "--from", "calo"), ["calogan", "calochallenge"]),
        (("generate", "--preset", "st"), ["standard"]),
        (("generate", "--compression", "z"), ["zstd"]),
    ],
)  # fmt: skip
def test_the_shell_completes_values(arguments, values):
    assert _completed(*arguments) == values


def test_a_completion_loads_nothing_heavy():
    program = (
        "import sys\n"
        "from click.shell_completion import ShellComplete\n"
        "from supa_cli.main import cli\n"
        "complete = ShellComplete(cli, {}, 'supa', '_SUPA_COMPLETE').get_completions\n"
        "for words in (['gff', 'train', '--method'], ['gff', 'bench', '--datasets'], ['mamba', 'train', '--target'],\n"
        "              ['convert', '--to'], ['generate', '--preset']):\n"
        "    assert complete(words, '')\n"
        "print(*[m for m in ('torch', 'numba', 'h5py', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


OUTPUTS = {
    "parquet": (
        ["generate", "a.parquet", "-n", "1"],
        "then `supa convert a.h5 a.parquet`",
    ),
    "root": (["generate", "d/a.ROOT", "-n", "1"], "then `supa convert d/a.h5 d/a.ROOT`"),
    "npz": (["generate", "a.npz", "-n", "1"], "is a suffix of the format npz"),
    "reference": (["generate", "a.bin", "-n", "1"], "name the file a.h5"),
    "text": (["generate", "a.txt", "-n", "1"], "showers are written as HDF5, not as .txt; name the file a.h5"),
    "converted": (["convert", "x.h5", "y.root", "--to", "parquet"], "use the suffix .parquet"),
    "dash": (["generate", "-", "-n", "1"], "writing to standard output is not supported"),
    "converted dash": (["convert", "x.h5", "-"], "writing to standard output is not supported"),
    "plotted dash": (["plot", "x.h5", "-o", "-"], "writing to standard output is not supported"),
    "checkpoint dash": ([*TRAIN[:2], "--dataset", "MUTAG", "-o", "-"], "writing to standard output is not supported"),
    "compared dash": (["compare", "x.h5", "x.h5", "-o", "-"], "must be the name of a folder"),
    "report": (["compare", "x.h5", "x.h5", "-o", "r.html"], "must be the name of a folder"),
    "gff checkpoint": ([*TRAIN[:2], "--dataset", "MUTAG", "-o", "m.h5"], "name it m.ckpt"),
    "mamba checkpoint": ([*ENCODER, "preset", "-o", "m.parquet"], "name it m.ckpt"),
    "empty": (["generate", "", "-n", "1"], "an empty name was given"),
    "empty input": (["info", ""], "an empty name was given"),
    "empty root": ([*TRAIN, "MUTAG", "--root", ""], "an empty name was given"),
    "empty report": (["compare", "x.h5", "x.h5", "-o", ""], "is not a folder"),
}


@pytest.mark.parametrize(("arguments", "message"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_unsuitable_file_names_are_rejected(folder, arguments, message):
    before = sorted(folder.iterdir())
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert sorted(folder.iterdir()) == before


def test_standard_input_is_not_supported():
    result = CliRunner().invoke(cli, ["info", "-"])
    assert (result.exit_code, "Standard input is not supported" in result.output) == (1, True)


def test_an_unusual_suffix_is_noted():
    result = CliRunner().invoke(cli, ["generate", "showers", "-n", "5"], catch_exceptions=False)
    assert (result.exit_code, "Note: showers will be an HDF5 file" in result.stderr) == (0, True)
    assert len(supa_datasets.load("showers")) == 5
    result = CliRunner().invoke(cli, ["generate", "other", "-n", "5", "--quiet"], catch_exceptions=False)
    assert (result.exit_code, result.output) == (0, "")


def test_an_unwritable_folder_is_reported_with_the_given_path():
    with pytest.raises(OSError, match=r"^/proc/x.h5: .* \(no file can be created in the folder /proc\)"):
        supa_datasets.save(supa.simulate(1), "/proc/x.h5")

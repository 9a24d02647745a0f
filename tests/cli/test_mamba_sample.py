"""``supa mamba sample``: the file, exact resuming and errors."""

import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import supa  # noqa: E402
import supa_datasets  # noqa: E402
import supa_mamba  # noqa: E402
from supa_cli.mamba import sample as command  # noqa: E402
from supa_cli.mamba.sample import command as sample  # noqa: E402
from supa_datasets.chunk_queue import ChunkQueue  # noqa: E402

SIZES = supa_mamba.GeneratorConfig(d_model=32, n_layer=1, d_state=4, energy_components=2, position_components=2)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Hardly trained generators: g.ckpt of one config, m.ckpt of two, and an encoder e.ckpt."""
    folder = tmp_path_factory.mktemp("checkpoints")
    showers = supa.simulate(40, "critical", seed=1)
    config = supa_mamba.GeneratorTrainingConfig(generator=SIZES, epochs=1, batch_size=20)
    trainer = supa_mamba.train_generator(showers, config)
    supa_mamba.GeneratorCheckpoint.of(trainer).save(folder / "g.ckpt")
    parts = [supa.simulate(40, name, seed=1) for name in ("standard", "symmetric")]
    trainer = supa_mamba.train_generator(parts, config.replace(fields=("preset",)))
    supa_mamba.GeneratorCheckpoint.of(trainer).save(folder / "m.ckpt")
    encoder = supa_mamba.TrainingConfig(target="incident_energy", d_model=8, n_layer=1, epochs=1)
    supa_mamba.Checkpoint.of(supa_mamba.train(showers, encoder)).save(folder / "e.ckpt")
    return folder


@pytest.fixture
def run(checkpoints, tmp_path, monkeypatch):
    """Run the command in a folder with the checkpoints; return the result."""
    for file in checkpoints.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(sample, [*map(str, arguments), "--threads", "1"])


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_the_file_contains_the_showers_of_the_model(run):
    result = run("g.ckpt", "s.h5", "-n", 30, "--seed", 4, "--energy", "2:50", "--batch-size", 7)
    assert result.exit_code == 0, result.output
    assert "showers/s after the start" in result.output
    found = supa_datasets.load("s.h5")
    model = supa_mamba.GeneratorCheckpoint.load("g.ckpt").model()
    expected = supa_mamba.sample_showers(model, "critical", 30, seed=4, energy="2:50")
    for name in ("offset", "slice", "layer", "incident_energy", "leaked_energy", "index"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_array_equal(found.energy, expected.energy.astype(np.float32))
    assert found.run == expected.run
    assert found.run.model.startswith("ShowerGenerator mamba2 1x32 sha256:")


@pytest.mark.parametrize("draft", ["d.ckpt", "table"])
def test_a_sample_with_a_draft_is_continued(run, checkpoints, monkeypatch, draft):
    monkeypatch.setattr("supa_mamba.generator.sampling.speculation.table.STEPS", 5)
    monkeypatch.setattr("supa_mamba.generator.sampling.sampler.DRAFT_SHOWERS", 10)
    Path("d.ckpt").symlink_to(checkpoints / "g.ckpt")
    options = ("--draft", draft, "--quiet")
    result = run("g.ckpt", "whole.h5", "-n", 40, *options, "--draft-length", 2)
    assert result.exit_code == 0, result.output
    run("g.ckpt", "s.h5", "-n", 10, *options)
    assert run("g.ckpt", "s.h5", "-n", 40, "--resume", *options, "--draft-length", "auto").exit_code == 0
    assert digest("s.h5") == digest("whole.h5")
    assert " with draft " in supa_datasets.load("s.h5").run.model
    assert "it belongs to another run" in str(run("g.ckpt", "s.h5", "-n", 50, "--resume").exception)


def test_a_sample_with_integers_of_8_bits_is_named_and_continued(run):
    options = ("--int8", "weights-and-activations", "--quiet")
    run("g.ckpt", "whole.h5", "-n", 40, *options)
    run("g.ckpt", "s.h5", "-n", 10, *options)
    assert run("g.ckpt", "s.h5", "-n", 40, "--resume", *options).exit_code == 0
    assert digest("s.h5") == digest("whole.h5")
    found = supa_datasets.load("s.h5")
    assert found.run.model.endswith(" int8 weights-and-activations")
    assert "it belongs to another run" in str(run("g.ckpt", "s.h5", "-n", 50, "--resume").exception)


def test_the_config_of_the_training_is_chosen_by_its_preset(run):
    assert run("m.ckpt", "s.h5", "-n", 3, "--preset", "symmetric").exit_code == 0
    assert supa.preset_name(supa_datasets.load("s.h5").config) == "symmetric"


def test_a_sample_is_continued(run):
    run("g.ckpt", "whole.h5", "-n", 300, "--quiet")
    run("g.ckpt", "s.h5", "-n", 100, "--quiet")
    result = run("g.ckpt", "s.h5", "-n", 300, "--resume", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert digest("s.h5") == digest("whole.h5")
    assert "already contains 300 showers of this run" in run("g.ckpt", "s.h5", "-n", 300, "--resume").output
    result = run("m.ckpt", "s.h5", "-n", 400, "--preset", "standard", "--resume")
    assert "it belongs to another run (model is 'ShowerGenerator" in str(result.exception)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_what_was_sampled_before_an_interruption_or_on_a_full_disk_is_kept(run, monkeypatch, error):
    run("g.ckpt", "whole.h5", "-n", 600, "--quiet")
    with monkeypatch.context() as patched:
        if isinstance(error, KeyboardInterrupt):
            stream, pieces = supa_mamba.sample_stream, []

            def interrupted(*arguments, **options):
                for piece in stream(*arguments, **options):
                    if pieces:
                        raise error
                    pieces.append(len(piece))
                    yield piece

            patched.setattr(supa_mamba, "sample_stream", interrupted)
        else:
            write, calls = ChunkQueue._write_piece, []

            def full(self, *arguments):
                calls.append(arguments)
                if len(calls) > 200:
                    raise error
                write(self, *arguments)

            patched.setattr(ChunkQueue, "_write_piece", full)
        result = run("g.ckpt", "s.h5", "-n", 600, "--quiet")
    assert result.exit_code != 0
    if isinstance(error, OSError):
        assert "s.h5: the file cannot be written (No space left on device)" in str(result.exception)
    else:
        assert "The finished showers are in s.h5.partial; resume with the same command" in result.output
    assert not Path("s.h5").exists()
    assert Path("s.h5.partial").exists()
    assert run("g.ckpt", "s.h5", "-n", 600, "--resume", "--quiet").exit_code == 0
    assert digest("s.h5") == digest("whole.h5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["g.ckpt", "s.h5", "-n", 3, "--energy", "1:200"], "incident_energy: 200 GeV was given, but the training"),
        pytest.param(
            ["g.ckpt", "s.h5", "-n", 3, "--device", "cuda"],
            "--device: The device cuda was given, but PyTorch finds no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        (["g.ckpt", "s.h5", "-n", 3, "--preset", "standard"], "the preset 'standard' was given, but the training"),
        (["g.ckpt", "s.h5", "-n", 3, "--set", "split_late=0.9"], "differs in split_late"),
        (
            ["m.ckpt", "s.h5", "-n", 3],
            "trained on showers of standard, symmetric; choose one with --preset or --config",
        ),
        (["e.ckpt", "s.h5", "-n", 3], "e.ckpt"),
        (["none.ckpt", "s.h5", "-n", 3], "none.ckpt: there is no such file"),
        (["g.ckpt", "s.parquet", "-n", 3], "`supa mamba sample g.ckpt s.h5` with your options, then `supa convert"),
        (["g.ckpt", "s.h5", "-n", 3, "--overwrite", "--resume"], "cannot be used together"),
        (
            ["g.ckpt", "s.h5", "-n", 3, "--draft", "tables"],
            "tables is neither a checkpoint nor one of skip-layers, table",
        ),
        (["g.ckpt", "s.h5", "-n", 3, "--draft", "m.ckpt"], "--draft: it was trained on showers with 23 slices"),
        (["g.ckpt", "s.h5", "-n", 3, "--draft-length", 3], "--draft-length: there is no draft; add --draft"),
        (
            ["g.ckpt", "s.h5", "-n", 3, "--draft", "table", "--draft-length", "many"],
            "--draft-length: 'many' was given, but it must be a whole number of at least 1, or auto",
        ),
        (["g.ckpt", "s.ckpt", "-n", 3], "s.ckpt: showers are written as HDF5, not as .ckpt; name the file s.h5"),
    ],
)
def test_errors(run, arguments, message):
    result = run(*arguments)
    assert result.exit_code != 0
    assert message in result.output + str(result.exception)
    assert not list(Path().glob("s.*"))


@pytest.mark.parametrize("out", ["g.ckpt", "./g.ckpt", "m.ckpt", "c.json"])
def test_files_that_are_read_are_not_replaced(run, checkpoints, out):
    Path("c.json").write_text(json.dumps(supa.preset("critical").to_dict()))
    before = Path(out).read_bytes()
    result = run("g.ckpt", out, "-n", 3, "--draft", "m.ckpt", "--config", "c.json", "--overwrite")
    assert result.exit_code == 2
    assert f"this command reads {Path(out)}, and would replace it; choose another name" in " ".join(
        result.output.split()
    )
    assert Path(out).read_bytes() == before


def test_the_command_and_its_options_are_listed():
    help_text = CliRunner().invoke(command.command, ["--help"]).output
    assert "supa mamba sample generator.ckpt sample.h5" in " ".join(help_text.split())

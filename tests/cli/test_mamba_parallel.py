"""``supa mamba parallel``: the generator with pairs of layers, and errors."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import supa  # noqa: E402
import supa_datasets  # noqa: E402
from supa_mamba import GeneratorCheckpoint, GeneratorConfig, GeneratorTrainingConfig, train_generator  # noqa: E402

SHALLOW = supa.ShowerConfig(num_slices=10, readout_layers=((6, 9),), incident_energy="log:1:20", split_early=0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a generator of four layers."""
    path = tmp_path_factory.mktemp("generator")
    sizes = GeneratorConfig(model="mamba", d_model=32, n_layer=4, d_state=4)
    config = GeneratorTrainingConfig(generator=sizes, epochs=1, batch_size=64)
    GeneratorCheckpoint.of(train_generator(supa.simulate(80, SHALLOW, seed=1), config)).save(path / "g.ckpt")
    return path


def test_a_generator_with_pairs_is_stored_and_sampled(run_supa, folder, monkeypatch):
    monkeypatch.chdir(folder)
    code, _, err = run_supa("mamba", "parallel", "g.ckpt", "--layers", "0:4", "-o", "w.ckpt")
    assert (code, err) == (0, "w.ckpt: 2 layers, 2 of them in place of pairs\n")
    assert GeneratorCheckpoint.load("w.ckpt").config.generator.paired_layers == (0, 2)
    code, _, err = run_supa("mamba", "sample", "w.ckpt", "sample.h5", "-n", 5, "--device", "cpu")
    assert code == 0, err
    assert len(supa_datasets.load("sample.h5")) == 5


def test_no_checkpoint_is_replaced(run_supa, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    before = Path("g.ckpt").read_bytes()
    code, _, err = run_supa("mamba", "parallel", "g.ckpt", "--layers", "0:2", "-o", "g.ckpt")
    assert (code, Path("g.ckpt").read_bytes()) == (2, before)
    assert "g.ckpt exists; choose another name, or delete it." in " ".join(err.split())  # there is no --resume


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("2", "--layers: '2' was given, but it must be FIRST:LAST, such as 2:4"),
        ("1:4", "--layers: first, last: 3 layers cannot be divided into pairs"),
        ("2:6", "--layers: paired_layers: 4 was given, but the layers are 0 to 3"),
    ],
)
def test_errors(run_supa, folder, monkeypatch, layers, message):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    code, _, err = run_supa("mamba", "parallel", "g.ckpt", "--layers", layers, "-o", "x.ckpt")
    assert code == 2
    assert message in " ".join(err.split())

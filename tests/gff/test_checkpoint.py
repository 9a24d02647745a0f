"""Tests of checkpoints: exact resume, atomic writes, and errors for damaged files."""

import os
import random
import zipfile

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

from small_graphs import make_trainer  # noqa: E402
from torch_geometric.data import Data  # noqa: E402

import supa_gff  # noqa: E402
from supa_gff import GraphSet, Network, Pairs, preset  # noqa: E402
from supa_gff.checkpoint import Checkpoint  # noqa: E402
from supa_gff.negatives import AllNegatives, Hard  # noqa: E402
from supa_gff.splits.standard import Split  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _graph(random_numbers, nodes, y):
    edges = torch.randint(0, nodes, (2, 2 * nodes), generator=random_numbers)
    x = torch.randn(nodes, 4, generator=random_numbers) + y.view(-1, 1).float()
    return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=y)


@pytest.fixture(scope="module")
def graphs():
    """Return thirty graphs of three classes."""
    numbers = torch.Generator().manual_seed(1)
    return GraphSet.of([_graph(numbers, 5 + k % 4, torch.tensor([k % 3])) for k in range(30)])


@pytest.fixture(scope="module")
def nodes():
    """Return one graph with forty nodes of three classes."""
    numbers = torch.Generator().manual_seed(2)
    return GraphSet.of([_graph(numbers, 40, torch.arange(40) % 3)], level="node")


@pytest.fixture(scope="module")
def pairs(nodes):
    """Return pairs of the same nodes, of which the first half is linked."""
    whole = nodes.batch(torch.arange(40))
    numbers = torch.Generator().manual_seed(3)

    def part(count):
        units = torch.randint(0, 40, (2, count), generator=numbers)
        target = (torch.arange(count) < count // 2).float()
        return supa_gff.Batch(whole.x, whole.edge_index, whole.graph, 1, target, units)

    return Pairs(part(20), part(10))


TRAININGS = {
    "greedy with kept inputs": ("graphs", "gff", {}),
    "greedy, heads, dropout": ("graphs", "cafo", {"dropout": 0.2}),
    "greedy, kept on disk": ("graphs", "gff", {}),
    "greedy, not kept": ("graphs", "cafo", {"collaboration": True}),
    "greedy, hard negatives": ("graphs", "gff", {"negatives": Hard(1), "normalisation": "batch"}),
    "greedy, labels drawn once": ("nodes", "label-appending", {}),
    "greedy, labels drawn once, graphs": ("graphs", "gff", {"negatives": AllNegatives(redraw=False)}),
    "greedy, class nodes": ("nodes", "single-forward", {}),
    "greedy, every second epoch validated": ("nodes", "cafo", {"validate_every": 2}),
    "greedy, patience": ("graphs", "cafo", {"patience": 1, "epochs": 6}),
    "greedy, pairs of nodes": ("pairs", "link-cross-entropy", {}),
    "together": ("graphs", "best", {}),
    "together, hard negatives": ("graphs", "best-goodness", {"negatives": Hard(1)}),
    "together, voters chosen": ("graphs", "deeper-forward", {}),
    "together, nodes": ("nodes", "best", {"lr_step_size": 2}),
    "pairs of layers": ("graphs", "mono-forward", {"schedule": "overlapping-pairs", "layers": 3}),
    "backprop": ("graphs", "backprop", {}),
    "backprop, recomputed": ("nodes", "backprop", {"checkpointing": True}),
}


class _Stop(Exception):  # noqa: N818  # it is not an error
    pass


def _trainer(request, name, network=None, on_epoch=None):
    kind, method_name, changes = TRAININGS[name]
    data = request.getfixturevalue(kind)
    level = {"graphs": "graph", "nodes": "node", "pairs": "link"}[kind]
    short = {"layers": 2, "hidden_channels": 8, "epochs": 3, "batch_size": 8, "validate_every": 1}
    method = preset(method_name, level).replace(**{**short, **changes})
    if network is None:
        torch.manual_seed(5)
        network = Network(method, 4, 1, "link") if kind == "pairs" else Network.for_graphs(method, data)
    count = {"graphs": 30, "nodes": 40, "pairs": 0}[kind]
    keep = "disk" if "disk" in name else "memory"
    members = torch.arange(count)
    return make_trainer(
        network, data, members[members % 3 > 0], members[members % 3 == 0], seed=7, cache=keep, on_epoch=on_epoch
    )


def _facts(trainer):
    history = [{**vars(epoch), "seconds": 0} for epoch in trainer.state.history]
    return str(history), trainer.task.network.layer_mask.tolist()  # as text, since NaN != NaN


def _same_bits(one, other):
    assert one.keys() == other.keys()
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(one.values(), other.values(), strict=True))


@pytest.mark.parametrize("name", TRAININGS)
def test_resumed_training_is_bitwise_equal(name, request, tmp_path):
    whole = _trainer(request, name)
    whole.run()
    wanted, epochs = whole.task.network.state_dict(), len(whole.state.history)
    assert epochs >= 3
    for stop in (1, epochs // 2 + 1, epochs):

        def after(trainer, _epoch, stop=stop):
            if len(trainer.state.history) == stop:
                Checkpoint.of(trainer).save(tmp_path / "a.ckpt")
                raise _Stop

        with pytest.raises(_Stop):
            _trainer(request, name, on_epoch=after).run()
        torch.manual_seed(99 + stop)  # a different global random state
        checkpoint = Checkpoint.load(tmp_path / "a.ckpt")
        resumed = _trainer(request, name, network=checkpoint.model())
        resumed.load_state_dict(checkpoint.training)
        resumed.run()
        assert _facts(resumed) == _facts(whole), stop
        assert _same_bits(resumed.task.network.state_dict(), wanted), stop


def test_checkpoint_is_a_copy_and_can_be_resumed_twice(request):
    states = []
    whole = _trainer(request, "greedy, heads, dropout", on_epoch=lambda t, _epoch: states.append(t.state_dict()))
    whole.run()
    for _ in range(2):
        trainer = _trainer(request, "greedy, heads, dropout")
        trainer.load_state_dict(states[1])
        trainer.run()
        assert _same_bits(trainer.task.network.state_dict(), whole.task.network.state_dict())
    assert len(states[1]["state"]["history"]) == 2


def test_finished_training_is_not_continued(request, tmp_path):
    trainer = _trainer(request, "together, voters chosen")
    trainer.run()
    Checkpoint.of(trainer).save(tmp_path / "a.ckpt")
    checkpoint = Checkpoint.load(tmp_path / "a.ckpt")
    assert checkpoint.finished
    again = _trainer(request, "together, voters chosen", network=checkpoint.model())
    again.load_state_dict(checkpoint.training)
    again.run()
    assert _facts(again) == _facts(trainer)
    assert _same_bits(again.task.network.state_dict(), trainer.task.network.state_dict())


@pytest.mark.parametrize("level", ["graph", "node", "link"])
@pytest.mark.parametrize("name", supa_gff.PRESETS)
def test_load_restores_saved_checkpoint(name, level, request, tmp_path):
    try:
        method = preset(name, level).replace(layers=2, hidden_channels=8)
    except ValueError:
        return  # the preset does not support this level
    network = Network(method, 4, 1 if level == "link" else 3, level)
    data = request.getfixturevalue({"graph": "graphs", "node": "nodes", "link": "pairs"}[level])
    trainer = make_trainer(network, data, torch.arange(4), torch.arange(4, 8))
    split = Split("in words", torch.arange(4), torch.arange(4, 8), torch.arange(8, 12))
    Checkpoint.of(trainer, benchmark="MUTAG", split=split).save(tmp_path / "a.ckpt")
    read = Checkpoint.load(tmp_path / "a.ckpt")
    assert read.method == method
    assert (read.level, read.in_channels, read.out_channels) == (level, 4, network.out_channels)
    assert (read.benchmark, read.finished, read.split.words) == ("MUTAG", False, "in words")
    assert read.split.test.tolist() == [8, 9, 10, 11]
    assert set(read.versions) == {"supa-showers", "torch", "torch-geometric"}
    assert _same_bits(read.model().state_dict(), network.state_dict())
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_checkpoint_restores_degrees_of_pna(graphs, tmp_path):
    network = Network.for_graphs(preset("best").replace(conv="pna", layers=2, hidden_channels=8), graphs)
    Checkpoint.of(make_trainer(network, graphs, torch.arange(9), torch.arange(9, 18))).save(tmp_path / "a.ckpt")
    batch = graphs.batch(torch.arange(30))
    assert torch.equal(Checkpoint.load(tmp_path / "a.ckpt").model()(batch), network(batch))


def test_pna_without_edges_raises():
    lone = Data(x=torch.ones(3, 4), edge_index=torch.zeros(2, 0, dtype=torch.int64), y=torch.tensor([1]))
    with pytest.raises(ValueError, match="there are no edges; choose another convolution"):
        Network.for_graphs(preset("best").replace(conv="pna"), GraphSet.of([lone], num_outputs=2))


@pytest.fixture
def saved(request, tmp_path):
    path = tmp_path / "a.ckpt"
    trainer = _trainer(request, "together")
    Checkpoint.of(trainer).save(path)
    return path


def _error(path, match):
    with pytest.raises(ValueError, match=match) as error:
        Checkpoint.load(path)
    assert str(path) in str(error.value)


def test_damaged_file_raises(saved):
    whole = saved.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        _error(saved, "damaged or not a checkpoint")
    numbers, refused = random.Random(4), 0
    for _ in range(60):
        place = numbers.randrange(len(whole))
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            read = Checkpoint.load(saved)
        except ValueError as error:
            assert "damaged" in str(error) or "no checkpoint" in str(error)  # noqa: PT017
            refused += 1
        else:  # the byte was between the entries of the archive, where it has no effect
            saved.write_bytes(whole)
            assert _same_bits(read.model().state_dict(), Checkpoint.load(saved).model().state_dict())
    assert refused > 20


def test_tensor_that_claims_to_be_a_folder_raises(saved):
    whole = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        place = archive.start_dir
        for entry in archive.infolist():
            if entry.filename == "archive/data/0":
                break
            place += 46 + len(entry.filename) + len(entry.extra) + len(entry.comment)
    whole[place + 38] |= 0x10  # the external attributes of the entry
    saved.write_bytes(whole)
    with zipfile.ZipFile(saved) as archive:
        assert archive.getinfo("archive/data/0").external_attr == 0x10
    _error(saved, "damaged or not a checkpoint")


def test_file_of_other_format_or_version_raises(saved, tmp_path):
    values = torch.load(saved, weights_only=True)
    (tmp_path / "text.ckpt").write_text("hello")
    _error(tmp_path / "text.ckpt", "damaged or not a checkpoint")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    _error(tmp_path / "other.ckpt", "but not a checkpoint of `supa gff train`")
    torch.save([1, 2], tmp_path / "other.ckpt")
    _error(tmp_path / "other.ckpt", "but not a checkpoint of `supa gff train`")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "code.ckpt")  # loading it would run arbitrary code
    _error(tmp_path / "code.ckpt", "damaged or not a checkpoint")
    torch.save({**values, "version": 2}, tmp_path / "newer.ckpt")
    _error(tmp_path / "newer.ckpt", "its version is 2, but this program reads version 1")
    odd = {"method": {"score": {"part": "Oracle"}}, "level": "edge", "out_channels": 0, "training": {}}
    for name, value in odd.items():
        torch.save({**values, name: value}, tmp_path / "odd.ckpt")
        _error(tmp_path / "odd.ckpt", "the checkpoint is damaged")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        Checkpoint.load(tmp_path / "none.ckpt")


def test_failed_save_keeps_the_old_file(saved, request, monkeypatch):
    before = saved.read_bytes()

    def full_disk(_values, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        Checkpoint.of(_trainer(request, "together")).save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_leftover_temporary_file_is_ignored_but_concurrent_writer_raises(saved, request):
    from supa.file_lock import open_locked

    beside = saved.with_name("a.ckpt.new")
    beside.write_bytes(bytes(10**6))
    checkpoint = Checkpoint.of(_trainer(request, "together"))
    checkpoint.save(saved)
    assert not beside.exists()
    Checkpoint.load(saved)
    descriptor = open_locked(beside, os.O_CREAT)
    with pytest.raises(ValueError, match="another process is writing it"):
        checkpoint.save(saved)
    os.close(descriptor)
    assert beside.exists()  # it belongs to the other writer


def test_invalid_arguments_raise(graphs, tmp_path):
    from torch_geometric.nn import GCNConv

    network = Network.for_graphs(preset("best").replace(conv=GCNConv, layers=2), graphs)
    checkpoint = Checkpoint.of(make_trainer(network, graphs, torch.arange(9), torch.arange(9, 18)))
    with pytest.raises(ValueError, match="The convolution is a function"):
        checkpoint.save(tmp_path / "a.ckpt")
    network = Network.for_graphs(preset("best"), graphs)
    checkpoint = Checkpoint.of(make_trainer(network, graphs, torch.arange(9), torch.arange(9, 18)))
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        checkpoint.save(tmp_path / "none" / "a.ckpt")
    assert not list(tmp_path.iterdir())

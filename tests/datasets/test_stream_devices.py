"""Streams on devices: the engine cuda, batches that a thread makes ahead, and batches on a GPU."""

import gc
import os
import signal
import threading
import time
from itertools import islice

import cuda_host
import pytest
import torch
from torch.utils.data import DataLoader

from supa.engines import cuda
from supa_datasets import Nearest, ShowerStream, Tree
from supa_datasets.streams import prefetching
from supa_datasets.streams.prefetching import map_tensors, prefetched

pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

needs_compiler = pytest.mark.skipif(cuda_host.COMPILER is None, reason="no C++ compiler is installed")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

MIXTURE = (["standard", "critical", "two-primaries"], {"weights": [3, 1, 2]})
HIT_TARGETS = ["primary", "energy", "slice", "leaked_energy", "num_hits", "num_primaries", "preset"]
FORMS = {
    "points": (*MIXTURE, {"targets": ["attempt", "layer", "incident_energy"], "normalisation": "fit"}),
    "padded": (*MIXTURE, {"layout": "padded", "targets": ["source"]}),
    "graphs": (*MIXTURE, {"form": "graphs", "edges": Nearest(4), "targets": ["num_hits"]}),
    "transformed graphs": ("critical", {}, {"form": "graphs", "transform": lambda graph: graph}),
    "trees": ("standard", {"record": "particles"}, {"form": "graphs", "edges": Tree(), "targets": ["fate"]}),
    "sequences": (*MIXTURE, {"form": "sequences", "targets": ["attempt"]}),
    "paths": ("standard", {"record": "particles"}, {"form": "sequences", "order": "trajectories"}),
    "fractions": ("critical", {}, {"form": "sequences", "features": ["energy_fraction", "z"], "targets": HIT_TARGETS}),
    "images": (*MIXTURE, {"form": "images", "targets": ["leaked_energy"]}),
}
MADE_ON_GPU = ["points", "padded", "sequences", "fractions"]


def _stream(name, **changes):
    configs, options, form = FORMS[name]
    return ShowerStream(configs, 12, **({"seed": 7, "first": 1000, "length": 103} | options | form | changes))


def _plain(batch):
    return batch if isinstance(batch, dict) else batch.to_dict()


def _assert_equal(one, other, device="cpu", energy_column=None):
    """Compare two batches. The logarithm of an energy may differ in its last bit."""
    one, other = _plain(one), _plain(other)
    if energy_column is not None:
        energies, expected = one["points"][:, energy_column].cpu(), other["points"][:, energy_column]
        torch.testing.assert_close(energies, expected, rtol=0, atol=2e-6)
        one["points"][:, energy_column] = expected.to(one["points"].device)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.device.type == device, name
            assert value.dtype == other[name].dtype, name
            assert torch.equal(value.cpu(), other[name]), name
        else:
            assert value == other[name], name


def _threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("supa-prefetch")]


# ---------------------------------------------------------------------- the same batches


@pytest.mark.parametrize("name", FORMS)
def test_a_thread_makes_the_same_batches(name):
    batches = list(_stream(name, device="cpu"))
    assert len(batches) == 9
    for batch, expected in zip(batches, _stream(name), strict=True):
        _assert_equal(batch, expected)
    assert not _threads()


@needs_compiler
@pytest.mark.parametrize("name", ["points", "trees", "images"])
def test_the_engine_cuda_makes_the_same_batches(name, tmp_path, monkeypatch):
    """Without a GPU, the kernels run on the host."""
    expected = list(_stream(name))
    host = cuda_host.Host(tmp_path)
    monkeypatch.setattr(cuda, "open_gpu", lambda: host)
    for device in (None, "cpu"):
        for batch, other in zip(_stream(name, engine="cuda", device=device), expected, strict=True):
            _assert_equal(batch, other)
    parts = [_stream(name, engine="cuda", rank=rank, num_ranks=2) for rank in range(2)]
    for part in parts:
        part.start_at(3)
    others = [_stream(name, rank=rank, num_ranks=2) for rank in range(2)]
    for part, other in zip(parts, others, strict=True):
        other.start_at(3)
        for batch, batch_of_cpu in zip(part, other, strict=True):
            _assert_equal(batch, batch_of_cpu)


@needs_compiler
@pytest.mark.parametrize("name", MADE_ON_GPU)
def test_batches_that_are_made_on_a_gpu_are_those_of_the_host(name, tmp_path, monkeypatch):
    """Without a GPU, the kernels and PyTorch run on the host."""
    host = cuda_host.Host(tmp_path)
    monkeypatch.setattr(cuda, "open_gpu", lambda: host)
    stream = _stream(name, engine="cuda")
    for first in range(0, 9, 3):
        spans = [stream._span(batch) for batch in range(first, first + 3)]
        expected = _stream(name)
        expected.start_at(first)
        for batch, other in zip(stream._collated_on_gpu(stream._walker(), spans), expected, strict=False):
            _assert_equal(batch, other, energy_column=3 if "normalisation" in FORMS[name][2] else None)


@needs_compiler
def test_a_shower_that_is_too_large_for_the_gpu_is_one_clear_error(tmp_path, monkeypatch):
    host = cuda_host.Host(tmp_path)
    monkeypatch.setattr(cuda, "open_gpu", lambda: host)
    monkeypatch.setattr("supa.engines.cuda.walker.MAX_PARTICLES", 50)
    stream = ShowerStream("standard", 12, seed=7, engine="cuda", length=24)
    with pytest.raises(MemoryError, match=r"Shower \d+ grows beyond"):
        list(stream._collated_on_gpu(stream._walker(), [(0, 12)]))


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["cpu", "cuda"])
@pytest.mark.parametrize("name", FORMS)
def test_batches_on_a_gpu_are_those_of_the_cpu(name, engine):
    expected = list(_stream(name))
    busy = torch.randn(2048, 2048, device="cuda")
    for start in (0, 4):
        stream = _stream(name, engine=engine, device="cuda")
        stream.start_at(start)
        kept = []
        for batch in stream:
            busy = busy @ busy / 50  # the kernels of the training are behind the copies
            kept.append(map_tensors(lambda tensor: tensor.clone(), batch))
        for batch, other in zip(kept, expected[start:], strict=True):
            normalised = engine == "cuda" and "normalisation" in FORMS[name][2]
            _assert_equal(batch, other, "cuda", energy_column=3 if normalised else None)
    assert not _threads()


@on_gpu
@pytest.mark.gpu
def test_the_memory_of_a_batch_is_not_used_again_before_the_training_is_done_with_it():
    """Kernels that wait use a batch that the program has dropped already, while the next batches arrive."""
    size = 1 << 20
    numbers = (torch.full((size,), float(k)) for k in range(60))
    sums = []
    for batch in prefetched(numbers, torch.device("cuda")):
        torch.cuda._sleep(5_000_000)
        sums.append(batch.sum())
        del batch
    assert [float(value) for value in sums] == [size * float(k) for k in range(60)]


# ---------------------------------------------------------------------- position, errors and end


def test_the_state_counts_the_batches_that_were_handed_out():
    stream = ShowerStream("standard", 10, targets=["attempt"], device="cpu")
    iteration = iter(stream)
    assert stream.state_dict()["batch"] == 0
    for step, batch in enumerate(islice(iteration, 20), start=1):
        assert stream.state_dict()["batch"] == step
        assert batch["attempt"][0] == 10 * (step - 1)
    resumed = ShowerStream("standard", 10, targets=["attempt"])
    resumed.load_state_dict(stream.state_dict())
    assert next(iter(resumed))["attempt"][0] == 200


def test_leaving_the_loop_ends_the_thread():
    for _batch in ShowerStream("standard", 10, device="cpu"):
        assert len(_threads()) == 1
        break
    gc.collect()
    assert not _threads()


def test_errors_of_the_thread_reach_the_loop(monkeypatch):
    stream = ShowerStream("standard", 1000, device="cpu")
    collate, calls = stream.dataset.collate, []

    def failing(items):
        calls.append(len(items))
        if len(calls) == 3:
            raise MemoryError("no room for this batch")
        return collate(items)

    monkeypatch.setattr(stream.dataset, "collate", failing)
    seen = []
    with pytest.raises(MemoryError, match="no room for this batch"):
        seen.extend(len(batch["offset"]) for batch in stream)
    assert (seen, stream.state_dict()["batch"]) == ([1001, 1001], 2)
    assert not _threads()


def test_ctrl_c_ends_the_thread():
    """The signal arrives while the loop waits for a batch."""

    waiting = threading.Event()

    def batches():
        yield 0
        waiting.wait()
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        yield 1

    iteration = prefetched(batches(), torch.device("cpu"))
    assert next(iteration) == 0
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # other tests run commands, which replace it
    try:
        waiting.set()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(next(iteration))
    finally:
        signal.signal(signal.SIGINT, handler)
    del iteration
    gc.collect()
    assert not _threads()


def test_the_thread_is_only_a_few_batches_ahead():
    made = []

    def batches():
        for number in range(100):
            made.append(number)
            yield number

    iteration = prefetched(batches(), torch.device("cpu"))
    for number in islice(iteration, 10):
        assert len(made) <= number + 2 + prefetching._AHEAD
    iteration.close()
    assert len(made) < 20


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "gpu"}, "'gpu' was given, but an engine of a stream is one of cpu, cuda"),
        ({"device": "gpu"}, "device: 'gpu' was given, but it must be 'cpu', 'cuda' or a torch.device of these."),
        ({"device": "meta"}, "device: 'meta' was given"),
        ({"device": 3.5}, "device: 3.5 was given"),
        (
            {"device": "cuda:99"},
            "device: 'cuda:99' was given, but PyTorch finds no such CUDA device; use 'cpu' or None.",
        ),
    ],
)
def test_errors_of_devices_are_clear(arguments, message):
    with pytest.raises(ValueError) as error:
        ShowerStream("standard", 4, **arguments)
    assert message in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_engine_cuda_needs_a_gpu():
    with pytest.raises(ValueError, match='engine="cuda" needs'):
        ShowerStream("standard", 4, engine="cuda")


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_need_a_stream_without_a_device():
    loader = DataLoader(ShowerStream("standard", 4, device="cpu"), batch_size=None, num_workers=1)
    with pytest.raises(ValueError, match="A worker of a DataLoader needs a stream with engine='cpu' and device=None"):
        next(iter(loader))

"""The engine "cuda" produces the showers of the engine "cpu", bit for bit.

Without a GPU the device source runs on the host, compiled by the system's C++ compiler.
"""

import sys
from itertools import islice
from pathlib import Path

import cuda_host
import numpy as np
import pytest
import strategies
from hypothesis import HealthCheck, given, settings

import supa
from supa.collector import Collector
from supa.engines import cuda
from supa.engines.cuda import device, walker
from supa.engines.cuda.walker import GpuMemoryError
from supa.simulation import map_stream
from supa_datasets import ShowerWriter

needs_compiler = pytest.mark.skipif(cuda_host.COMPILER is None, reason="no C++ compiler is installed")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    return cuda_host.Host(tmp_path_factory.mktemp("walk"))


@pytest.fixture
def engine_on_host(host, monkeypatch):
    """The engine "cuda" of ``supa.simulate`` runs on the host."""
    monkeypatch.setattr(cuda, "open_gpu", lambda: host)


def assert_equal_bits(showers, expected):
    for name in ("index", "incident_energy", "leaked_energy"):
        np.testing.assert_array_equal(getattr(showers, name), getattr(expected, name), err_msg=name)
    for table in ("hits", "primaries", "particles"):
        one, other = getattr(showers, table), getattr(expected, table)
        if other is None:
            assert one is None
            continue
        np.testing.assert_array_equal(one.offset, other.offset, err_msg=table)
        assert one.columns.keys() == other.columns.keys()
        for name, column in other.columns.items():
            assert one.columns[name].dtype == column.dtype, (table, name)
            assert one.columns[name].tobytes() == column.tobytes(), (table, name)


def compare_engines(num_showers, config, **options):
    assert_equal_bits(
        supa.simulate(num_showers, config, engine="cuda", **options), supa.simulate(num_showers, config, **options)
    )


@needs_compiler
@pytest.mark.usefixtures("engine_on_host")
@pytest.mark.parametrize(
    ("preset", "keep", "record"),  # every other preset has the other two pairs of options
    [
        (preset, keep, record)
        for k, preset in enumerate(supa.PRESETS)
        for keep, record in zip(("all", "complete"), ("hits", "particles")[:: 1 if k % 2 else -1], strict=True)
    ],
)
def test_presets_have_the_bits_of_the_cpu_engine(preset, keep, record):
    compare_engines(60 if preset == "dense" else 300, preset, keep=keep, record=record, seed=7, first=1000)


@needs_compiler
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(config=strategies.configs())
def test_random_configs_have_the_bits_of_the_cpu_engine(config, host):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "open_gpu", lambda: host)
        compare_engines(20, config, record="particles", seed=3)


@needs_compiler
@pytest.mark.usefixtures("engine_on_host")
@pytest.mark.parametrize("options", [{"seed": 2**64 - 1}, {"first": 2**40 + 3}, {"energy": "log:1:100"}])
def test_large_seeds_and_indices_have_the_bits_of_the_cpu_engine(options):
    compare_engines(50, "critical", **options)


@needs_compiler
@pytest.mark.usefixtures("engine_on_host")
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("keep", ["all", "complete"])
def test_an_interrupted_file_is_resumed_to_the_bytes_of_the_cpu_engine(tmp_path, keep, compression):
    run = supa.simulate(0, keep=keep).run
    with ShowerWriter(tmp_path / "whole.h5", run, compression=compression) as writer:
        for chunk in supa.stream(2000, keep=keep):
            writer.append(chunk)
    for engine, resume in (("cuda", False), ("cpu", True), ("cuda", True)):
        with ShowerWriter(tmp_path / "parts.h5", run, compression=compression, resume=resume) as writer:
            left = 2000 - writer.num_showers
            chunks = supa.stream(left, keep=keep, first=writer.next_attempt, engine=engine, chunk_size=700)
            for chunk in islice(chunks, 1):
                writer.append(chunk)
            if engine != "cuda" or not resume:
                writer.suspend()
                continue
            for chunk in chunks:
                writer.append(chunk)
    assert (tmp_path / "parts.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@needs_compiler
@pytest.mark.usefixtures("engine_on_host")
@pytest.mark.parametrize(
    ("slices", "limit"), [(62, "_MAX_NARROW_PARTICLES"), (31, "_MAX_NARROW_PARTICLES"), (28, "_MAX_FATE_WORDS")]
)
def test_deep_and_large_showers_have_the_bits_of_the_cpu_engine(monkeypatch, slices, limit):
    # A lower limit stands for larger showers: places of 32 bits, or more particles than have stored fates.
    monkeypatch.setattr(walker, limit, 1)
    layers = ((5, 8), (9, 17), (18, slices - 1))
    config = supa.preset("standard").replace(num_slices=slices, readout_layers=layers, split_late=0.05)
    compare_engines(50, config, record="particles")


@needs_compiler
@pytest.mark.usefixtures("engine_on_host")
@pytest.mark.parametrize("keep", ["all", "complete"])
def test_threads_work_on_pieces_of_a_chunk_in_order(monkeypatch, keep):
    monkeypatch.setattr("supa.simulation_plan._GPU_CHUNK_BYTES", 200_000)
    options = {"seed": 2, "first": 5, "keep": keep}
    pieces = list(map_stream(lambda showers: showers, 500, "standard", engine="cuda", **options))
    expected = supa.simulate(500, "standard", **options)
    assert len(pieces) > 10
    collector = Collector(500, threads=1)
    for piece in pieces:
        collector.add(piece)
    assert_equal_bits(collector.showers(), expected)
    assert sum(piece.run.attempts for piece in pieces) == expected.run.attempts


@needs_compiler
def test_chunks_shrink_until_they_fit_into_the_memory_of_the_gpu(monkeypatch, host):
    class SmallGpu(cuda_host.Host):
        def empty(self, size, dtype):
            if size * np.dtype(dtype).itemsize > 1_000_000:
                raise GpuMemoryError("too large")
            return super().empty(size, dtype)

    small = SmallGpu(host._folder)
    small._libraries = host._libraries
    monkeypatch.setattr(cuda, "open_gpu", lambda: small)
    compare_engines(500, "standard")


@needs_compiler
@pytest.mark.usefixtures("engine_on_host")
def test_showers_that_grow_too_large_raise_a_clear_error(monkeypatch):
    monkeypatch.setattr("supa.engines.cuda.walker.MAX_PARTICLES", 100)
    with pytest.raises(MemoryError, match=r"Shower .* grows beyond"):
        supa.simulate(100, "dense", engine="cuda")


@needs_compiler
@pytest.mark.usefixtures("engine_on_host")
def test_showers_on_the_gpu_are_those_of_the_cpu_engine():
    options = {"seed": 4, "first": 30, "energy": "10:20"}
    showers, expected = (
        supa.simulate_on_gpu(100, "two-primaries", **options),
        supa.simulate(100, "two-primaries", **options),
    )
    assert len(showers) == 100
    assert repr(showers) == f"GpuShowers(100 showers, {len(expected.x):,} hits, seed 4, first 30)"
    for name in ("x", "y", "energy", "slice", "layer", "primary", "offset", "incident_energy", "leaked_energy"):
        np.testing.assert_array_equal(getattr(showers, name), getattr(expected, name), err_msg=name)
    single = supa.simulate_on_gpu(100, "two-primaries", precision="float32", **options)
    for name in ("x", "y", "energy"):
        np.testing.assert_array_equal(getattr(single, name), getattr(expected, name).astype(np.float32), strict=True)


@needs_compiler
@pytest.mark.usefixtures("engine_on_host")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16"}, "precision: 'float16' was given, but it must be 'float64' or 'float32'"),
        ({"num_showers": 0}, "num_showers"),
        ({"seed": -1}, "seed"),
        ({"config": "standart"}, "There is no preset 'standart'"),
    ],
)
def test_invalid_arguments_raise_a_clear_error(options, message):
    with pytest.raises(ValueError, match=message):
        supa.simulate_on_gpu(**({"num_showers": 10} | options))


def test_a_missing_package_raises_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    device._gpu.cache_clear()
    with pytest.raises(ValueError, match=r'needs the package cuda-core; install it with pip install "supa-showers'):
        supa.stream(10, engine="cuda")


def test_several_threads_raise_a_clear_error():
    with pytest.raises(ValueError, match="threads: 4 was given, but engine='cuda' uses one thread; use 1"):
        supa.simulate(10, engine="cuda", threads=4)


@pytest.fixture
def gpu():
    if not Path("/dev/nvidia0").exists():
        pytest.skip("there is no NVIDIA GPU")


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("record", ["hits", "particles"])
@pytest.mark.parametrize("preset", supa.PRESETS)
def test_presets_have_the_bits_of_the_cpu_engine_on_a_gpu(preset, record):
    count = {"hits": 1_000_000, "particles": 100_000}[record]
    compare_engines(count // 10 if preset in ("dense", "no-pass") else count, preset, record=record, seed=11)


_COMPARISON = """
extern "C" __global__ void compare(i64 count, u64* wrong) {
  FOR_EACH_INDEX(i, count) {
    u64 bits = ((u64)i + 1) * 0x9E3779B97F4A7C15ull;
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ull;
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBull;
    bits ^= bits >> 31;
    u64 mantissa = bits & 0x000FFFFFFFFFFFFFull;
    if (i % 4 == 1) mantissa |= 0x000FFFFFFFFFFFF0ull;  // close to the next power of two
    if (i % 4 == 2) mantissa &= 0x000000000000000Full;  // close to a power of two
    const double x = from_bits(mantissa | (523 + (bits >> 52) % 1000) << 52);  // from 2^-500 to 2^500
    if (bits_of(reciprocal_of(x)) != bits_of(1.0 / x) || bits_of(reciprocal_of(-x)) != bits_of(1.0 / -x) ||
        bits_of(root_of(x)) != bits_of(sqrt(x)))
      atomicAdd(wrong, 1ull);
  }
}
"""


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_reciprocals_and_roots_are_correctly_rounded(monkeypatch, tmp_path):
    source = tmp_path / "walk.cu"
    source.write_text(device._SOURCE.read_text() + _COMPARISON)
    monkeypatch.setattr(device, "_SOURCE", source)
    machine = device.Gpu()
    macros = walker.Macros(wide_path=False, wide_place=False, cut=True, parent_frame=True, record=False, single=False)
    device._compile.cache_clear()
    wrong = machine.send(np.zeros(1, np.uint64))
    machine.launch("compare", macros, (np.int64(2_000_000_000), wrong), 16 * machine.multiprocessors)
    assert machine.fetch(wrong)[0] == 0
    device._compile.cache_clear()


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_hits_on_a_gpu_become_tensors_without_a_copy():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = supa.simulate_on_gpu(1000, "standard", seed=1).x
    tensor = torch.from_dlpack(x)
    assert tensor.device.type == "cuda"
    assert tensor.data_ptr() == int(x.buffer.handle)
    np.testing.assert_array_equal(tensor.cpu().numpy(), supa.simulate(1000, "standard", seed=1).x)

"""Tests of benchmarks: results, worker processes, tables and figures."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_jobs import (
    JOBS,
    endless_in_the_last_fold,
    failing,
    measured,
    telling_its_gpu,
    telling_its_threads,
    telling_whether_its_memory_grows,
)

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
from supa_datasets import GraphBenchmark
from supa_gff.bench import runners
from supa_gff.bench.figures import plot_results
from supa_gff.bench.jobs import Cost, Job, JobResult, canonical
from supa_gff.bench.resources import Meter
from supa_gff.bench.results import ResultsFile, finished, latest, read_results
from supa_gff.bench.scores import scores_of
from supa_gff.bench.significance import corrected_t_test
from supa_gff.bench.table import table
from supa_gff.bench.worker_pool import run_jobs, visible_gpus


def _fill(path, jobs=JOBS, run=measured):
    with ResultsFile(path) as file:
        for job in file.missing(jobs):
            file.append(finished(job, run(job, None)))
        return file.of(jobs)


# ---------------------------------------------------------------------- file of results


def test_line_has_job_result_machine_and_versions(tmp_path):
    job = Job("MUTAG", "forward", "gin", 5, 3, 1, canonical({"rate": 0.01, "layers": [64, 64]}))
    cost = Cost(1.5, 1.25, 2048, "cuda")
    with ResultsFile(tmp_path / "r.jsonl") as file:
        file.append(finished(job, JobResult(81.25, None, 20, 1000, cost, (80, 10, 10))))
    (line,) = (tmp_path / "r.jsonl").read_text().splitlines()
    told = json.loads(line)
    for name, value in {
        "dataset": "MUTAG", "method": "forward", "conv": "gin", "folds": 5, "fold": 3, "seed": 1,
        "settings": {"rate": 0.01, "layers": [64, 64]}, "test_accuracy": 81.25, "valid_accuracy": None, "epochs": 20,
        "parameters": 1000, "wall_seconds": 1.5, "cpu_seconds": 1.25, "peak_memory_bytes": 2048, "device": "cuda",
        "train_size": 80, "valid_size": 10, "test_size": 10, "error": None,
    }.items():  # fmt: skip
        assert told[name] == value
    assert len(told["settings_hash"]) == 12
    assert "processor" in told["machine"]
    assert {"python", "numpy"} <= set(told["versions"])
    assert told["date"].endswith("+00:00")
    (result,) = read_results(tmp_path / "r.jsonl")
    assert result.job == job
    assert result.measured == JobResult(81.25, None, 20, 1000, cost, (80, 10, 10))


def test_incomplete_last_line_is_removed(tmp_path):
    path = tmp_path / "r.jsonl"
    _fill(path, JOBS[:3])
    whole = path.read_bytes()
    last = whole.rfind(b"\n", 0, -1) + 1
    for cut in range(last, len(whole), 7):
        path.write_bytes(whole[:cut])
        assert [r.job for r in read_results(path)] == JOBS[:2]
        with ResultsFile(path) as file:
            assert file.missing(JOBS[:3]) == JOBS[2:3]
        assert path.read_bytes() == whole[:last]
    assert [r.measured for r in _fill(path, JOBS[:3])] == [measured(job, None) for job in JOBS[:3]]
    assert len(path.read_bytes().splitlines()) == 3


def test_line_with_other_settings_does_not_count_as_done(tmp_path):
    path = tmp_path / "r.jsonl"
    others = [replace(job, settings=canonical({"rate": 0.1})) for job in JOBS[:2]]
    _fill(path, others)
    with ResultsFile(path) as file:
        assert file.missing(JOBS[:2]) == JOBS[:2]
        assert file.missing([replace(job, settings='{"rate":0.1}') for job in JOBS[:2]]) == []
        assert file.missing([replace(job, folds=10) for job in others]) == [replace(job, folds=10) for job in others]
    _fill(path, JOBS[:2])
    results = read_results(path)
    assert len(results) == 4
    assert [r.job for r in latest(results)] == JOBS[:2]
    with pytest.raises(ValueError, match="several configurations"):
        table(results)


def test_repeated_settings_machine_and_versions_are_stored_once(tmp_path):
    jobs = [replace(job, settings=canonical({"rate": rate})) for job in JOBS[:2] for rate in (0.1, 0.2)]
    path = tmp_path / "r.jsonl"
    written = _fill(path, jobs)
    _fill(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["settings"] for line in lines[:6]] == [{"rate": 0.1}, {"rate": 0.2}, None, None, {}, None]
    assert [line["machine"] is None for line in lines] == [False] + [True] * (len(lines) - 1)
    assert [line["versions"] is None for line in lines] == [False] + [True] * (len(lines) - 1)
    assert read_results(path)[:4] == written
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ValueError, match="line 1, is not a benchmark result"):
        read_results(path)


def test_failure_is_recorded_once_and_retried(tmp_path):
    path = tmp_path / "r.jsonl"
    for _ in range(2):
        with ResultsFile(path) as file:
            assert file.missing(JOBS[:1]) == JOBS[:1]
            file.append(finished(JOBS[0], "The rate is 0."))
    assert len(path.read_text().splitlines()) == 1
    _fill(path, JOBS[:1])
    (result,) = read_results(path)
    assert result.error is None


def test_other_files_are_not_changed(tmp_path):
    path = tmp_path / "notes.txt"
    for text, message in (
        ("hello", "not a file of benchmark results"),
        ("hello\n", "line 1, is not a benchmark result"),
        ('{"dataset": "MUTAG"}\n', "line 1, is not a benchmark result .*method"),
        ("[1]\n", "line 1"),
        ('{"dataset": "MUTAG", "dataset": "PTC"}\n', "line 1, .*'dataset' is given twice"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            ResultsFile(path)
        assert path.read_text() == text


def test_file_is_locked_against_other_processes(tmp_path):
    with ResultsFile(tmp_path / "r.jsonl"), pytest.raises(ValueError, match="another process is writing it"):
        ResultsFile(tmp_path / "r.jsonl")


def test_full_disk_leaves_existing_lines_unchanged(tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"
    _fill(path, JOBS[:1])
    before, write = path.read_bytes(), os.write
    with ResultsFile(path) as file:
        monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:40]))
        with pytest.raises(OSError, match="the disk is full"):
            file.append(finished(JOBS[1], measured(JOBS[1], None)))
    assert path.read_bytes() == before


@pytest.mark.parametrize("accuracy", [float("nan"), -1, 100.5])
def test_accuracy_outside_0_to_100_raises(accuracy):
    with pytest.raises(ValueError, match="must be between 0 and 100 percent"):
        JobResult(accuracy, None, 1, 1)


# ---------------------------------------------------------------------- worker processes


@pytest.mark.slow
def test_failed_jobs_do_not_affect_other_jobs(tmp_path):
    jobs = [job for job in JOBS if job.dataset == "MUTAG" and job.seed == 0]
    told = []
    with ResultsFile(tmp_path / "r.jsonl") as file:
        failures = run_jobs(jobs, file, workers=2, run=failing, progress=lambda *numbers: told.append(numbers))
        results = file.of(jobs)
    assert told == [(done, 10) for done in range(11)]
    assert failures == 6
    for result in results:
        if result.job.fold in (0, 4):
            expected = measured(result.job, None)
            cost = dataclasses.replace(expected.cost, processes=2)
            assert result.measured == dataclasses.replace(expected, cost=cost)
    assert {r.job.fold: r.error for r in results if r.error} == {
        1: "The rate is 0, but it must be above 0.",
        2: "RuntimeError: out of memory",
        3: "The worker process was killed by SIGKILL, possibly because it ran out of memory.",
    }
    page = table(results)
    assert "backprop (gin) on MUTAG, fold 2, seed 0; forward (gin) on MUTAG, fold 2, seed 0: RuntimeError" in page
    assert "(2 of 5 folds)" in page


@pytest.mark.usefixtures("forked_workers")
def test_interruption_does_not_wait_for_running_jobs(tmp_path):
    class Interrupted(Exception):  # noqa: N818
        pass

    def pause():
        if any(tmp_path.joinpath("pids").iterdir()):
            raise Interrupted

    (tmp_path / "pids").mkdir()
    endless = [job for job in JOBS if job.fold == 4][:2]
    with ResultsFile(tmp_path / "r.jsonl") as file, pytest.raises(Interrupted):
        run_jobs(endless, file, root=str(tmp_path / "pids"), workers=2, run=endless_in_the_last_fold, pause=pause)
    for process in (tmp_path / "pids").iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(process.name), 0)


@pytest.mark.slow
def test_worker_processes_ignore_ctrl_c(tmp_path):
    """Use a new interpreter, in which the first worker starts the resource tracker of multiprocessing."""
    program = (
        "from bench_jobs import JOBS, telling_what_is_blocked\n"
        "from supa_gff.bench.worker_pool import run_jobs\n"
        "from supa_gff.bench.results import ResultsFile\n"
        "with ResultsFile('r.jsonl') as file:\n"
        "    run_jobs(JOBS[:1], file, run=telling_what_is_blocked)\n"
        "    print(file.of(JOBS[:1])[0].measured.test_accuracy)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1] / "tools"), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == "2.0\n", result.stderr


@pytest.mark.parametrize("given", [None, *(pytest.param(number, marks=pytest.mark.slow) for number in ("1", "3"))])
def test_job_has_one_thread_and_environment_is_restored(given, tmp_path, monkeypatch):
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    with ResultsFile(tmp_path / "r.jsonl") as file:
        run_jobs(JOBS[:1], file, run=telling_its_threads)
        assert file.of(JOBS[:1])[0].measured.test_accuracy == 1
    assert os.environ.get("OMP_NUM_THREADS") == given


@pytest.mark.usefixtures("forked_workers")
def test_a_group_that_fails_does_not_affect_other_jobs(tmp_path):
    groups = [tuple(JOBS[:3]), *[(job,) for job in JOBS[3:5]]]
    with ResultsFile(tmp_path / "r.jsonl") as file:
        failures = run_jobs(JOBS[:5], file, root=str(tmp_path), run=measured, group=lambda jobs: groups)
        results = file.of(JOBS[:5])
    assert failures == 3
    assert all("holds neither MUTAG.zip" in result.error for result in results[:3])
    assert [result.measured for result in results[3:]] == [measured(job, None) for job in JOBS[3:5]]


@pytest.mark.usefixtures("forked_workers")
def test_processes_share_the_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    with ResultsFile(tmp_path / "r.jsonl") as file:
        run_jobs(JOBS[:4], file, run=telling_its_gpu, workers=3, gpus=visible_gpus())
        results = [result.measured for result in file.of(JOBS[:4])]
    assert {result.test_accuracy for result in results} == {5.0, 7.0}
    assert {result.cost.processes for result in results} == {2}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,7"


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(("gpus", "given", "expected"), [([], None, 0), (["0"], None, 2), (["0"], "backend:native", 0)])
def test_gpu_memory_grows_unless_it_is_configured(gpus, given, expected, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    if given is not None:
        monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", given)
    with ResultsFile(tmp_path / "r.jsonl") as file:
        run_jobs(JOBS[:1], file, run=telling_whether_its_memory_grows, gpus=gpus)
        assert file.of(JOBS[:1])[0].measured.test_accuracy == expected
    assert os.environ.get("PYTORCH_CUDA_ALLOC_CONF") == given


KILLED = """
from bench_jobs import JOBS, endless_in_the_last_fold
from supa_gff.bench.worker_pool import run_jobs
from supa_gff.bench.results import ResultsFile
from supa_gff.training.tasks import train as train_network
if __name__ == "__main__":
    with ResultsFile("r.jsonl") as file:
        run_jobs(JOBS, file, root=".", workers=2, run=endless_in_the_last_fold)
"""


def _until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # The process may be a zombie whose status has not been read.
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_killed_benchmark_can_be_resumed_and_leaves_no_process(tmp_path):
    path, script = tmp_path / "r.jsonl", tmp_path / "bench.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, script], cwd=tmp_path, env=environment)
    _until(lambda: path.exists() and path.read_bytes().count(b"\n") == 8)  # then both processes run an endless job
    process.kill()
    process.wait()
    workers = [int(file.name) for file in tmp_path.iterdir() if file.name.isdigit()]
    assert len(workers) == 2
    _until(lambda: all(map(_gone, workers)))

    done = {r.job for r in read_results(path)}
    assert len(done) == 8
    with path.open("ab") as file:
        file.write(b'{"dataset": "MUTAG", "method": "backpr')  # as after a kill during a write
    told = []
    with ResultsFile(path) as results:
        missing = results.missing(JOBS)
        assert set(missing) == set(JOBS) - done
        run_jobs(missing, results, workers=2, run=measured, progress=lambda *numbers: told.append(numbers))
        resumed = table(results.of(JOBS))
    assert told[-1] == (len(JOBS) - 8, len(JOBS) - 8)
    assert resumed == table(_fill(tmp_path / "whole.jsonl"))


def test_meter_measures_peak_memory():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of a piece of work is known from /proc only")
    np.ones(20_000_000)  # freed before the measurement
    with Meter() as small:
        np.ones(1000)
    with Meter() as large:
        np.ones(10_000_000)
    assert small.cost.peak_memory_bytes < 20e6
    assert 75e6 < large.cost.peak_memory_bytes < 100e6
    assert large.cost.device == "cpu"


def test_energy_is_read_from_the_driver_or_unknown(monkeypatch):
    from types import SimpleNamespace

    from supa_gff.bench import energy

    cuda = SimpleNamespace(get_device_properties=lambda: SimpleNamespace(uuid="1234"))
    energy._device.cache_clear()
    monkeypatch.setattr(energy, "_LIBRARY", "libmissing.so")
    assert energy.used_joules(cuda) is None

    class Library:
        def __init__(self, status):
            self.status = status

        def nvmlInit_v2(self):  # noqa: N802
            return 0

        def nvmlDeviceGetHandleByUUID(self, uuid, handle):  # noqa: N802
            return int(uuid != b"GPU-1234")

        def nvmlDeviceGetTotalEnergyConsumption(self, handle, energy):  # noqa: N802
            energy._obj.value = 2500
            return self.status

    for status, expected in ((0, 2.5), (3, None)):
        energy._device.cache_clear()
        monkeypatch.setattr(energy.ctypes, "CDLL", lambda _, status=status: Library(status))
        assert energy.used_joules(cuda) == expected
    energy._device.cache_clear()


# ---------------------------------------------------------------------- jobs


def test_jobs_are_all_supported_combinations():
    jobs = runners.make_jobs(["MUTAG", "Cora"], ["majority", "size-forest", "features"], ["gin"], folds=3, seeds=2)
    counted = Counter((job.dataset, job.method) for job in jobs)
    assert counted == {
        ("MUTAG", "majority"): 3, ("MUTAG", "size-forest"): 6, ("Cora", "majority"): 3, ("Cora", "features"): 3,
    }  # fmt: skip
    assert [job.dataset for job in jobs] == ["MUTAG"] * 9 + ["Cora"] * 6
    assert len(set(jobs)) == len(jobs)
    assert {job.settings for job in jobs if job.dataset == "Cora"} == {'{"split_seed":0,"valid_share":0.2}'}


def _trained(benchmark, fold, method, conv, seed, device="cpu"):
    return JobResult(50 + len(fold.test) + seed, 40.0, 7, 1234)


@pytest.fixture
def trained(monkeypatch):
    monkeypatch.setattr(runners, "METHODS", {"backprop": ("graph",), "forward": ("graph",)})
    monkeypatch.setattr(runners, "CONVOLUTIONS", ("gin", "gcn"))
    monkeypatch.setattr(runners, "method_settings", lambda method, conv: {"rate": 0.01})
    monkeypatch.setattr(runners, "train_and_test", _trained)


@pytest.mark.usefixtures("trained")
def test_jobs_include_settings_of_trained_methods(monkeypatch):
    jobs = runners.make_jobs(["MUTAG", "Cora"], ["forward", "majority"], ["gin", "gcn"], folds=3, seeds=2)
    assert sum(job.method == "forward" for job in jobs) == 2 * 2 * 3
    assert {job.conv for job in jobs if job.method == "forward"} == {"gin", "gcn"}
    assert json.loads(jobs[0].settings)["rate"] == 0.01
    monkeypatch.setattr(runners, "method_settings", lambda method, conv: {"rate": 0.1})
    assert runners.make_jobs(["MUTAG"], ["forward"], ["gin"], folds=3, seeds=1)[0] not in jobs
    with pytest.raises(ValueError, match="'mlp' was given, but a convolution is one of gin, gcn"):
        runners.make_jobs(["MUTAG"], ["forward"], ["mlp"], folds=3, seeds=1)


@pytest.mark.usefixtures("trained")
def test_run_job_measures_cost_and_sizes(monkeypatch):
    from types import SimpleNamespace

    import torch

    graphs = [SimpleNamespace(y=torch.tensor([k % 2])) for k in range(30)]
    monkeypatch.setattr(runners, "_loaded", lambda name, root: SimpleNamespace(task="graph", graphs=graphs))
    result = runners.run_job(Job("MUTAG", "forward", "gin", 3, 1, 4), None)
    assert (result.test_accuracy, result.epochs, result.parameters, result.sizes) == (64, 7, 1234, (18, 2, 10))
    assert result.cost.wall_seconds > 0


# The first method depends on known labels and initial weights, the second on the seed of dropout.
@pytest.mark.parametrize(("name", "learning_rate"), [("single-forward", 0.01), ("best", 0.1)])
def test_accuracies_are_of_the_validation_and_test_parts(name, learning_rate, monkeypatch):
    import torch
    from small_graphs import two_communities

    from supa_gff import GraphSet, Network, preset
    from supa_gff.bench import train_and_test
    from supa_gff.training.tasks import train as train_network
    from supa_learning import Fold, metrics

    def short(name, level):
        return preset(name, level).replace(epochs=3, hidden_channels=8, learning_rate=learning_rate)

    monkeypatch.setattr(train_and_test, "preset", short)
    data = two_communities()
    data.y = torch.randint(
        2, (80,), generator=torch.Generator().manual_seed(0)
    )  # a hard task, so that accuracies differ
    benchmark = GraphBenchmark("communities", "node", (data,), 8, 2, False)
    train, valid, test = torch.arange(10), torch.arange(10, 27), torch.arange(27, 80)
    fold = Fold(*(part.numpy() for part in (train, valid, test)))
    graphs = GraphSet.of_benchmark(benchmark)
    for seed in (3, 4):
        result = train_and_test.train_and_test(benchmark, fold, name, "gcn", seed)
        network = Network.for_graphs(short(name, "node"), graphs, seed=seed)
        train_network(network, graphs, train, valid, seed=seed)
        batches = [graphs.batch(part, train) for part in (test, valid)]
        expected = [100 * metrics.accuracy(network(batch), batch.target) for batch in batches]
        assert [result.test_accuracy, result.valid_accuracy] == pytest.approx(expected)
        assert expected[0] != expected[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["MUTAC"], ["majority"], ["gin"]), "'MUTAC' was given, but a dataset is one of AIDS"),
        ((["MUTAG"], ["bets"], ["gin"]), "'bets' was given, but a method is one of majority, size"),
        ((["Cora"], ["size"], ["gin"]), "None of the methods supports the tasks"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        runners.make_jobs(*arguments, folds=3, seeds=1)


# ---------------------------------------------------------------------- table and figure


def _results(accuracies):
    """Return results from {(method, conv, dataset): accuracies by seed and fold}."""
    return [
        finished(
            Job(name, method, conv, len(folds), fold, seed),
            JobResult(accuracy, None, 1, 1, Cost(1.0 + len(method), 1.0, 10**6 * len(method), "cpu"), (72, 8, 20)),
        )
        for (method, conv, name), seeds in accuracies.items()
        for seed, folds in enumerate(seeds)
        for fold, accuracy in enumerate(folds)
    ]


def _cells(page, start):
    lines = [line for line in page.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for line in lines for cell in line.split("|")[2:-1]]


def test_table_uses_the_singular_for_one_seed_and_one_test():
    results = _results({(name, "gin", "MUTAG"): [[80, 84, 88, 80]] for name in ("backprop", "forward")})
    page = table(results)
    assert "4 stratified folds, seed 0. " in page
    assert page.count("with Holm's correction for 1 test.") == 2


def test_table_of_known_numbers():
    results = _results(
        {
            ("backprop", "gin", "MUTAG"): [[80, 84, 88, 80], [82, 86, 90, 82]],  # folds: 81 85 89 81
            ("forward", "gin", "MUTAG"): [[78, 79, 86, 78], [78, 81, 86, 78]],  # 78 80 86 78
            ("backprop", "gin", "COX2"): [[70, 70, 70, 70], [70, 70, 70, 70]],
            ("forward", "gin", "COX2"): [[71, 72, 71, 72], [71, 72, 71, 72]],
            ("majority", "", "COX2"): [[60, 60, 60, 60]],
        }
    )
    page = table(results)
    assert _cells(page, "backprop (gin)")[:4] == ["84.0 ± 3.8", "70.0 ± 0.0", "77.0", "1.5"]
    accuracy, difference = _cells(page, "forward (gin)")[:4], _cells(page, "forward (gin)")[4:8]
    assert accuracy == ["80.5 ± 3.8", "71.5 ± 0.6", "76.0", "1.5"]
    assert _cells(page, "majority ")[:4] == ["-", "60.0 ± 0.0", "-", "-"]
    p_mutag, p_cox2 = (corrected_t_test(d, 20 / 72) for d in ([-3, -5, -3, -3], [1, 2, 1, 2]))
    # Holm orders the three tests: majority (p = 0), MUTAG, COX2.
    assert difference == [
        "backprop (gin)",
        f"-3.5 (p = {2 * p_mutag:.3f})",
        f"+1.5 (p = {max(2 * p_mutag, p_cox2):.3f})",
        "p = 1.000",
    ]
    assert "correction for 3 tests. " in page
    assert "correction for 2 tests." in page
    assert "*71 ± 4*" in page
    assert "*GFF (gcn), quoted [1]*" in page
    assert "- [1] Paliotta et al., arXiv 2302.05282, from a secondary source" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows[: rows.index(next(r for r in rows if "reference" in r))]}) == 1


def test_scores_do_not_depend_on_the_order_of_results():
    results = _results({("backprop", "gin", "MUTAG"): np.random.default_rng(0).uniform(60, 90, (3, 10)).tolist()})
    shuffled = [results[k] for k in np.random.default_rng(1).permutation(len(results))]
    (one,), (other,) = (list(scores_of(r).cells.values()) for r in (results, shuffled))
    assert one.folds.tolist() == other.folds.tolist()
    assert (one.mean, one.deviation) == (other.mean, other.deviation)


def test_incomplete_cells_do_not_contribute_to_means_and_tests():
    results = _results(
        {
            ("backprop", "gin", "MUTAG"): [[80, 84, 88]],
            ("forward", "gin", "MUTAG"): [[80, 84, 88], [80, 84, 88]],
        }
    )
    page = table(results[:-1])  # a seed of the last fold is missing
    assert _cells(page, "forward (gin)")[0] == "84.0 ± 4.0 (3 of 3 folds)"
    assert _cells(page, "forward (gin)")[1:3] == ["-", "-"]
    assert "do not contribute to means" in page
    assert "on paired folds" not in page


def test_reference_can_be_missing_or_chosen():
    results = _results({("size", "", "MUTAG"): [[80, 84, 88]], ("labels", "", "MUTAG"): [[81, 84, 87]]})
    assert "There are no results of the reference method backprop." in table(results)
    assert "Difference from size in percentage points" in table(results, reference="size")
    with pytest.raises(ValueError, match="no results yet"):
        table([])


def test_figure_has_a_point_for_each_row_and_dataset():
    names = ("backprop", "forward", "x", "y", "z", "u", "v", "w")
    results = _results({(m, c, d): [[80, 84]] for m in names for c in ("gin", "gcn") for d in ("MUTAG", "COX2")})
    figure = plot_results(results)
    assert len(figure.axes) == 4
    looks = set()
    for axes in figure.axes:
        assert len(axes.containers) == 16
        assert axes.get_xscale() == "log"
        looks |= {(c.lines[0].get_color(), c.lines[0].get_marker()) for c in axes.containers}
    assert len(looks) == 16
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == ["MUTAG", "COX2"]
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_results([finished(JOBS[0], "failed")])


def test_mean_ignores_missing_folds_and_single_fold_has_no_deviation():
    from supa_gff.bench.scores import Cell

    two, one = (
        Cell(np.array(folds), False, 0.1, 1.0, 1.0, 1.0, 1, 1.0) for folds in ([50.0, np.nan, 80.0], [np.nan, 70.0])
    )
    assert (two.mean, two.deviation) == (65.0, pytest.approx(30 / 2**0.5))
    assert one.mean == 70
    assert np.isnan(one.deviation)


def test_table_of_costs_states_what_is_shared():
    alone = Cost(2.0, 1.0, 5 * 10**6, "cuda", 80.0)
    shared = replace(alone, wall_seconds=60.0, energy_joules=2400.0).share(10)
    assert (shared.wall_seconds, shared.energy_joules, shared.peak_memory_bytes) == (6.0, 240.0, 500_000)
    results = [
        replace(result, measured=replace(result.measured, cost=cost, parameters=1234 + len(result.job.dataset)))
        for method, cost in (("backprop", alone), ("forward", replace(shared, processes=3)))
        for seeds in ([[80, 84], [82, 86]],)
        for name in ("MUTAG", "COX2")
        for result in _results({(method, "gin", name): seeds})
    ]
    page = table(results)
    assert _cells(page, "backprop (gin)")[-5:] == ["1,238 to 1,239", "2", "5", "80", "1.41"]
    assert _cells(page, "forward (gin)")[-5:] == ["1,238 to 1,239", "6", "0.5", "240", "1.41"]
    assert "Up to 10 jobs were trained together" in page
    assert "Up to 3 processes used the GPU" in page
    page = table([result for result in results if result.job.method == "backprop"])
    assert "trained together" not in page
    assert "used the GPU" not in page


def test_jobs_that_are_trained_together_equal_single_jobs(monkeypatch, tmp_path):
    import torch
    from small_graphs import triangles_or_trees

    from supa_gff import preset
    from supa_gff.bench import train_and_test

    def short(name, level="graph"):
        return preset(name, level).replace(epochs=2, layers=2, hidden_channels=8, batch_size=8)

    monkeypatch.setattr(train_and_test, "preset", short)
    benchmark = GraphBenchmark("MUTAG", "graph", tuple(triangles_or_trees(30)), 6, 2, False)
    monkeypatch.setattr(runners, "_loaded", lambda name, root: benchmark)
    names = ("backprop-linear", "gff", "majority")  # the second draws negative labels; its convolution is also refused
    jobs = [
        Job("MUTAG", name, "gcn" if name == "gff" else "gin", 3, k, s)
        for name in names
        for s in (0, 1)
        for k in range(3)
    ]
    groups = runners.group_jobs(jobs)
    assert [len(group) for group in groups] == [6] + 12 * [1]
    results = runners.run_together(groups[0], None, "cpu")
    for job, result in zip(groups[0], results, strict=True):
        alone = runners.run_job(job, None)
        assert (result.sizes, result.epochs, result.parameters) == (alone.sizes, alone.epochs, alone.parameters)
        assert result.cost.members == 6
    assert len({result.test_accuracy for result in results}) > 1

    def with_little_memory(graphs, folds, *others):
        if len(folds) > most_members:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return train_and_test.train_and_test_together(graphs, folds, *others)

    monkeypatch.setattr(runners, "train_and_test_together", with_little_memory)
    most_members = 2
    halves = runners.run_together(groups[0], None, "cpu")
    assert [replace(half, cost=None) for half in halves] == [replace(result, cost=None) for result in results]
    assert [half.cost.members for half in halves] == [1, 2, 2, 1, 2, 2]
    most_members = 0
    reason = "The memory of the GPU is too small: CUDA out of memory."
    assert runners.run_together(groups[0], None, "cpu") == [reason] * 6

    with ResultsFile(tmp_path / "r.jsonl") as file:
        for job, result in zip(groups[0], results, strict=True):
            file.append(finished(job, result))
        assert file.missing(jobs) == jobs[6:]
    assert [result.measured for result in read_results(tmp_path / "r.jsonl")] == results


def test_costs_are_medians_of_measured_jobs():
    results = []
    for job, seconds in zip(JOBS[:5], (9.0, 1.0, 2.0, None, None), strict=True):
        cost = None if seconds is None else Cost(seconds, seconds, int(seconds * 1000), "cpu")
        results.append(finished(job, replace(measured(job, None), cost=cost)))
    (cell,) = scores_of(results).cells.values()
    assert (cell.wall_seconds, cell.memory_bytes) == (2.0, 2000.0)
    assert cell.test_over_train == 0.125
    unknown = [replace(result, measured=replace(result.measured, sizes=None)) for result in results[3:]]
    (cell,) = scores_of(unknown).cells.values()
    assert cell.test_over_train == 1
    assert np.isnan([cell.wall_seconds, cell.memory_bytes]).all()

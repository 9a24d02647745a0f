"""``supa gff bench`` and ``supa gff plot``: output, files, errors and resuming."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from supa_cli.gff import _COMMANDS
from supa_cli.main import cli

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Raw files of a benchmark named MUTAG (paths of three or four nodes, longer in class 1), and a cache."""
    path = tmp_path_factory.mktemp("gff")
    random = np.random.default_rng(0)
    edges, indicator, labels, nodes = [], [], [], 0
    for graph in range(40):
        size = 3 + int(random.random() < 0.3 + 0.4 * (graph % 2))
        for k in range(nodes + 1, nodes + size):
            edges += [(k, k + 1), (k + 1, k)]
        indicator += [graph + 1] * size
        labels += random.integers(0, 3, size).tolist()
        nodes += size
    files = {
        "A": "\n".join(f"{a}, {b}" for a, b in edges),
        "graph_indicator": "\n".join(map(str, indicator)),
        "graph_labels": "\n".join(str(2 * (k % 2) - 1) for k in range(40)),
        "node_labels": "\n".join(map(str, labels)),
    }
    (path / "root").mkdir()
    with zipfile.ZipFile(path / "root" / "MUTAG.zip", "w") as archive:
        for part, text in files.items():
            archive.writestr(f"MUTAG/raw/MUTAG_{part}.txt", text + "\n")
    return path


@pytest.fixture(autouse=True)
def _here(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.chdir(tmp_path)


def _bench(folder, *arguments):
    return ["gff", "bench", "--datasets", "MUTAG", "--root", str(folder / "root"), "--folds", "5", *arguments]


def _run(*arguments):
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


# Slow tests below start the command with new interpreters as its processes.
@pytest.mark.usefixtures("forked_workers")
def test_bench_prints_writes_and_draws_its_table(folder, tmp_path):
    arguments = _bench(folder, "--methods", "majority,size", "--reference", "majority", "--table", "t.md")
    first = _run(*arguments)
    assert "| majority" in first.stdout
    assert "50.0 ± 0.0" in first.stdout
    assert "Difference from majority in percentage points" in first.stdout
    assert "GFF (gcn), quoted" in first.stdout
    assert (tmp_path / "t.md").read_text() == first.stdout
    assert "10 jobs, of which results.jsonl contains 0" in first.stderr
    assert "10 of 10 jobs" in first.stderr
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 10
    again = _run(*arguments)
    assert "results.jsonl contains 10" in again.stderr
    assert again.stdout == first.stdout
    assert _run("gff", "plot", "results.jsonl").stdout.strip() == "results.png"
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"
    assert _run("gff", "plot", "results.jsonl", "-o", "f.pdf").stdout.strip() == "f.pdf"
    refused = CliRunner().invoke(cli, ["gff", "plot", "results.jsonl"])
    assert (refused.exit_code, "results.png exists; choose another name, or overwrite it" in refused.output) == (
        1,
        True,
    )
    assert _run("gff", "plot", "results.jsonl", "--overwrite").stdout.strip() == "results.png"
    assert _run(*arguments, "--quiet").stderr == ""


def _started_until(lines, arguments, path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-m", "supa_cli.main", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 300
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


@pytest.mark.slow
def test_an_interrupted_or_killed_bench_resumes_to_the_same_table(folder, tmp_path):
    from supa_gff.bench import runners
    from supa_gff.bench.results import read_results
    from supa_gff.bench.table import table

    arguments = _bench(folder, "--methods", "labels-forest", "--seeds", "3")
    path = tmp_path / "results.jsonl"

    process = _started_until(2, arguments, path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the processes that run jobs, too
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "The finished jobs are in results.jsonl; repeat the command to resume." in err
    assert "Traceback" not in err
    interrupted = path.read_text().splitlines()
    assert 2 <= len(interrupted) < 15
    assert all(json.loads(line)["error"] is None for line in interrupted)

    process = _started_until(len(interrupted) + 2, arguments, path)
    process.kill()
    process.communicate(timeout=60)
    killed = path.read_text().splitlines()
    assert killed[: len(interrupted)] == interrupted
    assert len(interrupted) + 2 <= len(killed) < 15

    resumed = _run(*arguments)
    assert f"15 jobs, of which results.jsonl contains {len(killed)}" in resumed.stderr
    lines = path.read_text().splitlines()
    assert lines[: len(killed)] == killed
    jobs = [(line["fold"], line["seed"]) for line in map(json.loads, lines)]
    assert sorted(jobs) == [(fold, seed) for fold in range(5) for seed in range(3)]
    whole = runners.make_jobs(["MUTAG"], ["labels-forest"], ["gin"], folds=5, seeds=3)
    stored = {(result.job.fold, result.job.seed): result for result in read_results(path)}
    for job in whole:
        again, before = runners.run_job(job, str(folder / "root")), stored[job.fold, job.seed].measured
        assert dataclasses.replace(again, cost=None) == dataclasses.replace(before, cost=None)
    assert resumed.stdout == table([stored[job.fold, job.seed] for job in whole])


MISTAKES = {
    "set": (["bench", "--datasets", "MUTAC"], "'MUTAC' was given, but a graph benchmark is one of AIDS"),
    "empty name": (["bench", "--datasets", "MUTAG,,"], "must be names separated by commas"),
    "method": (["bench", "--methods", "bets"], "'bets' was given, but a method is one of majority, size"),
    "task": (["bench", "--methods", "features"], "None of the methods supports the tasks"),
    "reference": (["bench", "--methods", "size", "--reference", "labels"], "'labels' is not one of the methods size."),
    "folds": (["bench", "--folds", "1"], "at least 2"),
    "workers": (["bench", "-j", "0"], "at least 1"),
    "no root": (["bench", "--methods", "size", "--root", "nowhere"], "there is no such folder"),
    "not in root": (["bench", "--methods", "size", "--root", "."], "holds neither MUTAG.zip nor"),
    "table": (["bench", "--methods", "size", "--table", "no/t.md"], "its folder does not exist"),
    "no results": (["plot", "none.jsonl"], "there is no such file"),
    "other results": (["plot", "notes.txt"], "not a file of benchmark results"),
    "ending": (["plot", "good.jsonl", "-o", "f.docx"], "must end in one of"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_error(arguments, message, tmp_path, monkeypatch):
    from bench_jobs import JOBS, measured

    from supa_gff.bench.results import ResultsFile, finished

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "notes.txt").write_text("hello")
    with ResultsFile("good.jsonl") as file:
        file.append(finished(JOBS[0], measured(JOBS[0], None)))
    result = CliRunner().invoke(cli, ["gff", *arguments])
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())


def test_a_set_that_cannot_be_downloaded_is_one_clear_error(tmp_path, monkeypatch):
    from torch_geometric import datasets

    def offline(*_):
        raise OSError("Network is unreachable")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "TUDataset", offline)
    result = CliRunner().invoke(cli, ["gff", "bench", "--datasets", "MUTAG", "--methods", "size"])
    assert result.exit_code == 2
    assert "MUTAG: the set cannot be downloaded or read (Network is unreachable)" in " ".join(result.output.split())
    assert "--root" in result.output


@pytest.mark.slow
def test_failed_jobs_are_reported_and_the_others_are_stored(folder, monkeypatch):
    from bench_jobs import failing

    from supa_gff.bench import worker_pool

    run_jobs = worker_pool.run_jobs
    monkeypatch.setattr(worker_pool, "run_jobs", lambda *given, **named: run_jobs(*given, **named, run=failing))
    result = CliRunner().invoke(cli, _bench(folder, "--methods", "majority"))
    assert result.exit_code == 1
    assert "3 jobs failed; the table shows the reasons" in result.output
    assert "(2 of 5 folds)" in result.output


def test_every_command_is_listed_with_its_own_help():
    text = " ".join(_run("gff", "--help").output.split())
    for name, summary in _COMMANDS.items():
        assert summary in text
        assert "Usage:" in _run("gff", name, "-h").output
    assert "No such command 'draw'" in CliRunner().invoke(cli, ["gff", "draw"]).output


def test_help_loads_nothing_heavy():
    check = (
        "import sys, supa_cli.main, supa_cli.gff, supa_cli.gff.bench, supa_cli.gff.plot\n"
        "print(*[m for m in ('numpy', 'numba', 'torch', 'rich', 'sklearn', 'supa_gff') if m in sys.modules])\n"
        "import supa_gff, supa_gff.bench\n"
        "print(*[m for m in ('numpy', 'torch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []

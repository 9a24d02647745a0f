"""Documentation: all code blocks run, all links lead to existing places, and stated facts are true."""

import dataclasses
import importlib.util
import json
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cuda_host
import pytest
from benchmark_files import write_planetoid, write_tu
from pages import Page, Result, run_page

import supa
from supa.engines import cuda
from supa_datasets.benchmark_tasks import shower_metrics

ROOT = Path(__file__).parents[2]
BUILT = ("_build", "generated")  # folders that building the site fills
PAGES = {
    path.relative_to(ROOT).as_posix(): Page.read(path)
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md"), *(ROOT / "docs").rglob("*.md")])
    if not set(BUILT) & set(path.parts)
}
WITH_CODE = [name for name, page in PAGES.items() if {"python", "pycon", "sh"} & {b.language for b in page.blocks}]


# ---------------------------------------------------------------------- how the code blocks of a page are run

REPLACED: dict[str, dict[str, str]] = {
    "README.md": {
        "-n 1e4": "-n 60",
        "--shards 4": "--shards 4 --workers 1",
        "-n 1000": "-n 60",
        "-n 1e5": "-n 120",
        "-n 2000": "-n 120",
        "--epochs 4": "--epochs 1",
        "--epochs 14": "--epochs 1 --d-model 16 --n-layer 1",
        "--batch-size 512": "--batch-size 32",
        "--method best -o": "--method best --epochs 2 -o",
        "gff,best,backprop,majority --folds 10 -j 2": "majority --folds 2",
        "generated.h5 -o report": "generated.h5 --fast --permutations 20 -o report",
        "sample.h5 -o sampled": "sample.h5 --fast --permutations 20 -o sampled",
        "--preset small": "--d-model 32 --n-layer 1 --epochs 1 --batch-size 16 --batches-per-epoch 2 "
        "--validation-showers 60",
    },
    "docs/get_started/first_steps.md": {"-n 2000": "-n 120", "--epochs 4": "--epochs 1"},
    "docs/how_to/simulate_on_gpu.md": {
        "supa.simulate_on_gpu(1_000_000": "supa.simulate_on_gpu(100",
        "1_000_000": "100",
        "-n 1e6": "-n 100",
    },
    "docs/explanation/gff.md": {'preset("best")': 'preset("best").replace(epochs=2)'},
    "docs/explanation/gff_nodes.md": {
        'preset("best", "node")': 'preset("best", "node").replace(epochs=60)',
        'preset("link-cross-entropy", "link")': 'preset("link-cross-entropy", "link").replace(epochs=20)',
    },
    "docs/how_to/train_encoders.md": {
        "-n 1e5": "-n 120",
        "--target incident_energy -o": "--target incident_energy --d-model 16 --n-layer 1 --epochs 2 -o",
        "--target primary": "--target primary --d-model 16 --n-layer 1 --epochs 2",
    },
    "docs/how_to/compare.md": {
        "generated.h5 -o report": "generated.h5 --fast --permutations 20 -o report",
        "simulate(2_000": "simulate(200",
        "multivariate=False": "multivariate=False, repeats=20",
    },
    "docs/how_to/clusters.md": {"--workers 2": "--workers 1", "workers=2": "workers=1"},
    "docs/how_to/many_files.md": {"--workers 2": "--workers 1"},
    "docs/how_to/benchmark.md": {"num=2000": "num=200", "num=1000": "num=500"},
    "docs/how_to/train_graph_networks.md": {
        "--method best": "--method best --epochs 2",
        "--epochs 50": "--epochs 2",
        "--method mono-forward --root raw": "--method mono-forward --epochs 2",
    },
}
"""Texts that make the code of a page small enough for a test: page, text in the page, text that is run."""

SKIPPED: dict[str, dict[str, str]] = {}
"""Blocks that cannot run here: page, first line of the block, reason (such as "needs a GPU")."""


def _two_files(folder: Path) -> None:
    import supa_datasets

    supa_datasets.save(supa.simulate(60, seed=1), folder / "true.h5")
    supa_datasets.save(supa.simulate(200, seed=2), folder / "generated.h5")


def _file_of_showers(folder: Path) -> None:
    import supa_datasets

    supa_datasets.save(supa.simulate(500), folder / "showers.h5")


PREPARED: dict[str, Callable[[Path], None]] = {
    "README.md": _two_files,
    "docs/how_to/load.md": _file_of_showers,
}
"""Functions that write the files that a page assumes."""


# ---------------------------------------------------------------------- what the code of a page must have done


def _check_readme(result: Result) -> None:
    first = next(block for block in PAGES["README.md"].blocks if block.language == "python")
    assert first.text.count("\n") <= 12
    assert "exact: 72.09" in result.output
    assert set(result.names["batch"]) == {"points", "offset", "incident_energy"}
    assert len(result.names["made"]) == 1


def _check_compare(result: Result) -> None:
    assert Path("report", "report.html").exists()
    true, made = result.names["true"], result.names["made"]
    assert (made.slice == true[:100].slice).all()
    assert abs(made.energy / true[:100].energy - 1).max() < 1e-4


def _check_learner(result: Result) -> None:
    first, *_, last = (epoch.valid["model"]["loss"] for epoch in result.names["state"].history)
    assert last < 0.03 < first


def _check_loaders(result: Result) -> None:
    import supa_datasets

    assert result.names["points"].shape[1] == 4
    assert result.names["batch"].num_graphs == 64
    _check_listed("docs/how_to/load.md", (*supa_datasets.TARGETS, *supa_datasets.SPLITS))


def _check_graphs(result: Result) -> None:
    import supa_gff

    assert "tensor(" in result.output
    _check_listed("docs/explanation/gff.md", supa_gff.PRESETS)


def _check_nodes(result: Result) -> None:
    accuracy, area = re.findall(r"[01]\.\d+", result.output)
    assert 0.5 < float(accuracy) <= 1
    assert 0.5 < float(area) <= 1


def _check_graph_commands(result: Result) -> None:
    assert Path("module.pt").exists()
    graph, module = result.names["graph"], result.names["module"]
    assert module(graph.x, graph.edge_index).shape == (1, 2)
    printed = json.loads(re.search(r"^\{.*?^\}", result.output, re.DOTALL | re.MULTILINE)[0])
    _check_listed("docs/how_to/train_graph_networks.md", printed)


def _check_modules(result: Result) -> None:
    assert result.names["state"].shape == (3, 64, 16)
    assert result.names["y"].shape == (1, 5, 64)


def _check_encoders(result: Result) -> None:
    from supa_mamba.config import TrainingConfig

    assert '"target": "primary"' in result.output
    assert "bayes_rms" in result.output
    [settings] = (b.text for b in PAGES["docs/how_to/train_encoders.md"].blocks if b.language == "toml")
    Path("settings.toml").write_text(settings, encoding="utf-8")
    assert TrainingConfig.from_file("settings.toml") == TrainingConfig(target="incident_energy")


CHECKS: dict[str, Callable[[Result], None]] = {
    "README.md": _check_readme,
    "docs/how_to/compare.md": _check_compare,
    "docs/how_to/load.md": _check_loaders,
    "docs/how_to/own_learner.md": _check_learner,
    "docs/how_to/train_graph_networks.md": _check_graph_commands,
    "docs/explanation/gff.md": _check_graphs,
    "docs/explanation/gff_nodes.md": _check_nodes,
    "docs/how_to/train_encoders.md": _check_encoders,
    "docs/how_to/sequence_models.md": _check_modules,
}
"""Functions that check the result of a page, called in the folder in which the page was run."""


def _check_listed(page: str, names) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = [name for name in names if f"`{name}`" not in text and f'"{name}"' not in text]
    assert missing == []


@pytest.mark.parametrize(  # the page that has a command of each kind, and the others only in the slow tests
    "name", [name if name == "README.md" else pytest.param(name, marks=pytest.mark.slow) for name in WITH_CODE]
)
def test_code_blocks_run(name, tmp_path, monkeypatch, request):
    page = PAGES[name]
    if re.search(r"torch|learn|gff|mamba", "".join(block.text for block in page.blocks)):
        pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
        request.getfixturevalue("forked_workers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    _use_made_up_benchmarks(tmp_path / "cache", monkeypatch)
    monkeypatch.setattr(supa, "write_report", partial(_short_report, supa.write_report))
    monkeypatch.setattr(shower_metrics, "FLOOR_SAMPLES", 2)  # the default of 20 takes seconds
    if cuda_host.COMPILER:  # the kernels run on the host where there is no GPU
        monkeypatch.setattr(cuda, "open_gpu", lambda: cuda_host.Host(tmp_path))
    PREPARED.get(name, lambda _: None)(tmp_path)
    result = run_page(page, SKIPPED.get(name, {}), REPLACED.get(name, {}))
    CHECKS.get(name, lambda _: None)(result)


def _short_report(write_report, result, folder):
    """Write a report of three observables. Drawing all of them takes seconds; test_compare.py does it."""
    return write_report(dataclasses.replace(result, observables=result.observables[:3]), folder)


def _use_made_up_benchmarks(cache: Path, monkeypatch) -> None:
    """Write small sets under the names of MUTAG and Cora into the cache, so that nothing is downloaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    folder = cache / "supa" / "benchmarks"
    write_tu(folder / "TUDataset", "MUTAG")
    write_planetoid(folder / "Planetoid", "Cora", assortative=True)


def test_tables_name_existing_pages():
    assert {*REPLACED, *SKIPPED, *PREPARED, *CHECKS} <= set(WITH_CODE)


# ---------------------------------------------------------------------- form


@pytest.mark.parametrize("name", PAGES)
def test_lines_are_short(name):
    """Lines of tables and code, and lines without a space, may be longer than 120 characters."""
    exempt = "docs/reference/presets.md"  # written by docs/make_presets.py
    long = [
        number
        for number, line in PAGES[name].prose
        if len(line) > 120 and not line.lstrip().startswith("|") and " " in line.strip() and name != exempt
    ]
    assert long == [], f"lines longer than 120 characters in {name}"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_existing_files_and_headings(name):
    broken = [f"line {line}: {target}" for line, target in PAGES[name].links if not _exists(PAGES[name].path, target)]
    assert broken == []


def _exists(page: Path, target: str) -> bool:
    if re.match(r"[a-z]+:", target):  # another host, or a link that Sphinx resolves and checks
        return True
    file, _, anchor = target.partition("#")
    path = (page.parent / file).resolve() if file else page
    if path.parent == ROOT / "docs" / "tutorials" and path.suffix == ".ipynb":  # copied when the site is built
        return (ROOT / "examples" / path.name).exists()
    if not path.exists():
        return False
    return not anchor or path.suffix != ".md" or anchor in Page.read(path).anchors


# ---------------------------------------------------------------------- facts


def test_ci_runs_the_two_commands_of_the_readme(root):
    job, tests, *_ = (block.text.strip() for block in PAGES["README.md"].blocks if block.language == "sh")
    assert job.startswith("pip install . && supa generate")
    assert tests.endswith("pytest -n 2")
    script = (root / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert job in script
    assert tests in script


def test_readme_states_the_number_of_constants(root):
    number = len(supa.ShowerConfig().to_dict())
    assert f"{number} constants" in (root / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("script", "page"),
    [("make_presets", "reference/presets.md"), ("make_benchmark_tables", "explanation/benchmark_tasks.md")],
)
def test_generated_page_is_up_to_date(root, script, page):
    spec = importlib.util.spec_from_file_location(script, root / "docs" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (root / "docs" / page).read_text(encoding="utf-8") == module.page()


def test_every_constant_and_column_is_documented(root):
    physics = (root / "docs" / "explanation" / "physics.md").read_text(encoding="utf-8")
    for name in supa.ShowerConfig().to_dict():
        words = {"incident_energy": "incident energy", "polar_angle": "polar angle", "azimuth": "azimuth"}
        assert words.get(name, f"`{name}") in physics, name
    from supa_datasets import layout

    page = (root / "docs" / "reference" / "file_format.md").read_text(encoding="utf-8")
    for table in layout.tables_of(True):
        for name in table.types:
            assert re.search(rf"`({table.group}/)?{name}`", page), (table.group, name)


def test_changelog_and_citation_name_this_version(root):
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {supa.__version__}" in (root / "CITATION.cff").read_text(encoding="utf-8")
    assert "[Unreleased]" in changelog or supa.__version__ in changelog


@pytest.mark.parametrize("word", ["/work/", "/root/", "pypi.org/simple"])
def test_no_file_names_a_path_of_one_machine(root, word):
    listing = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in listing.stdout.split():
        path = root / name
        if path.suffix in {".py", ".md", ".toml", ".cff", ".yaml", ".yml", ".ipynb", ""} and path != Path(__file__):
            assert word not in path.read_text(encoding="utf-8"), name

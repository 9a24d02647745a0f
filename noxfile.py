"""Checks of the project. `.ci/run` runs the same sessions; this file is the only place that defines their commands.

    nox                                   # lint, types, imports, tests: what a change must pass before review
    nox -s tests -- tests/supa -k image   # some tests; pytest reads what follows --
    nox --list                            # all sessions

Each session makes its own environment in `.nox`. With `nox --no-venv --no-install` a session uses the current
environment, which must have the extra "dev".
"""

from pathlib import Path

import nox

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
MAIN_JOB = "pip install . && supa generate showers.h5 --num-showers 10000"  # as in README.md and .ci/run
LOWEST_FAST = [
    "tests/project/test_shower_bits.py",
    "tests/supa/test_checks.py",
    "tests/supa/test_config.py",
    "tests/supa/test_external.py",
    "tests/supa/test_grids.py",
    "tests/supa/test_serialise.py",
    "tests/supa/test_showers.py",
    "tests/supa/plotting",
    "tests/datasets/test_convert_columns.py",
]

nox.options.sessions = ["lint", "types", "imports", "tests"]
nox.options.reuse_existing_virtualenvs = True


@nox.session
def main_job(session: nox.Session) -> None:
    """Install the package and generate a file of showers."""
    folder = session.create_tmp()
    session.run("bash", "-c", f"{MAIN_JOB.replace('showers.h5', f'{folder}/showers.h5')} --overwrite", external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and spelling, and that notebooks contain no outputs."""
    session.install("ruff>=0.6", "codespell>=2.3", "nbstripout>=0.7")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    if notebooks := sorted(map(str, Path("examples").glob("*.ipynb"))):
        session.run("nbstripout", "--verify", *notebooks)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all packages."""
    session.install(".[dev]")
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """Check that no package imports a package above it."""
    session.install(".[dev]")
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests that take less than a minute each."""
    session.install(".[test]")
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take long."""
    session.install(".[dev]")
    session.run("pytest", "-n", "2", "-m", "slow", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site; warnings are errors."""
    session.install(".[docs]")
    options = ["-j", "2", "-W", "--keep-going", "-b", "html"]
    session.run("sphinx-build", *options, "docs", "docs/_build/html", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and print which share of each package they execute."""
    session.install(".[dev]")
    session.run("pytest", "-n", "2", "--cov", "--cov-report=", *session.posargs)
    session.run("python", ".ci/coverage_by_package.py")


@nox.session
def coverage_report(session: nox.Session) -> None:
    """Print the coverage that the last run of the tests with `--cov` measured."""
    session.install("coverage>=7.6")
    session.run("python", ".ci/coverage_by_package.py")


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest supported version of every dependency.

    PyTorch 2.6 comes with CUDA on Linux: the installation downloads 3 GB.
    """
    _install_lowest(session, ".[test,gpu]")
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def lowest_fast(session: nox.Session) -> None:
    """Run some tests with the lowest supported versions, without PyTorch."""
    tools = [name for name in PROJECT["optional-dependencies"]["test"] if not name.startswith(("supa", "showerdata"))]
    _install_lowest(session, ".[compare,compression,hep]", *tools)
    session.run("pytest", "-n", "2", *(session.posargs or LOWEST_FAST))


def _install_lowest(session: nox.Session, *requirements: str) -> None:
    session.install("uv")
    session.run("uv", "pip", "install", "--quiet", "--resolution", "lowest-direct", *requirements)
    session.run("uv", "pip", "list")

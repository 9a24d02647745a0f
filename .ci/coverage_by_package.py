"""Print the coverage of each package as a Markdown table: python .ci/coverage_by_package.py.

Reads `.coverage`, which `pytest --cov` writes. The exit status is 2 if the total is below `fail_under` of
`[tool.coverage.report]` in pyproject.toml.
"""

import sys
from collections import defaultdict
from pathlib import Path

import coverage


def main() -> int:
    """Print the table and return the exit status."""
    measured = coverage.Coverage()
    measured.load()
    packages = sorted(measured.get_option("run:source_pkgs"))
    statements: dict[str, int] = defaultdict(int)
    missing: dict[str, int] = defaultdict(int)
    for file in measured.get_data().measured_files():
        package = next(part for part in Path(file).parts[::-1] if part in packages)
        _, lines, _, missed, _ = measured.analysis2(file)
        statements[package] += len(lines)
        missing[package] += len(missed)
    print("| package | statements | not executed | coverage |")
    print("|---|---|---|---|")
    for package in packages:
        print(_row(f"`{package}`", statements[package], missing[package]))
    total, missed = sum(statements.values()), sum(missing.values())
    print(_row("all", total, missed))
    least = float(measured.get_option("report:fail_under"))
    if 100 * (total - missed) < least * total:
        print(f"Coverage is below {least:g} %. Add tests, or lower fail_under in pyproject.toml.", file=sys.stderr)
        return 2
    return 0


def _row(name: str, statements: int, missing: int) -> str:
    share = 100 * (statements - missing) / max(statements, 1)
    return f"| {name} | {statements:,} | {missing:,} | {share:.1f} % |"


if __name__ == "__main__":
    sys.exit(main())

"""The entry point of the command ``supa``, which handles signals before it imports anything else."""

from __future__ import annotations

import sys

from supa_cli import signals

TYPE_CHECKING = False  # importing typing would take longer than all that is imported here
if TYPE_CHECKING:
    from typing import Any


def main() -> None:
    """Run the command line; exit with 0, 1 (failed), 2 (usage) or 130 (interrupted)."""
    signals.install()
    from supa_cli.commands import run

    status = run()
    signals.ignore()
    sys.exit(status)


def __getattr__(name: str) -> Any:
    # The group of commands belongs to the entry point, but loads click, which takes time before signals are handled.
    if name == "cli":
        from supa_cli.commands import cli

        return cli
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    main()

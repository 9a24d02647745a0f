"""Entry point of the command ``supa``. It installs signal handlers before all other imports."""

from __future__ import annotations

import sys

from supa_cli import signals

TYPE_CHECKING = False  # importing typing would take longer than importing this module
if TYPE_CHECKING:
    from typing import Any


def main() -> None:
    """Run the command line. The exit status is 0 (success), 1 (failure), 2 (wrong usage) or 130 (interrupted)."""
    signals.install()
    from supa_cli.commands import run

    status = run()
    signals.ignore()
    sys.exit(status)


def __getattr__(name: str) -> Any:
    # Imported on demand, since click would delay the installation of the signal handlers.
    if name == "cli":
        from supa_cli.commands import cli

        return cli
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    main()

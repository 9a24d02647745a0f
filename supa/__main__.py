"""Entry point of ``python -m supa``, which runs the command ``supa``."""

from supa_cli.main import main

if __name__ == "__main__":
    main()

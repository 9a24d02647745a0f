"""``python -m supa``: the command ``supa``, which is installed with this package."""

from supa_cli.main import main

if __name__ == "__main__":
    main()

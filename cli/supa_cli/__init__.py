"""The command ``supa``, which covers all packages."""

"""The command ``supa`` over all rooms of the package."""

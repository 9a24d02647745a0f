"""Grids of the parameters of public test suites."""

from itertools import product

import pytest

WHOLE = False
"""Whether grids contain all combinations, which the root conftest sets for ``-m grid``."""


def grid(*values, every):
    """Return one in every few combinations, or all of them, of which the others have the marker ``grid``.

    Without the marker in ``-m``, the others are left out here: pytest would take seconds to collect them.
    """
    combined = ((i % every == every // 2, case) for i, case in enumerate(product(*values)))
    return [
        pytest.param(*case, marks=() if chosen else pytest.mark.grid) for chosen, case in combined if chosen or WHOLE
    ]

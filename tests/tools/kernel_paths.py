"""Cases of tests that run on a CPU, in Triton's interpreter and on a GPU."""

import pytest


def on_all_paths(names, cases, interpreted):
    """Parametrise a test with its path and its cases.

    The interpreter is a hundred times slower than the other paths. It runs a part of the cases that contains each
    value of each parameter, or the values with which the kernels themselves differ.

    Args:
        names: Names of the parameters.
        cases: Values of the parameters on a CPU and on a GPU. A single parameter needs no tuples.
        interpreted: The cases in the interpreter.
    """
    gpu = pytest.mark.gpu
    of_path = (("cpu", (), cases), ("interpreter", (), interpreted), ("cuda", gpu, cases))
    values = [
        pytest.param(path, *(case if isinstance(case, tuple) else (case,)), marks=marks)
        for path, marks, of in of_path
        for case in of
    ]
    return pytest.mark.parametrize(("path", *names), values, indirect=["path"])

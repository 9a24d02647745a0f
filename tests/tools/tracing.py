"""Work that coverage need not trace."""

import functools
import sys


def without_trace(function):
    """Return a function that runs without the trace of coverage, which slows down every line of Python."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        trace = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(trace)

    return run

"""Functions that run in a process of their own without the seconds that a new interpreter takes for its imports."""

import multiprocessing
import warnings


def run_forked(function, *arguments, timeout=120):
    """Call a function in a forked process, and return its exit status, which is negative after a signal.

    Args:
        function: It must not use a GPU, which a forked process cannot.
        *arguments: Its arguments.
        timeout: Seconds to wait.
    """
    process = start_forked(function, *arguments)
    process.join(timeout)
    return process.exitcode


def start_forked(function, *arguments):
    """Call a function in a forked process, and return the process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns about forks of a process with threads
        process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
        process.start()
    return process

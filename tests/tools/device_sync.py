"""Detection of synchronisations between host and GPU."""

import warnings
from contextlib import contextmanager

import torch


@contextmanager
def no_device_sync():
    """Raise an error for each synchronisation with the GPU inside the context."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # warns that the mode is experimental
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")

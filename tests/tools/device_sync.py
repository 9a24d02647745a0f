"""Work that must not wait for a GPU."""

import warnings
from contextlib import contextmanager

import torch


@contextmanager
def no_device_sync():
    """Let whatever waits for the device raise, as long as the context lasts."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the mode is experimental
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")

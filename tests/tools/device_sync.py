"""Checks that code does not synchronise with a GPU."""

import warnings
from contextlib import contextmanager

import torch


@contextmanager
def no_device_sync():
    """Raise an error when code in the ``with`` block waits for the device."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "the mode is experimental"
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")

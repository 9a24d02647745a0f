"""Tests of Triton kernels: the interpreter, which runs them on a CPU, and memory that they must write."""

import importlib.util
import os

import pytest
import torch
from faster_interpreter import use_a_faster_interpreter


def prepare_interpreter(monkeypatch):
    """Mend and accelerate the interpreter for one test, or skip the test if the interpreter cannot run the kernels."""
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is available, so the kernels are tested on it instead of in the interpreter")
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed, so the kernels cannot run in its interpreter")
    if os.environ["TRITON_INTERPRET"] != "1":
        pytest.skip("this PyTorch cannot use the GPU; set TRITON_INTERPRET=1 to interpret the kernels")
    from triton.runtime import interpreter

    if not hasattr(interpreter.InterpreterBuilder, "get_int1_ty"):
        pytest.skip("the interpreter of this Triton lacks boolean constants; use Triton 3.4 or later")
    use_a_faster_interpreter(monkeypatch, interpreter)
    _allow_ranges_over_loaded_values(monkeypatch, interpreter)


def _allow_ranges_over_loaded_values(monkeypatch, interpreter):
    """Convert a value into an index as later versions of Triton do; that of Triton 3.6 fails with NumPy 2.4."""
    patch_tensor = interpreter._patch_lang_tensor

    def patch(tensor, *scope):
        patch_tensor(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch)


def poison_empty_memory(monkeypatch):
    """Fill empty tensors with NaN, so that a kernel must write all of its results."""
    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))


def _poisoned(make):
    def empty(*args, **kwargs):
        made = make(*args, **kwargs)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    return empty

"""Triton's interpreter without work that takes most of its time and changes no result."""

import functools
import inspect

import numpy as np
from tracing import without_trace

_EXACT = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def use_a_faster_interpreter(monkeypatch, interpreter):
    """Leave out what Triton's interpreter does again and again.

    At each call of a function in a kernel it replaces the members of ``triton.language``; once per kernel is enough.
    For each value it builds a table of all dtypes, the name of its type, and constants for its shape. It converts
    values to the type and the shape that they have. And to find overflows of an integer, it runs ten operations of
    its own instead of three of NumPy.

    Args:
        monkeypatch: The fixture of pytest, which undoes the changes.
        interpreter: The module ``triton.runtime.interpreter``.
    """
    _replace_members_once(monkeypatch, interpreter)
    _remember_types_and_shapes(monkeypatch, interpreter)
    _convert_only_what_differs(monkeypatch, interpreter.TritonSemantic)


def _replace_members_once(monkeypatch, interpreter):
    run_kernel, replace_members = interpreter.GridExecutor.__call__, interpreter._patch_lang
    replaced = set()

    @functools.cache
    def languages(fn):
        modules = [value for value in fn.__globals__.values() if inspect.ismodule(value)]
        return {module.__name__ for module in modules if module in (interpreter.tl, interpreter.tl.core)}

    @without_trace  # coverage would trace each line of the interpreter, although it omits the kernels
    def run(self, *args, **kwargs):
        replaced.clear()
        return run_kernel(self, *args, **kwargs)

    def replace_members_once(fn):
        if languages(fn) <= replaced:
            return None
        replaced.update(languages(fn))
        return replace_members(fn)

    monkeypatch.setattr(interpreter.GridExecutor, "__call__", run)
    monkeypatch.setattr(interpreter, "_patch_lang", replace_members_once)


def _remember_types_and_shapes(monkeypatch, interpreter):
    core, numpy_dtype = interpreter.tl.core, interpreter._get_np_dtype
    make_block_type, make_tensor = core.block_type.__init__, core.tensor.__init__
    numpy_dtypes, block_types, tensors = {}, {}, {}

    def numpy_dtype_by_name(dtype):
        if dtype.name not in numpy_dtypes:
            numpy_dtypes[dtype.name] = numpy_dtype(dtype)
        return numpy_dtypes[dtype.name]

    def block_type(self, element_ty, shape):
        key = element_ty.name, *[core._unwrap_if_constexpr(size) for size in shape]
        if key not in block_types:
            make_block_type(self, element_ty, shape)
            block_types[key] = vars(self)
        vars(self).update(block_types[key], element_ty=element_ty)

    def tensor(self, handle, dtype):
        key = tuple(dtype.shape) if dtype.is_block() else ()
        if key not in tensors:
            make_tensor(self, handle, dtype)
            tensors[key] = self.shape, self.numel
        self.handle, self.type, self.dtype = handle, dtype, dtype.scalar
        self.shape, self.numel = tensors[key]

    monkeypatch.setattr(interpreter, "_get_np_dtype", numpy_dtype_by_name)
    monkeypatch.setattr(core.block_type, "__init__", block_type)
    monkeypatch.setattr(core.tensor, "__init__", tensor)


def _convert_only_what_differs(monkeypatch, semantic):
    broadcast, cast = semantic.broadcast_impl_value, semantic.cast

    def broadcast_if_shapes_differ(self, lhs, rhs):
        return (lhs, rhs) if lhs.shape is rhs.shape else broadcast(self, lhs, rhs)

    def cast_if_types_differ(self, given, dtype, *rounding):
        return given if given.type.scalar is dtype.scalar else cast(self, given, dtype, *rounding)

    def assert_no_overflow(self, lhs, rhs, operation):
        dtype = lhs.handle.data.dtype
        if dtype.itemsize < 8 and dtype != np.bool_:
            exact = _EXACT[operation.__name__](lhs.handle.data, rhs.handle.data, dtype=np.int64)
            limits = np.iinfo(dtype)
            assert limits.min <= exact.min() <= exact.max() <= limits.max, f"overflow of {dtype} in {operation}"

    monkeypatch.setattr(semantic, "broadcast_impl_value", broadcast_if_shapes_differ)
    monkeypatch.setattr(semantic, "cast", cast_if_types_differ)
    monkeypatch.setattr(semantic, "binary_op_sanitize_overflow_impl", assert_no_overflow)

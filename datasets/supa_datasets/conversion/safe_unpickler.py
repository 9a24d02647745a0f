"""A reader of pickles that never runs code. It supports plain data and NumPy arrays of numbers.

Python's own unpickler calls any function that a pickle names. This reader implements only the operations of pickles
of lists and arrays. It treats names as strings and recognises the few calls that rebuild an array. Messages never
contain a value of the pickle, since a few nested lists can have an endless text.
"""

import io
import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_LONGEST_NAME = 256
_NUMBER_TYPES = ("f8", "f4", "f2", *(f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8)))
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Name(NamedTuple):
    """The name of an object that the pickle refers to. It is never looked up."""

    module: str
    attribute: str


class _Type:
    """A NumPy type under construction."""

    def __init__(self, text: object) -> None:
        if not isinstance(text, str) or text.lstrip("<>|") not in _NUMBER_TYPES:
            raise ValueError("it contains an array that does not consist of numbers")
        self.text = text.lstrip("<>|")
        self.order = "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.text)


class _Array:
    """An array under construction. Its ``values`` are set by its state."""

    values: Any = None


class Unpickler:
    """A reader of the consecutive pickles of a stream.

    Args:
        stream: Stream of bytes.
    """

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream
        self._read: Callable[[int], bytes] = stream.read

    def load(self) -> Any:
        """Read one pickle.

        Returns:
            Lists, tuples, dictionaries, numbers, strings and arrays of numbers.

        Raises:
            ValueError: If the pickle is truncated or contains anything else.
        """
        try:
            return finished(self._run())
        except (IndexError, KeyError, struct.error, AttributeError, TypeError) as error:
            raise ValueError(f"its pickle is damaged ({type(error).__name__}: {error})") from None

    def _run(self) -> Any:
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}
        while True:
            code = self._read(1)
            if code in _CONSTANTS:
                stack.append(_CONSTANTS[code]())
            elif code in _NUMBERS:
                form = _NUMBERS[code]
                stack.append(form.unpack(self._read(form.size))[0])
            elif code in (b"q", b"r"):  # remember
                memo[self._whole(code == b"q")] = stack[-1]
            elif code in (b"h", b"j"):  # recall
                stack.append(memo[self._whole(code == b"h")])
            elif code == b"(":
                marks.append(len(stack))
            elif code == b"\x85":
                stack[-1:] = [(stack[-1],)]
            elif code == b"\x86":
                stack[-2:] = [(stack[-2], stack[-1])]
            elif code == b"\x87":
                stack[-3:] = [(stack[-3], stack[-2], stack[-1])]
            elif code == b"t":
                start = marks.pop()
                stack[start:] = [tuple(stack[start:])]
            elif code == b"a":
                _list(stack[-2]).append(stack.pop())
            elif code == b"e":
                start = marks.pop()
                items = stack[start:]
                del stack[start:]
                _list(stack[-1]).extend(items)
            elif code == b"R":
                stack[-2:] = [_rebuilt(stack[-2], stack[-1])]
            elif code == b"b":
                state = stack.pop()
                _build(stack[-1], state)
            elif code == b"c":
                stack.append(_Name(self._line(), self._line()))
            elif code in _TEXTS:
                stack.append(self._text(code))
            elif code == b"\x80":
                if self._read(1) not in (b"\x02", b"\x03"):
                    raise ValueError("its pickle has a protocol that torch.save does not use")
            elif code in (b"u", b"s"):
                start = marks.pop() if code == b"u" else len(stack) - 2
                items = stack[start:]
                del stack[start:]
                # Only strings are allowed as keys, since the hash of nested tuples can take forever.
                if not isinstance(stack[-1], dict) or not all(isinstance(key, str) for key in items[::2]):
                    raise ValueError("its pickle is damaged")
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            elif code == b"\x8a":
                stack.append(int.from_bytes(self._read(self._whole(True)), "little", signed=True))
            elif code == b".":
                if len(stack) != 1 or marks:
                    raise ValueError("its pickle is damaged")
                return stack[0]
            elif code == b"":
                raise ValueError("its pickle is truncated")
            else:
                raise ValueError(f"its pickle has the operation {code!r}, which is not allowed")

    def _whole(self, short: bool) -> int:
        size = 1 if short else 4
        return int.from_bytes(self._exactly(size), "little")

    def _exactly(self, size: int) -> bytes:
        content = self._read(size)
        if len(content) != size:
            raise ValueError("its pickle is truncated")
        return content

    def _line(self) -> str:
        line = self._stream.readline(_LONGEST_NAME)
        if not line.endswith(b"\n"):
            raise ValueError("its pickle contains a name that is too long")
        return line[:-1].decode()

    def _text(self, code: bytes) -> Any:
        size, kind = _TEXTS[code]
        content = self._exactly(int.from_bytes(self._exactly(size), "little"))
        return content.decode("utf-8", "surrogatepass") if kind is str else content


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("its pickle is damaged")
    return value


def _rebuilt(name: Any, arguments: Any) -> Any:
    """Return the result of a call in the pickle, if the call rebuilds an array or a number."""
    if not isinstance(name, _Name) or not isinstance(arguments, tuple):
        raise ValueError("its pickle is damaged")
    module, attribute = name
    if module in _NUMPY and attribute == "_reconstruct":
        return _Array()
    if module in _NUMPY and attribute == "scalar" and len(arguments) == 2 and isinstance(arguments[0], _Type):
        dtype = arguments[0].dtype
        if not isinstance(arguments[1], bytes) or len(arguments[1]) != dtype.itemsize:
            raise ValueError("it contains a damaged number")
        return float(np.frombuffer(arguments[1], dtype)[0])
    if (module, attribute) == ("numpy", "dtype"):
        return _Type(arguments[0])
    if (module, attribute) == ("_codecs", "encode") and len(arguments) == 2 and isinstance(arguments[0], str):
        return arguments[0].encode("latin1")
    raise ValueError(f"its pickle calls {module}.{attribute}, which is not allowed; the function was not called")


def _build(target: Any, state: Any) -> None:
    """Set the byte order of a type, or the values of an array."""
    if isinstance(target, _Type) and isinstance(state, tuple) and state[1] in ("<", ">", "=", "|"):
        target.order = ">" if state[1] == ">" else "<"
    elif isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Type) or not isinstance(content, bytes) or not isinstance(shape, tuple):
            raise ValueError("it contains a damaged array")
        values = np.frombuffer(content, kind.dtype)
        whole = all(type(length) is int and length >= 0 for length in shape)
        if not whole or math.prod(shape) != len(values):
            raise ValueError("it contains an array whose shape does not match its numbers")
        target.values = values.reshape(shape, order="F" if fortran else "C")
    else:
        raise ValueError("its pickle sets the state of an object that has no state")


def finished(value: Any) -> Any:
    """Return the array of an array under construction, and other values unchanged. Nested values are not converted."""
    if isinstance(value, _Array):
        if value.values is None:
            raise ValueError("it contains an array without values")
        return value.values
    return value


_CONSTANTS: dict[bytes, Callable[[], Any]] = {
    b"]": list,
    b")": tuple,
    b"}": dict,
    b"N": lambda: None,
    b"\x88": lambda: True,
    b"\x89": lambda: False,
}
_NUMBERS = {
    b"J": struct.Struct("<i"),
    b"K": struct.Struct("<B"),
    b"M": struct.Struct("<H"),
    b"G": struct.Struct(">d"),
}
_TEXTS = {b"X": (4, str), b"U": (1, bytes), b"T": (4, bytes), b"C": (1, bytes), b"B": (4, bytes)}

"""Settings as frozen dataclasses, which are validated by their annotations and converted to and from JSON and TOML."""

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from supa.checks import counted, did_you_mean, format_value
from supa.texts import read_json

TAG = "part"
"""Key that states the class if a field may contain one of several dataclasses."""
NONE = "none"
"""Text that represents None in files, because TOML has no such value."""


@dataclass(frozen=True)
class Config:
    """Base class of settings: a frozen dataclass with validated fields, which can be written as JSON and TOML.

    A field is a number, a string, a boolean, None, a ``Literal``, a tuple, a dataclass, or a union of these. A field
    ``Annotated[type, check]`` is validated by ``check(name, value)``, which returns the value or raises a ValueError.
    The value of any other field must have the type of the field. A subclass that defines ``__post_init__`` must call
    ``super().__post_init__()`` first.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Optimiser(Config):
        ...     name: str
        ...     learning_rate: float = 1e-3
        >>> print(Optimiser("Adam").to_toml(), end="")
        name = "Adam"
        learning_rate = 0.001
        >>> Optimiser.from_dict({"name": "Adam", "learning_rat": 1})
        Traceback (most recent call last):
        ValueError: 'learning_rat' is not a setting of Optimiser; choose from name, learning_rate. Did you mean \
'learning_rate'?
    """

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in _hints(type(self))}
        for name, value in _checked(type(self), values).items():
            object.__setattr__(self, name, value)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed.

        Args:
            **changes: New values by name.

        Returns:
            Changed copy.

        Raises:
            ValueError: If a name is unknown or a value is not allowed.
        """
        _check_names(type(self), changes)
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values.

        Returns:
            Value of each setting by name. The values are numbers, strings, booleans, None, lists and dictionaries, so
            they can be written as JSON.
        """
        return _fields_to_plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Create settings from plain values, as returned by ``to_dict``.

        Args:
            values: Plain values by name. Missing settings have their default values.

        Returns:
            Settings with these values.

        Raises:
            ValueError: If a name is unknown, a setting without a default is missing, or a value is not allowed.
        """
        made: Self = _from_plain(cls, values)
        return made

    def to_json(self) -> str:
        """Return the settings as JSON.

        Returns:
            Text of one JSON object.
        """
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read settings from JSON.

        Args:
            text: Text of one JSON object.

        Returns:
            Settings with these values.

        Raises:
            ValueError: If the text is not valid JSON, contains a key twice, or contains invalid settings; see
                ``from_dict``.
        """
        return cls.from_dict(_parsed("JSON", text))

    def to_toml(self) -> str:
        """Return the settings as a TOML document.

        Returns:
            Text of the document. None is written as ``"none"``.
        """
        return "".join(f"{line}\n" for line in _toml_lines(self.to_dict()))

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read settings from TOML.

        Args:
            text: TOML document.

        Returns:
            Settings with these values.

        Raises:
            ValueError: If the text is not valid TOML or contains invalid settings; see ``from_dict``.
        """
        return cls.from_dict(_parsed("TOML", text))

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> Self:
        """Read settings from a ``.json`` or ``.toml`` file.

        Args:
            path: Path of the file.

        Returns:
            Settings with the values in the file.

        Raises:
            ValueError: If the file cannot be read, has another suffix, or contains invalid settings; see
                ``from_dict``.
        """
        with _named(path):
            return cls.from_dict(_file_values(path))

    @classmethod
    def settings_from_file(cls, path: str | PathLike[str]) -> dict[str, Any]:
        """Read an incomplete set of settings from a ``.json`` or ``.toml`` file.

        Args:
            path: Path of the file.

        Returns:
            Plain values by name, which can be completed and passed to ``from_dict``.

        Raises:
            ValueError: If the file cannot be read, has another suffix, or contains unknown settings.
        """
        with _named(path):
            values = _file_values(path)
            _check_names(cls, values)
        return dict(values)

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        # The decorator ``dataclass`` does not replace a method that the class itself defines.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Config.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """Return the call that creates the settings, without those that have their defaults."""
        changed = [f"{name}={value!r}" for name, value, is_default in self._settings() if not is_default]
        return f"{type(self).__name__}({', '.join(changed)})"

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        from supa.html_table import html_table

        rows = [(name, value, "" if is_default else "changed") for name, value, is_default in self._settings()]
        return html_table(rows, caption=type(self).__name__)

    def _settings(self) -> Iterator[tuple[str, Any, bool]]:
        """Return (name, value, whether the value is the default) of each setting."""
        for field in fields(self):
            value = getattr(self, field.name)
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            if default is not MISSING:
                default = _checked(type(self), {field.name: default})[field.name]
            yield field.name, value, type(value) is type(default) and value == default


@contextmanager
def _named(what: object) -> Iterator[None]:
    """Prefix the messages of ValueErrors with the file or setting that caused them."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _file_values(path: str | PathLike[str]) -> Any:
    suffix = Path(path).suffix
    if suffix not in (".json", ".toml"):
        raise ValueError("the file must end in .json or .toml.")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"the file cannot be read ({reason}).") from None
    return _parsed(suffix[1:].upper(), text)


def _parsed(form: str, text: Any) -> Any:
    try:
        return read_json(text) if form == "JSON" else tomllib.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"The text is not valid {form}: {error}.") from None


def _annotations(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


_hints: Callable[[Any], dict[str, Any]] = cache(_annotations)


def _check_names(cls: type, values: object) -> None:
    if not isinstance(values, Mapping):
        raise ValueError(f"{format_value(values)} was given, but it must be a table of settings of {cls.__name__}.")
    names = _hints(cls)
    for name in values:
        if name not in names:
            choices = f"choose from {', '.join(names)}" if names else "it has no settings"
            raise ValueError(
                f"{format_value(name)} is not a setting of {cls.__name__}; {choices}.{did_you_mean(name, names)}"
            )


def _from_plain(cls: type, values: Mapping[str, Any]) -> Any:
    _check_names(cls, values)
    for field in fields(cls):
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{field.name}: nothing was given, but {cls.__name__} needs it.")
    read = {name: _read(hint, name, values[name]) for name, hint in _hints(cls).items() if name in values}
    return cls(**_checked(cls, read))


def _read(hint: Any, name: str, value: Any) -> Any:
    """Convert a plain value to dataclasses and tuples, but leave wrong values to ``_checked``, which reports them."""
    options = _options(hint)
    if value == NONE and NoneType in options:
        return None
    if isinstance(value, Mapping) and (classes := _dataclasses(hint)):
        with _named(name):
            cls, values = (classes[0], value) if len(classes) == 1 else _tagged(classes, value)
            return cls.from_dict(values) if issubclass(cls, Config) else _from_plain(cls, values)
    if isinstance(value, list | tuple) and (entries := _entry_types(hint, value)):
        return tuple(_read(entry, name, one) for entry, one in zip(entries, value, strict=True))
    return value


def _tagged(classes: list[type], value: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    names = {cls.__name__: cls for cls in classes}
    tag = value.get(TAG)
    if not isinstance(tag, str) or tag not in names:
        raise ValueError(
            f"{TAG}: {format_value(tag)} was given, but it must be {_either(map(repr, names))}."
            f"{did_you_mean(tag, names)}"
        )
    return names[tag], {name: one for name, one in value.items() if name != TAG}


def _fields_to_plain(config: Any) -> dict[str, Any]:
    return {name: _to_plain(hint, getattr(config, name)) for name, hint in _hints(type(config)).items()}


def _to_plain(hint: Any, value: Any) -> Any:
    if is_dataclass(value) and (classes := _dataclasses(hint)):
        plain = value.to_dict() if isinstance(value, Config) else _fields_to_plain(value)
        return plain if len(classes) == 1 else {TAG: type(value).__name__, **plain}
    if isinstance(value, tuple):
        return [_to_plain(entry, one) for entry, one in zip(_entry_types(hint, value), value, strict=True)]
    return value


def _toml_lines(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, value in values.items():
        if not isinstance(value, Mapping):
            yield f"{name} = {_toml_value(value)}"
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"\n[{'.'.join((*path, name))}]"
            yield from _toml_lines(value, (*path, name))


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name} = {_toml_value(one)}' for name, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value).lower() if value is not None else f'"{NONE}"'


class _MismatchError(Exception):
    """Raised if a value does not have the type of its annotation."""


def _checked(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    checked = {}
    for name, value in values.items():
        hint = _hints(cls)[name]
        try:
            checked[name] = _converted(hint, name, value)
        except _MismatchError:
            choices = [choice for option in _options(hint) for choice in get_args(option) if isinstance(choice, str)]
            raise ValueError(
                f"{name}: {format_value(value)} was given, but it must be {_either(_words(hint))}."
                f"{did_you_mean(value, choices)}"
            ) from None
    return checked


def _converted(hint: Any, name: str, value: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return arguments[1](name, value)
    if origin in (Union, UnionType):
        # None comes first, because the checks of other options would reject it.
        for option in sorted(arguments, key=lambda option: option is not NoneType):
            try:
                return _converted(option, name, value)
            except _MismatchError:
                continue
        raise _MismatchError
    if origin is tuple and isinstance(value, list | tuple):
        entries = _entry_types(hint, value)
        if len(entries) == len(value):
            return tuple(_converted(entry, name, one) for entry, one in zip(entries, value, strict=True))
    elif origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
    elif hint in _NUMBERS:
        return _as_number(hint, value)
    elif hint is Any or (callable(value) if origin is not None else isinstance(value, hint)):
        return value
    raise _MismatchError


_NUMBERS: Mapping[type, type] = {bool: bool, int: Integral, float: Real}


def _as_number(kind: type, value: Any) -> Any:
    if isinstance(value, _NUMBERS[kind]) and isinstance(value, bool) == (kind is bool):
        with suppress(OverflowError):  # an integer beyond the range of floats
            return kind(value)
    raise _MismatchError


def _options(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or a single type, without their checks."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _options(arguments[0])
    return tuple(one for each in arguments for one in _options(each)) if origin in (Union, UnionType) else (hint,)


def _dataclasses(hint: Any) -> list[type]:
    return [option for option in _options(hint) if isinstance(option, type) and is_dataclass(option)]


def _entry_types(hint: Any, values: list[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the type of each entry if the annotation contains a tuple type of this length, else an empty tuple."""
    for option in _options(hint):
        arguments = get_args(option)
        if get_origin(option) is tuple:
            types = arguments[:1] * len(values) if arguments[1:] == (...,) else arguments
            return types if len(types) == len(values) else ()
    return ()


def _words(hint: Any) -> Iterator[str]:
    for option in _options(hint):
        if get_origin(option) is Literal:
            yield from map(repr, get_args(option))
        elif get_origin(option) is tuple:
            entries = get_args(option)
            number = "" if ... in entries else f" of {counted(len(entries), 'entry', 'entries')}"
            yield f"a list{number}, each {_either(_words(entries[0]))}"
        elif option in _dataclasses(option):
            yield f"{option.__name__}(...)"
        else:
            yield _WORDS.get(option, "a function")


_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a string", NoneType: "None"}


def _either(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last

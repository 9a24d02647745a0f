"""The description of what a stream simulates, in plain values, and its comparison with another one."""

from collections.abc import Mapping
from typing import Any

from supa.checks import format_value

_MOST_DIFFERENCES = 5  # in an error message

_NUMBER = "the number of configs"


def differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """List what differs between two descriptions.

    Args:
        stored: Description in a state.
        current: Description of the stream.

    Returns:
        One text for each difference; at most six.
    """
    one, other = _flat("", stored), _flat("", current)
    names = [name for name in {**other, **one} if name not in one or name not in other or one[name] != other[name]]
    if _NUMBER in names:
        names = [name for name in names if not name.startswith("configs[")]
    texts = [f"{name} ({_value(one, name)} in the state, {_value(other, name)} here)" for name in names]
    more = len(texts) - _MOST_DIFFERENCES
    return texts if more <= 1 else [*texts[:_MOST_DIFFERENCES], f"{more} other settings"]


def _flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        entries = [(f"{name}.{key}" if name else key, entry) for key, entry in value.items()]
    elif name == "configs" and isinstance(value, list):
        entries = [(_NUMBER, len(value)), *((f"{name}[{number}]", entry) for number, entry in enumerate(value))]
    else:
        return {name: value}
    return {key: leaf for part, entry in entries for key, leaf in _flat(part, entry).items()}


def _value(values: Mapping[str, Any], name: str) -> str:
    return format_value(values[name]) if name in values else "nothing"

"""Tasks on showers that the simulator knows the answer of: what is predicted, from what, and its classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from supa.arrays import Array
from supa.checks import counted, did_you_mean, format_value
from supa.presets import PRESETS

PRESET_CLASSES = tuple(PRESETS)
"""The classes of the target ``preset``, in the order of their numbers."""

MOST_PRIMARIES = 5
"""Showers of so many primaries or more are one class."""


@dataclass(frozen=True)
class ShowerTask:
    """What is predicted of showers, or of their hits.

    Args:
        name: its name.
        level: ``"shower"``: one answer a shower; ``"hit"``: one a hit.
        targets: which of the loaders' targets it is made of.
        features: what a hit shows.
    """

    name: str
    level: Literal["shower", "hit"]
    targets: tuple[str, ...]
    features: tuple[str, ...]


_SPACE, _POINT = ("x", "y", "z"), ("x", "y", "z", "energy")

SHOWER_TASKS: Mapping[str, ShowerTask] = {
    task.name: task
    for task in (
        ShowerTask("num_primaries", "shower", ("num_primaries",), _POINT),
        ShowerTask("primary", "hit", ("primary", "num_primaries"), _POINT),
        ShowerTask("preset", "shower", ("preset",), _POINT),
        # Energies of hits would give the answer by their sum.
        ShowerTask("incident_energy", "shower", ("incident_energy",), _SPACE),
    )
}
"""The tasks by name."""


def shower_task(name: str) -> ShowerTask:
    """Look a task up by its name.

    Args:
        name: its name.

    Returns:
        The task.

    Raises:
        ValueError: there is no such task.
    """
    if name not in SHOWER_TASKS:
        raise ValueError(
            f"task: {format_value(name)} was given, but it is one of {', '.join(SHOWER_TASKS)}."
            f"{did_you_mean(name, SHOWER_TASKS)}"
        )
    return SHOWER_TASKS[name]


def task_classes(task: ShowerTask, columns: Mapping[str, Array]) -> tuple[str, ...]:
    """Name the classes of a task, of those showers that a model learns from.

    Args:
        task: the task.
        columns: its targets by name.

    Returns:
        The names, in the order of the numbers from `task_target`; none for values.

    Raises:
        ValueError: the showers cannot be used for the task.
    """
    if task.name == "num_primaries":
        return (*map(str, range(1, MOST_PRIMARIES)), f"{MOST_PRIMARIES} or more")
    if task.name == "primary":
        return ("first", "second")
    if task.name == "preset":
        found = np.unique(columns["preset"]).tolist()
        if len(found) < 2:
            only = f"of the preset {PRESET_CLASSES[found[0]]}" if found else "missing"
            raise ValueError(
                f"All showers are {only}, and there is nothing to tell apart; give a list of showers of several "
                "presets."
            )
        return tuple(PRESET_CLASSES[k] for k in found)
    return ()


def task_target(task: ShowerTask, columns: Mapping[str, Array], classes: tuple[str, ...]) -> Array:
    """Compute what is to be predicted.

    Args:
        task: the task.
        columns: its targets by name.
        classes: from `task_classes`.

    Returns:
        (showers,) or (hits,) int64 numbers of classes; float32 natural logarithms of GeV for ``"incident_energy"``.

    Raises:
        ValueError: the showers cannot be used for the task.
    """
    if task.name == "num_primaries":
        return np.minimum(columns["num_primaries"], MOST_PRIMARIES).astype(np.int64) - 1
    if task.name == "primary":
        counts = columns["num_primaries"]
        if not (counts == 2).all():
            low, high = counts.min(), counts.max()
            found = counted(int(low), "primary", "primaries") if low == high else f"{low} to {high} primaries"
            raise ValueError(
                f"The showers have {found}, but hits are told apart by their "
                "primary where there are two; simulate the preset two-primaries."
            )
        return columns["primary"].astype(np.int64)
    if task.name == "preset":
        numbers = np.array([PRESET_CLASSES.index(name) for name in classes])
        place = np.searchsorted(numbers, columns["preset"]).clip(max=len(numbers) - 1)
        strange = numbers[place] != columns["preset"]
        if strange.any():
            name = PRESET_CLASSES[int(columns["preset"][strange][0])]
            raise ValueError(f"There are showers of the preset {name}, but the classes are {', '.join(classes)}.")
        return np.asarray(place, dtype=np.int64)
    return np.log(columns["incident_energy"].astype(np.float64)).astype(np.float32)

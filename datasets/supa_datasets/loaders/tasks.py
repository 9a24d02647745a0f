"""Prediction tasks on simulated showers: targets, input features and classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from supa.arrays import Array
from supa.checks import counted, did_you_mean, format_value
from supa.presets import PRESETS

PRESET_CLASSES = tuple(PRESETS)
"""Class names of the target ``preset``, in the order of their numbers."""

MOST_PRIMARIES = 5
"""Showers with this number of primaries or more form one class."""


@dataclass(frozen=True)
class ShowerTask:
    """A prediction task on showers or their hits.

    Args:
        name: Name of the task.
        level: ``"shower"`` for one prediction per shower, ``"hit"`` for one prediction per hit.
        targets: Loader targets from which the prediction target is computed.
        features: Features of a hit that the model sees.
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
        # The energies of the hits are left out, because their sum is nearly the answer.
        ShowerTask("incident_energy", "shower", ("incident_energy",), _SPACE),
    )
}
"""The tasks by name."""


def shower_task(name: str) -> ShowerTask:
    """Return the task with a given name.

    Args:
        name: Name of the task.

    Returns:
        The task.

    Raises:
        ValueError: If there is no such task.
    """
    if name not in SHOWER_TASKS:
        raise ValueError(
            f"task: {format_value(name)} was given, but it must be one of {', '.join(SHOWER_TASKS)}."
            f"{did_you_mean(name, SHOWER_TASKS)}"
        )
    return SHOWER_TASKS[name]


def task_classes(task: ShowerTask, columns: Mapping[str, Array]) -> tuple[str, ...]:
    """Return the class names of a task for the given training showers.

    Args:
        task: The task.
        columns: Targets of the training showers by name.

    Returns:
        Names in the order of the class numbers of `task_target`; empty for regression.

    Raises:
        ValueError: If the showers cannot be used for the task.
    """
    if task.name == "num_primaries":
        return (*map(str, range(1, MOST_PRIMARIES)), f"{MOST_PRIMARIES} or more")
    if task.name == "primary":
        return ("first", "second")
    if task.name == "preset":
        found = np.unique(columns["preset"]).tolist()
        if len(found) < 2:
            only = f"All showers have the preset {PRESET_CLASSES[found[0]]}" if found else "There are no showers"
            raise ValueError(f"{only}; the task preset needs showers of two or more presets.")
        return tuple(PRESET_CLASSES[k] for k in found)
    return ()


def task_target(task: ShowerTask, columns: Mapping[str, Array], classes: tuple[str, ...]) -> Array:
    """Compute the prediction target.

    Args:
        task: The task.
        columns: Targets of the showers by name.
        classes: Class names from `task_classes`.

    Returns:
        (showers,) or (hits,) int64 class numbers; for ``"incident_energy"`` (showers,) float32 natural logarithms of
        the energy in GeV.

    Raises:
        ValueError: If the showers cannot be used for the task.
    """
    if task.name == "num_primaries":
        return np.minimum(columns["num_primaries"], MOST_PRIMARIES).astype(np.int64) - 1
    if task.name == "primary":
        counts = columns["num_primaries"]
        if not (counts == 2).all():
            low, high = counts.min(), counts.max()
            found = counted(int(low), "primary", "primaries") if low == high else f"{low} to {high} primaries"
            raise ValueError(
                f"The showers have {found}, but the task primary needs two primaries in each shower; simulate the "
                "preset two-primaries."
            )
        return columns["primary"].astype(np.int64)
    if task.name == "preset":
        numbers = np.array([PRESET_CLASSES.index(name) for name in classes])
        place = np.searchsorted(numbers, columns["preset"]).clip(max=len(numbers) - 1)
        strange = numbers[place] != columns["preset"]
        if strange.any():
            name = PRESET_CLASSES[int(columns["preset"][strange][0])]
            raise ValueError(f"Some showers have the preset {name}, but the classes are {', '.join(classes)}.")
        return np.asarray(place, dtype=np.int64)
    return np.log(columns["incident_energy"].astype(np.float64)).astype(np.float32)

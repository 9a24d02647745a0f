"""Tasks on showers: classes and values of their targets."""

import math

import numpy as np
import pytest

from supa_datasets import PRESET_CLASSES
from supa_datasets.loaders.tasks import SHOWER_TASKS, shower_task, task_classes, task_target


def _named(task, columns):
    classes = task_classes(shower_task(task), columns)
    return [classes[k] for k in task_target(shower_task(task), columns, classes)]


def test_class_numbers_match_class_names():
    counts = {"num_primaries": np.array([1, 2, 4, 5, 9])}
    assert _named("num_primaries", counts) == ["1", "2", "4", "5 or more", "5 or more"]
    presets = ["critical", "standard", "critical", "symmetric"]
    assert _named("preset", {"preset": np.array([PRESET_CLASSES.index(name) for name in presets])}) == presets
    hits = {"primary": np.array([1, 0, 0], dtype=np.uint8), "num_primaries": np.array([2])}
    assert _named("primary", hits) == ["second", "first", "first"]


def test_energies_are_predicted_as_logarithms_without_the_energies_of_the_hits():
    task = SHOWER_TASKS["incident_energy"]
    target = task_target(task, {"incident_energy": np.array([1.0, 50.0])}, ())
    assert target.tolist() == pytest.approx([0, math.log(50)])
    assert (target.dtype, task_classes(task, {}), "energy" in task.features) == (np.float32, (), False)


def test_unsuitable_showers_are_a_clear_error():
    presets = {"preset": np.array([PRESET_CLASSES.index("standard")] * 2)}
    with pytest.raises(ValueError, match="All showers have the preset standard"):
        task_classes(shower_task("preset"), presets)
    for classes in (("reference", "critical"), ("critical",)):
        with pytest.raises(ValueError, match="Some showers have the preset standard, but the classes are"):
            task_target(shower_task("preset"), presets, classes)
    with pytest.raises(ValueError, match="The showers have 1 to 3 primaries"):
        task_target(shower_task("primary"), {"num_primaries": np.array([1, 3])}, ("first", "second"))
    with pytest.raises(ValueError, match="task: 'mass' was given, but it must be one of num_primaries"):
        shower_task("mass")

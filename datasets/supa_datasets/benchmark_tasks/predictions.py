"""Files of predictions: one dataset and the name of its task."""

from os import PathLike
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from supa import Showers
from supa.arrays import Array, array
from supa.atomic_file import atomic_write
from supa.checks import check_int, counted, format_value
from supa.texts import printable
from supa_datasets.benchmark_tasks.task import BenchmarkTask
from supa_datasets.conversion.foreign_hdf5 import dataset, opened
from supa_datasets.layout import attribute_of
from supa_datasets.reader import named_errors

FORMAT = "supa-predictions"
VERSION = 1


def save_predictions(
    path: str | PathLike[str],
    task: BenchmarkTask,
    values: npt.ArrayLike,
    *,
    num: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write predictions for the first showers of the test range of a task to an HDF5 file.

    The file has the dataset ``predictions`` and the attributes ``format``, ``version``, ``task``, ``task_version`` and
    ``num_showers``.

    Args:
        path: Path of the file to create; its folder must exist.
        task: A task of labelling, regression or classification.
        values: Predictions in the order of ``task.simulate("test", num)``. Labelling: (hits,) integers 0 or 1.
            Regression: (num,) incident energies in GeV above 0. Classification: (num,) class numbers from 0.
        num: Number of showers. By default ``task.num_showers``.
        overwrite: Whether to replace an existing file.

    Raises:
        FileExistsError: If the file exists and ``overwrite`` is False.
        FileNotFoundError: If the folder does not exist.
        ValueError: If the task does not predict, or if the predictions have the wrong number, type or range.

    Example:
        >>> import numpy as np
        >>> from supa_datasets import benchmark_task, save_predictions, score_file
        >>> task = benchmark_task("energy-regression")
        >>> showers = task.simulate("test", 1000)
        >>> save_predictions("guess.h5", task, np.full(1000, 10.0), num=1000)
        >>> score_file(task, "guess.h5")["error of ln E"].value > 1
        True
    """
    num = task.num_showers if num is None else num
    predicted = checked_predictions(task, values, first_test_showers(task, num))
    if Path(path).exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or overwrite it (overwrite=True).")
    with atomic_write(path) as target, h5py.File(target, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["task"] = task.name
        file.attrs["task_version"] = task.version
        file.attrs["num_showers"] = num
        file.create_dataset("predictions", data=predicted)


def read_predictions(path: Path, task: BenchmarkTask) -> tuple[Array, int]:
    """Read predictions from a file.

    Args:
        path: Path of the file.
        task: The task for which the predictions must be.

    Returns:
        The predictions, and the number of showers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, is not a file of predictions, or belongs to another task.
    """
    with opened(path) as file, named_errors(path):
        form = attribute_of(file, "format") if "format" in file.attrs else None
        if form != FORMAT:
            raise ValueError(
                f"it is not a file of predictions but {format_value(form) if form else 'another HDF5 file'}; the task "
                f"{task.name} needs predictions, which supa_datasets.save_predictions writes"
            )
        found = {name: attribute_of(file, name) for name in ("version", "task", "task_version", "num_showers")}
        if found["version"] != VERSION:
            raise ValueError(f"its version must be {VERSION}, got {format_value(found['version'])}")
        if found["task"] != task.name:
            raise ValueError(f"its predictions are for the task {format_value(found['task'])}, not for {task.name}")
        if found["task_version"] != task.version:
            raise ValueError(
                f"its predictions are for version {format_value(found['task_version'])} of the task, but this is "
                f"version {task.version}; predict again for its test showers"
            )
        if type(found["num_showers"]) is not int:
            raise ValueError(f"num_showers must be a whole number, got {format_value(found['num_showers'])}")
        return dataset(file, "predictions", (None,))[:], found["num_showers"]


def is_prediction_file(path: Path) -> bool:
    """Return whether an HDF5 file contains predictions.

    Args:
        path: Path of a file.

    Returns:
        True if its format is that of predictions.
    """
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    with opened(path) as file:
        return bool(file.attrs.get("format") == FORMAT)


def first_test_showers(task: BenchmarkTask, num: int) -> Showers:
    """Simulate the first test showers of a task of prediction.

    Args:
        task: The task.
        num: Number of showers.

    Returns:
        The showers.

    Raises:
        ValueError: If the task generates showers, or if the number is out of range.
    """
    if task.kind == "generation":
        raise ValueError(f"The task {task.name} generates showers; write them with supa_datasets.save.")
    check_int(1, len(task.test), "num", num, f"for the test range of {task.name}")
    return task.simulate("test", num)


def checked_predictions(task: BenchmarkTask, values: npt.ArrayLike, showers: Showers) -> Array:
    """Check predictions.

    Args:
        task: A task of prediction.
        values: The predictions.
        showers: Test showers of the task.

    Returns:
        (hits,) or (showers,) int64 for classes, float64 for energies.

    Raises:
        ValueError: If the predictions have the wrong number, type or range.
    """
    given = array("predictions", values)
    level, count = ("hit", showers.hits.num_rows) if task.kind == "labelling" else ("shower", len(showers))
    if given.shape != (count,):
        raise ValueError(
            f"predictions: an array of shape {given.shape} was given, but the task {task.name} needs one number for "
            f"each of the {counted(count, level)} in its first {counted(len(showers), 'test shower')}."
        )
    if task.classes:
        if given.dtype.kind not in "iu":
            raise ValueError(f"predictions: numbers of type {given.dtype} were given, but classes are whole numbers.")
        wrong = given[(given < 0) | (given >= len(task.classes))]
        words = f"from 0 to {len(task.classes) - 1} ({', '.join(task.classes)})"
    else:
        if given.dtype.kind not in "fiu":
            raise ValueError(f"predictions: values of type {given.dtype} were given, but energies are numbers.")
        wrong = given[~(np.isfinite(given) & (given > 0))]
        words = "above 0 and finite, in GeV"
    if len(wrong):
        raise ValueError(
            f"predictions: {printable(str(wrong[0]))} was given, but every prediction must be {words}; "
            f"{counted(len(wrong), 'prediction')} of {count:,} {'is' if len(wrong) == 1 else 'are'} not."
        )
    return given.astype(np.int64 if task.classes else np.float64)

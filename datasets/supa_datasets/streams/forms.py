"""The forms of the batches of a stream: the dataset that makes them, and its options."""

import inspect
from collections.abc import Mapping
from typing import Any, Literal, get_args

from supa.checks import check_name, did_you_mean, format_value
from supa_datasets.loaders.dataset import ShowerDataset
from supa_datasets.loaders.images import ImageDataset
from supa_datasets.loaders.points import Form as Layout
from supa_datasets.loaders.points import PointDataset
from supa_datasets.loaders.sequences import SequenceDataset

StreamForm = Literal["points", "graphs", "sequences", "images"]

_SPLIT_OPTIONS = ("split", "fractions")


def dataset_class(form: object) -> Any:
    """Return the class of the dataset that makes the batches of a form.

    Args:
        form: ``"points"``, ``"graphs"``, ``"sequences"`` or ``"images"``.

    Returns:
        The class.

    Raises:
        ValueError: If there is no such form.
    """
    kinds: dict[str, type[ShowerDataset]] = {
        "points": PointDataset,
        "sequences": SequenceDataset,
        "images": ImageDataset,
    }
    if form not in get_args(StreamForm):
        allowed = get_args(StreamForm)
        raise ValueError(
            f"form: {format_value(form)} was given, but it must be one of {', '.join(allowed)}."
            f"{did_you_mean(form, allowed)}"
        )
    if form != "graphs":
        return kinds[str(form)]
    from supa_datasets.loaders.graphs import GraphDataset  # needs PyTorch Geometric

    return GraphDataset


def checked_options(form: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a stream as arguments of the dataset of its form.

    Args:
        form: Form of the batches.
        options: Options of the stream.

    Returns:
        Arguments of `dataset_class`.

    Raises:
        ValueError: If an option does not exist.
    """
    # `form` is the form of the stream, so that of a batch of points has another name.
    names = {"form": "layout"} if form == "points" else {}
    parameters = list(inspect.signature(dataset_class(form)).parameters)[1:]
    allowed = [names.get(name, name) for name in parameters if name not in _SPLIT_OPTIONS]
    for name in options:
        if name in _SPLIT_OPTIONS:
            raise ValueError(
                f"{name}: a stream has no splits; give streams for training and validation separate ranges of indices "
                "with first and length."
            )
        if name not in allowed:
            raise ValueError(
                f"{name!r} is not an option of a stream of {form}; choose from {', '.join(allowed)}."
                f"{did_you_mean(name, allowed)}"
            )
    if "layout" in options:
        check_name(get_args(Layout), "a layout", options["layout"])
    originals = {new: old for old, new in names.items()}
    return {originals.get(name, name): value for name, value in options.items()}

"""The binning of the CaloChallenge: an XML file of polar cells (CaloChallenge/homepage, ``code/XMLHandler.py``)."""

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from supa import Grid, Polar
from supa.checks import counted, format_value
from supa_datasets.conversion.untrusted_input import named_errors

_MAX_BYTES = 1 << 20
_MAX_CELLS = 10_000_000


def read_binning(path: str | PathLike[str], particle: str | None = None) -> Grid:
    """Read the cells of a CaloChallenge binning.

    The radii are taken in the simulator's length unit. A layer whose only edge is 0 has no cells.

    Args:
        path: the XML file: ``Bins > Bin(pid, name) > Layer(id, r_edges, n_bin_alpha)``.
        particle: name or pid of the ``Bin`` to read; not needed where there is only one.

    Returns:
        The grid, with one part for each ``Layer``; its depth is ``"layer"``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such XML, declares a document type or entities, is larger than 1 MiB, has more than
            10 million cells, or has no such particle.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file.")
    with named_errors(path):
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ValueError("it is larger than 1 MiB, which no binning is")
        layers = _chosen(_parsed(text), particle).layers
        if not layers:
            raise ValueError("its Bin has no Layer")
        numbers = [_whole("id", layer) for layer in layers]
        if numbers != list(range(len(layers))):
            raise ValueError(f"its layers have the ids {format_value(numbers)}, but they must count from 0")
        parts = [_part(layer) for layer in layers]
        cells = sum(part.shape[0] * part.shape[1] for part in parts if part is not None)
        if not 0 < cells <= _MAX_CELLS:
            raise ValueError(f"it has {counted(cells, 'cell')}, but it must have 1 to {_MAX_CELLS:,}")
        return Grid(parts)


@dataclass
class _Bin:
    """One particle's layers."""

    pid: str
    name: str
    layers: list[dict[str, str]] = field(default_factory=list)


def _parsed(text: bytes) -> list[_Bin]:
    bins: list[_Bin] = []
    path: list[str] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        path.append(name)
        if path == ["Bins", "Bin"]:
            bins.append(_Bin(attributes.get("pid", ""), attributes.get("name", "")))
        elif path == ["Bins", "Bin", "Layer"]:
            bins[-1].layers.append(attributes)

    def refuse(*_: Any) -> NoReturn:
        # Entities grow without bound, or name other files; they are declared in the document type only.
        raise ValueError("it declares a document type, which a binning does not need")

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda _name: path.pop()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, LookupError) as error:  # the latter of an unknown encoding
        raise ValueError(f"it is not valid XML ({error})") from None
    return bins


def _chosen(bins: list[_Bin], particle: str | None) -> _Bin:
    chosen = [bin_ for bin_ in bins if particle in (None, bin_.name, bin_.pid)]
    if len(chosen) == 1:
        return chosen[0]
    known = ", ".join(f"{bin_.name} ({bin_.pid})" for bin_ in bins[:20])
    if not bins:
        raise ValueError("it has no element Bins with a Bin, as a CaloChallenge binning has")
    if particle is None:
        raise ValueError(f"it has several particles, so one must be named: {known}")
    found = f"{len(chosen)} particles are" if chosen else "no particle is"
    raise ValueError(f"{found} named {particle!r}; its particles are {known}")


def _part(layer: dict[str, str]) -> Polar | None:
    try:
        edges = [float(edge) for edge in layer.get("r_edges", "").split(",")]
    except ValueError:
        raise ValueError(f"r_edges: {format_value(layer.get('r_edges'))} was given, but it must be numbers") from None
    return None if edges == [0.0] else Polar(edges, _whole("n_bin_alpha", layer))


def _whole(name: str, layer: dict[str, str]) -> int:
    text = layer.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(f"{name}: {format_value(text)} was given, but a Layer needs a whole number there")
    return int(text)

"""Reading the binning of the CaloChallenge from an XML file of polar cells."""

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
    """Read the cells of a CaloChallenge binning from an XML file.

    The radii are in the length unit of the simulator. A layer with ``r_edges="0"`` has no cells.

    Args:
        path: Path of the XML file with the elements ``Bins > Bin(pid, name) > Layer(id, r_edges, n_bin_alpha)``.
        particle: Name or pid of the ``Bin`` to read. It is required if the file has several.

    Returns:
        `supa.Grid` with depth ``"layer"`` and one part per ``Layer``; None for a layer without cells.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not such an XML file, declares a document type or entities, is larger than 1 MiB, has
            more than 10 million cells, or does not contain the particle.

    Example:
        >>> from pathlib import Path
        >>> from supa_datasets import read_binning
        >>> layer = '<Layer id="0" r_edges="0,1,2,4" n_bin_alpha="8" />'
        >>> _ = Path("binning.xml").write_text(f'<Bins><Bin pid="22" name="photon">{layer}</Bin></Bins>')
        >>> grid = read_binning("binning.xml", "photon")
        >>> grid.parts[0].shape
        (8, 3)

    Source:
        CaloChallenge, ``code/XMLHandler.py`` of github.com/CaloChallenge/homepage.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file.")
    with named_errors(path):
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ValueError("it is larger than 1 MiB, the limit for a binning")
        layers = _chosen(_parsed(text), particle).layers
        if not layers:
            raise ValueError("its Bin has no Layer")
        numbers = [_whole("id", layer) for layer in layers]
        if numbers != list(range(len(layers))):
            raise ValueError(f"its layers have the ids {format_value(numbers)}, but ids must be 0, 1, 2 and so on")
        parts = [_part(layer) for layer in layers]
        cells = sum(part.shape[0] * part.shape[1] for part in parts if part is not None)
        if not 0 < cells <= _MAX_CELLS:
            raise ValueError(f"it has {counted(cells, 'cell')}, but it must have 1 to {_MAX_CELLS:,}")
        return Grid(parts)


@dataclass
class _Bin:
    """The layers of one particle."""

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
        # A document type can declare entities, which can expand without bound or refer to other files.
        raise ValueError("it declares a document type, which is not allowed")

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda _name: path.pop()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, LookupError) as error:  # LookupError: unknown encoding
        raise ValueError(f"it is not valid XML ({error})") from None
    return bins


def _chosen(bins: list[_Bin], particle: str | None) -> _Bin:
    chosen = [bin_ for bin_ in bins if particle in (None, bin_.name, bin_.pid)]
    if len(chosen) == 1:
        return chosen[0]
    known = ", ".join(f"{bin_.name} ({bin_.pid})" for bin_ in bins[:20])
    if not bins:
        raise ValueError("it has no element Bins with a Bin, so it is not a CaloChallenge binning")
    if particle is None:
        raise ValueError(f"it has several particles; choose one of {known}")
    found = f"{len(chosen)} particles are" if chosen else "no particle is"
    raise ValueError(f"{found} named {particle!r}; its particles are {known}")


def _part(layer: dict[str, str]) -> Polar | None:
    try:
        edges = [float(edge) for edge in layer.get("r_edges", "").split(",")]
    except ValueError:
        raise ValueError(f"r_edges must be numbers, got {format_value(layer.get('r_edges'))}") from None
    return None if edges == [0.0] else Polar(edges, _whole("n_bin_alpha", layer))


def _whole(name: str, layer: dict[str, str]) -> int:
    text = layer.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(f"{name} of a Layer must be an integer, got {format_value(text)}")
    return int(text)

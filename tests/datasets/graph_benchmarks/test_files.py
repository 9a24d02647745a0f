"""Raw files of graph benchmarks: search in every layout, and errors that name damaged files."""

import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from benchmark_files import write_citation_full, write_planetoid, write_tu, write_webkb

from supa_datasets import load_benchmark

pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")


def _write(folder: Path, name: str) -> Path:
    """Write the raw files of a small synthetic set and return their folder."""
    if name == "MUTAG":
        write_tu(folder, name, graphs=8)
        return folder / name / "raw"
    if name == "Cora":
        write_planetoid(folder)
        return folder / name / "raw"
    if name == "Texas":
        write_webkb(folder)
        return folder / "texas" / "raw"
    write_citation_full(folder)
    return folder / "cora_ml" / "raw"


SETS = {"MUTAG": 8, "Cora": 1, "CitationFull-Cora_ML": 1, "Texas": 1}


def _flat(raw: Path, root: Path) -> None:
    shutil.copytree(raw, root / raw.parent.name)


def _bare(raw: Path, root: Path) -> None:
    shutil.copytree(raw, root)


def _other_case(raw: Path, root: Path) -> None:
    shutil.copytree(raw, root / raw.parent.name.swapcase() / "RAW")
    for path in (root / raw.parent.name.swapcase() / "RAW").iterdir():
        path.rename(path.with_name(path.name.swapcase()))


def _other_name(raw: Path, root: Path) -> None:
    shutil.copytree(raw, root / "deep" / "my copy")


def _zipped(raw: Path, root: Path, folder: str, name: str) -> None:
    root.mkdir()
    with zipfile.ZipFile(root / name, "w") as archive:
        for path in raw.iterdir():
            archive.write(path, f"{folder}{path.name}")


def _zipped_flat(raw: Path, root: Path) -> None:
    _zipped(raw, root, f"{raw.parent.name}/", f"{raw.parent.name}.zip")


def _zipped_bare(raw: Path, root: Path) -> None:
    _zipped(raw, root, "", f"{raw.parent.name.lower()}.ZIP")


def _zipped_among_others(raw: Path, root: Path) -> None:
    _zipped(raw, root, "sets-main/data/", "sets-main.zip")


def _linked_folder(raw: Path, root: Path) -> None:
    root.mkdir()
    (root / "back").symlink_to(root)  # a cycle
    (root / raw.parent.name).symlink_to(raw.parent)


def _linked_raw(raw: Path, root: Path) -> None:
    (root / raw.parent.name).mkdir(parents=True)
    (root / raw.parent.name / "raw").symlink_to(raw)


def _linked_files(raw: Path, root: Path) -> None:
    (root / "links").mkdir(parents=True)
    for path in raw.iterdir():
        (root / "links" / path.name).symlink_to(path)


LAYOUTS = (
    _flat, _bare, _other_case, _other_name, _zipped_flat, _zipped_bare, _zipped_among_others, _linked_folder,
    _linked_raw, _linked_files,
)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SETS)
def test_a_set_is_found_in_every_layout(tmp_path, name, layout):
    layout(_write(tmp_path / "made", name), tmp_path / "root")
    assert len(load_benchmark(name, root=tmp_path / "root", cache=tmp_path / "cache")) == SETS[name]


def test_the_folder_of_the_set_comes_before_other_copies(tmp_path):
    write_tu(tmp_path / "root" / "a backup", "MUTAG", graphs=4)
    (tmp_path / "root" / "a backup" / "MUTAG").rename(tmp_path / "root" / "a backup" / "old")
    write_tu(tmp_path / "root", "MUTAG", graphs=8)
    assert len(load_benchmark("MUTAG", root=tmp_path / "root", cache=tmp_path / "cache")) == 8


def test_damaged_zips_of_other_sets_are_ignored(tmp_path):
    _zipped_flat(_write(tmp_path / "made", "MUTAG"), tmp_path / "root")
    (tmp_path / "root" / "NCI1.zip").write_bytes(b"cut")
    assert len(load_benchmark("MUTAG", root=tmp_path / "root", cache=tmp_path / "cache")) == 8


def test_missing_files_are_named_and_not_downloaded(tmp_path):
    raw = _write(tmp_path, "MUTAG")
    (raw / "MUTAG_graph_indicator.txt").unlink()
    with pytest.raises(ValueError, match=r"MUTAG: .*raw lacks MUTAG_graph_indicator\.txt"):
        load_benchmark("MUTAG", root=tmp_path, cache=tmp_path / "cache")


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def _cut_after_a_line(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) * 2 // 3 // 2 * 2 - 1]))


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


BINARY = {
    "Cora": ["ind.cora.graph", "ind.cora.allx", "ind.cora.ty"],
    "CitationFull-Cora_ML": ["cora_ml.npz"],
    "Texas": ["texas_split_0.6_0.2_3.npz"],
}
TEXT = {
    "MUTAG": [f"MUTAG_{part}.txt" for part in ("A", "graph_indicator", "graph_labels", "node_labels")],
    "Cora": ["ind.cora.test.index"],
    "Texas": ["out1_graph_edges.txt", "out1_node_feature_label.txt"],
}


def _cases():
    for files in (BINARY, TEXT):
        for name in files:
            for file in files[name]:
                for damage in (_cut, _emptied, _zeros):
                    yield pytest.param(name, file, damage, id=f"{file}-{damage.__name__}")
    for name in ("MUTAG", "Cora"):
        for file in TEXT[name]:
            yield pytest.param(name, file, _cut_after_a_line, id=f"{file}-a_line")


@pytest.mark.parametrize(("name", "file", "damage"), list(_cases()))
def test_a_damaged_file_is_named_and_a_repaired_one_is_used(tmp_path, name, file, damage):
    raw = _write(tmp_path / "root", name)
    whole = (raw / file).read_bytes()
    damage(raw / file)
    with pytest.raises(ValueError, match="raw files are damaged") as error:
        load_benchmark(name, root=tmp_path / "root", cache=tmp_path / "cache")
    assert type(error.value) is ValueError
    assert str(raw / file) in str(error.value)
    assert not list((tmp_path / "cache").rglob("raw"))
    (raw / file).write_bytes(whole)
    assert len(load_benchmark(name, root=tmp_path / "root", cache=tmp_path / "cache")) == SETS[name]


def test_a_truncated_number_is_an_error(tmp_path):
    raw = _write(tmp_path, "MUTAG")
    edges = (raw / "MUTAG_A.txt").read_text()
    (raw / "MUTAG_A.txt").write_text(edges[: len(edges) // 2] + "7\n")
    with pytest.raises(ValueError, match=r"MUTAG_A\.txt"):
        load_benchmark("MUTAG", root=tmp_path, cache=tmp_path / "cache")


def test_an_edge_in_one_direction_only_is_an_error(tmp_path):
    raw = _write(tmp_path, "MUTAG")
    edges = (raw / "MUTAG_A.txt").read_text().splitlines(keepends=True)
    (raw / "MUTAG_A.txt").write_text("".join(edges[1:]))
    with pytest.raises(ValueError, match=r"MUTAG_A\.txt: each edge must be listed in both directions"):
        load_benchmark("MUTAG", root=tmp_path, cache=tmp_path / "cache")


def test_edges_truncated_after_a_graph_are_an_error(tmp_path):
    raw = _write(tmp_path, "MUTAG")
    (raw / "MUTAG_A.txt").write_text("".join((raw / "MUTAG_A.txt").read_text().splitlines(keepends=True)[:4]))
    with pytest.raises(ValueError, match=r"MUTAG_A\.txt: the last graph, 8, has no edge; the file is truncated"):
        load_benchmark("MUTAG", root=tmp_path, cache=tmp_path / "cache")


def test_files_of_different_sets_are_an_error(tmp_path):
    raw = _write(tmp_path, "Cora")
    with (raw / "ind.cora.tx").open("wb") as file:
        pickle.dump(np.zeros((19, 6), np.float32), file)
    with pytest.raises(ValueError, match=r"ind\.cora\.tx has 19 rows, but .*ind\.cora\.ty has 20"):
        load_benchmark("Cora", root=tmp_path, cache=tmp_path / "cache")


def test_a_damaged_file_in_a_zip_is_named(tmp_path):
    _zipped_flat(_write(tmp_path / "made", "MUTAG"), tmp_path / "root")
    path = tmp_path / "root" / "MUTAG.zip"
    path.write_bytes(path.read_bytes().replace(b"1, 2\n", b"1, 3\n", 1))
    with pytest.raises(ValueError, match=r"MUTAG\.zip: MUTAG/MUTAG_A\.txt: the compressed file is damaged"):
        load_benchmark("MUTAG", root=tmp_path / "root", cache=tmp_path / "cache")

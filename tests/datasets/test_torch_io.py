"""PyTorch files: only the file itself is written."""

import pytest
import torch

from supa_datasets.torch_io import write_atomic


@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard"])
def test_a_planted_link_is_not_followed(tmp_path, kind):
    mine, planted = tmp_path / "mine.txt", tmp_path / "a.pt.new"
    mine.write_text("mine")
    if kind == "hard":
        planted.hardlink_to(mine)
    else:
        planted.symlink_to(mine if kind == "symbolic" else tmp_path / "absent")
    with pytest.raises(ValueError, match=r"a\.pt: a\.pt\.new, which would be written, is a link .*; remove it"):
        write_atomic(tmp_path / "a.pt", {"a": torch.zeros(1)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt.new", "mine.txt"]
    assert mine.read_text() == "mine"


def test_a_link_at_the_path_is_followed(tmp_path):
    (tmp_path / "link.pt").symlink_to(tmp_path / "a.pt")
    write_atomic(tmp_path / "link.pt", {"a": torch.zeros(1)})
    assert (tmp_path / "link.pt").is_symlink()
    assert torch.load(tmp_path / "a.pt")["a"].tolist() == [0.0]

"""The runner of documentation pages (tests/tools/pages.py) finds all blocks, commands, links and anchors."""

import pytest
from pages import Command, Page, commands, run_page

PAGE = """# A `first` page

Text with a [link](other.md#part) and `[code](is/no/link.md)`.

```python
x = 1
```

:::{note}
A note with code:

```{code-block} python
:emphasize-lines: 1

x += 1
```
:::

- In a list:

  ```sh
  mkdir folder  # a comment
  pip install something
  ```

```text
supa is not run
```

## Part two: *again*
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Return a small page, in a temporary folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    return Page.read(path)


def test_blocks_have_their_language_text_and_line(page):
    found = [(block.language, block.first_line, block.line) for block in page.blocks]
    assert found == [
        ("python", "x = 1", 6),
        ("python", "x += 1", 15),
        ("sh", "mkdir folder  # a comment", 22),
        ("text", "supa is not run", 27),
    ]


def test_links_and_anchors_are_found_outside_of_code(page):
    assert page.links == [(3, "other.md#part")]
    assert page.anchors == {"a-first-page", "part-two-again"}


def test_blocks_run_in_order_and_in_one_namespace(page, tmp_path):
    result = run_page(page, {}, {"x += 1": "x += 10; print(x)"})
    assert result.output == "11\n"
    assert (tmp_path / "folder").is_dir()


def test_skipped_blocks_do_not_run(page):
    assert run_page(page, {"x += 1": "reason"}, {}).names["x"] == 1


def test_unused_entries_of_the_tables_are_errors(page):
    with pytest.raises(AssertionError, match="no block contains"):
        run_page(page, {}, {"y = 1": "y = 2"})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("supa info a.h5  # comment", [Command(("supa", "info", "a.h5"))]),
        ("$ supa info \\\n    a.h5", [Command(("supa", "info", "a.h5"))]),
        ("A=1 supa info 'a b.h5' > out.txt", [Command(("supa", "info", "a b.h5"), {"A": "1"}, "out.txt")]),
        ("pip install . && supa info", [Command(("pip", "install", ".")), Command(("supa", "info"))]),
        ("supa plot --set a=[1,2]", [Command(("supa", "plot", "--set", "a=[1,2]"))]),
    ],
)
def test_shell_lines_become_commands(line, expected):
    assert list(commands(line)) == expected


@pytest.mark.parametrize("line", ["supa info a.h5 | head", "supa info < a.h5", "supa generate a.h5 &"])
def test_lines_that_need_a_shell_are_errors(line):
    with pytest.raises(ValueError, match="needs a real shell"):
        list(commands(line))


def test_python_dash_m_supa_is_supa():
    [command] = commands("python -m supa info a.h5")
    assert command.program == "supa"
    assert command.arguments == ["info", "a.h5"]


def test_unknown_programs_and_failing_commands_are_errors(page, tmp_path):
    for text, message in (("sl", "not a known program"), ("supa info missing.h5", "missing.h5")):
        path = tmp_path / "bad.md"
        path.write_text(f"```sh\n{text}\n```\n", encoding="utf-8")
        with pytest.raises(AssertionError, match=message):
            run_page(Page.read(path), {}, {})

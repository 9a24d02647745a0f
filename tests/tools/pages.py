"""Markdown pages: their code blocks, prose, headings and links, and a runner for the code blocks."""

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

_FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,}|:{3,})\s*(?P<info>.*?)\s*$")
_DIRECTIVE = re.compile(r"^\{(?P<name>[\w:-]+)\}\s*(?P<argument>.*)$")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_CODE_DIRECTIVES = {"code-block", "code", "sourcecode"}
# Directives whose content is Markdown. The content of every other directive is skipped, like code.
_MARKDOWN_DIRECTIVES = {
    "admonition", "attention", "card", "caution", "danger", "dropdown", "figure", "grid", "grid-item",
    "grid-item-card", "hint", "important", "note", "seealso", "tab-item", "tab-set", "tip", "topic", "warning",
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Args:
        language: First word after the fence, or the argument of a ``code-block`` directive.
        text: Code without the fence and without the indentation of the block.
        line: Number of the first line of code, from 1.
    """

    language: str
    text: str
    line: int

    @property
    def first_line(self) -> str:
        """First line of the code."""
        return self.text.partition("\n")[0]


@dataclass
class Page:
    """A parsed page.

    Args:
        path: The file.
        blocks: All code blocks, in document order.
        prose: (line number, line) of all lines outside of code blocks.
    """

    path: Path
    blocks: list[Block] = field(default_factory=list)
    prose: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Page":
        """Parse a Markdown file (CommonMark fences and MyST directives)."""
        page, containers, block = cls(path), [], None
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            fence = _FENCE.match(line)
            if block is not None:
                language, closing, first, lines = block
                if fence and not fence["info"] and fence["fence"].startswith(closing):
                    options = len(lines) - len(_without_options(lines))
                    text = textwrap.dedent("".join(lines[options:]))
                    page.blocks.append(Block(language, text, first + options))
                    block = None
                else:
                    lines.append(f"{line}\n")
            elif fence and not fence["info"] and fence["fence"] in containers:
                while containers.pop() != fence["fence"]:
                    pass
            elif fence and (name := _DIRECTIVE.match(fence["info"])) and name["name"] in _MARKDOWN_DIRECTIVES:
                containers.append(fence["fence"])
            elif fence:
                block = (_language(fence["info"]), fence["fence"], number + 1, [])
            else:
                page.prose.append((number, line))
        assert block is None, f"{path}: the code block from line {block[2] - 1} on is not closed"
        return page

    @property
    def links(self) -> list[tuple[int, str]]:
        """(line number, target) of all links and images."""
        return [(number, target) for number, line in self.prose for target in _LINK.findall(_without_code(line))]

    @property
    def anchors(self) -> set[str]:
        """Anchors of the headings, as GitHub and MyST make them, and explicit targets."""
        found: dict[str, int] = {}
        anchors = set()
        for _, line in self.prose:
            if heading := re.match(r"#{1,6}\s+(.*)", line):
                slug = re.sub(r"[^\w\- ]", "", _plain(heading[1]).lower()).replace(" ", "-")
                count = found[slug] = found.get(slug, -1) + 1
                anchors.add(f"{slug}-{count}" if count else slug)
            elif target := re.match(r"\(([\w-]+)\)=\s*$", line):
                anchors.add(target[1])
        return anchors


def _without_options(lines: list[str]) -> list[str]:
    """Remove the options of a directive, such as ``:emphasize-lines: 3``, and the empty line after them."""
    start = 0
    while start < len(lines) and re.match(r"\s*:[\w-]+:", lines[start]):
        start += 1
    return lines[start + 1 :] if start and start < len(lines) and not lines[start].strip() else lines[start:]


def _language(info: str) -> str:
    if directive := _DIRECTIVE.match(info):
        return directive["argument"] if directive["name"] in _CODE_DIRECTIVES else f"{{{directive['name']}}}"
    return info.partition(" ")[0]


def _without_code(line: str) -> str:
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line)


def _plain(heading: str) -> str:
    """Remove the markup of links, roles and code from a heading."""
    return re.sub(r"\{[\w:]+\}|`", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip()


# ---------------------------------------------------------------------- shell commands


@dataclass(frozen=True)
class Command:
    """A command of a shell block.

    Args:
        words: Program and arguments.
        environment: Variables that are set for this command.
        output: File that receives the standard output, if any.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None

    @property
    def program(self) -> str:
        """Name of the program, ``"supa"`` also for ``python -m supa``."""
        return "supa" if self.words[:3] in _MODULE_FORMS else self.words[0]

    @property
    def arguments(self) -> list[str]:
        """Arguments of the program."""
        return list(self.words[3 if self.words[:3] in _MODULE_FORMS else 1 :])


_MODULE_FORMS = {("python", "-m", "supa"), ("python3", "-m", "supa"), ("python", "-m", "supa_cli.main")}


def commands(text: str) -> Iterator[Command]:
    """Split a shell block into commands.

    Continued lines, comments, ``NAME=value`` prefixes, ``&&``, ``;`` and ``> file`` are understood; pipes are not.

    Args:
        text: The block.

    Returns:
        An iterator over the commands.

    Raises:
        ValueError: If a command uses other features of the shell.
    """
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in (";", "&&"):
                if words:
                    yield _command(words, line)
                words = []
            else:
                words.append(word)


def _command(words: list[str], line: str) -> Command:
    environment, output = {}, None
    while words and (pair := re.fullmatch(r"([A-Z_][A-Z0-9_]*)=(.*)", words[0], re.DOTALL)):
        environment[pair[1]] = pair[2]
        words = words[1:]
    if len(words) > 2 and words[-2] == ">":
        *words, _, output = words
    if not words or any(set(word) <= set(";&|<>") for word in words):
        raise ValueError(f"this line needs a real shell: {line}")
    return Command(tuple(words), environment, output)


# ---------------------------------------------------------------------- the runner

SETUP_PROGRAMS = {
    ".", ".ci/run", "asv", "cd", "codespell", "conda", "eval", "export", "git", "mypy", "nbstripout", "nox",
    "pip", "pipx", "playwright", "pre-commit", "pytest", "python", "python3", "ruff", "sbatch", "scancel",
    "source", "sphinx-build", "squeue", "srun", "tensorboard", "torchrun", "uv",
}  # fmt: skip
"""Programs that set up an environment, need a network or a cluster, or only show results. They are not run."""
FILE_PROGRAMS = {"cat", "cp", "head", "ls", "mkdir", "mv", "rm"}
"""Programs that are run as they are, because later commands may need their effect."""


@dataclass
class Result:
    """Results of running the blocks of a page.

    Args:
        names: Namespace of the Python blocks after the last one.
        output: Standard output of all Python blocks and commands, in order.
        commands: Commands of ``supa`` that were run.
    """

    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    output: str = ""
    commands: list[Command] = field(default_factory=list)


def run_page(page: Page, skipped: Mapping[str, str], replaced: Mapping[str, str]) -> Result:
    """Run the Python and shell blocks of a page in document order, in the current folder and in one namespace.

    Args:
        page: The page.
        skipped: First lines of the blocks that are not run, and the reasons.
        replaced: Texts that are replaced in all blocks, to make heavy commands small.

    Returns:
        The namespace, the output and the commands.

    Raises:
        AssertionError: If a block or a command fails, or an entry of ``skipped`` or ``replaced`` is unused.
    """
    result = Result()
    unused = {*skipped, *replaced}
    for block in page.blocks:
        if block.language not in ("python", "pycon", "sh"):
            continue
        if block.first_line in skipped:
            unused.discard(block.first_line)
            continue
        text = block.text
        for old, new in replaced.items():
            if old in text:
                unused.discard(old)
                text = text.replace(old, new)
        if block.language == "sh":
            for command in commands(text):
                _run_command(command, result, f"{page.path.name}, block at line {block.line}")
        else:
            _run_python(text, block.line, page.path, result)
    assert not unused, f"{page.path.name}: no block contains {unused}; remove the entry from its table"
    return result


def _run_python(text: str, line: int, path: Path, result: Result) -> None:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        if text.lstrip().startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(text, result.names, path.name, str(path), line)
            report: list[str] = []
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            runner.run(test, out=report.append, clear_globs=False)
            result.names.update(test.globs)
            assert not runner.failures, "".join(report)
        else:
            exec(compile("\n" * (line - 1) + text, str(path), "exec"), result.names)
    result.output += output.getvalue()


def _run_command(command: Command, result: Result, place: str) -> None:
    from click.testing import CliRunner

    from supa_cli.main import cli

    if command.program in FILE_PROGRAMS:
        found = shutil.which(command.program)
        assert found, command.program
        subprocess.run([found, *_expanded(command.arguments)], check=True, capture_output=True)
    elif command.program == "supa":
        with mock.patch.dict(os.environ, command.environment):
            outcome = CliRunner().invoke(cli, _expanded(command.arguments), catch_exceptions=False)
        assert outcome.exit_code == 0, f"{place}: {shlex.join(command.words)} failed:\n{outcome.output}"
        if command.output is not None:
            Path(command.output).write_bytes(outcome.stdout_bytes)
        result.output += outcome.stdout
        result.commands.append(command)
    else:
        assert command.program in SETUP_PROGRAMS, (
            f"{place}: {command.program} is not a known program. "
            "Add it to SETUP_PROGRAMS or FILE_PROGRAMS in tests/tools/pages.py."
        )


def _expanded(words: list[str]) -> list[str]:
    """Expand file name patterns, as a shell does."""
    expanded: list[str] = []
    for word in words:
        pattern = word.startswith("/") or not re.search(r"[*?]", word)
        expanded += [word] if pattern else [str(path) for path in sorted(Path().glob(word))] or [word]
    return expanded

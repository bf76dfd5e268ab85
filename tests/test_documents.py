"""The documents can be followed: every link leads somewhere, and every command in them can be typed."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from markdown_it import MarkdownIt

from cirbench.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/*.md", "docs/guides/*.md", "leaderboards/*.md", "methods/*/*/*.md")
    for path in sorted(ROOT.glob(pattern))
]
GUIDES = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # whose commands are those of their time
COMMAND = re.compile(r"(?:^|&& |^[A-Z_]+=\S+ )(cirbench .*)")


@cache
def tokens(path: Path) -> tuple[Token, ...]:
    """Every token of a document, those within lines included."""
    blocks = MarkdownIt("commonmark").enable("table").parse(path.read_text())
    return tuple(token for block in blocks for token in (block, *(block.children or ())))


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    found = tokens(path)
    titles = [after.content for token, after in itertools.pairwise(found) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(path: Path) -> Iterator[str]:
    """Every cirbench command in a code block or a code span; an ellipsis ends it, where a reader has to fill in."""
    for token in tokens(path):
        if token.type in ("fence", "code_block", "code_inline"):
            for line in token.content.replace("\\\n", " ").splitlines():
                for found in COMMAND.findall(line):
                    yield re.split(r"\s\.\.\.|\s[|>]\s|\s{2,}#|\s#\s|\s&&\s", found)[0]


REPOSITORY = re.compile(
    r"https://(?:github\.com|raw\.githubusercontent\.com)/cirbench/cirbench/(?:(?:blob|tree)/)?main/"
)
"""What leads to a file of this repository from elsewhere, such as from the README on PyPI."""


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_this_repository_leads_to_a_file_and_a_heading(path: Path) -> None:
    targets = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in tokens(path)]
    root = os.path.relpath(ROOT, path.parent)
    for target in (REPOSITORY.sub(f"{root}/", target) for target in targets):
        if not target or "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_has_a_verb_and_options_that_exist(path: Path) -> None:
    for line in commands(path):
        words = shlex.split(line)[1:]
        command: click.Command = cli
        context = click.Context(cli)
        known = _options(cli)
        while isinstance(command, click.Group) and words:
            if words[0].startswith("-"):
                assert words.pop(0) in known, line
                continue
            choices = words.pop(0).split("|")  # `cirbench data plan|get|check`
            found = [command.get_command(context, choice) for choice in choices]
            assert None not in found, line
            command = found[0] or command
            known = _options(command)
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= known, f"{line}: {given - known}"


def _options(command: click.Command) -> set[str]:
    names = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    return names | {"--help", "-h", "--version"}


def test_the_readme_has_commands_and_fits_on_a_page_that_is_read() -> None:
    assert len(list(commands(ROOT / "README.md"))) > 20
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


def test_the_readme_leads_everywhere_from_anywhere() -> None:
    """It is the project's page on PyPI, too, where relative links lead nowhere."""
    for token in tokens(ROOT / "README.md"):
        target = str(token.attrs.get("href") or token.attrs.get("src") or "https://")
        assert target.startswith(("https://", "#")), target

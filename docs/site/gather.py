"""Gather the pages of the documentation site in one folder: ``python docs/site/gather.py build/docs-source``.

They are the README, the pages of ``docs/``, a page for each benchmark, the cards of the methods, and a reference that
is made from the code. A link to a file that is not a page leads to the repository.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click
from protocols import protocol_pages

import cirbench
from cirbench.cli import LazyGroup

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/cirbench/cirbench"
CARDS = ROOT / "methods" / "cirbench_methods"

GUIDES = (
    "features",
    "paper-table",
    "literature",
    "failures",
    "seeds",
    "watch-training",
    "cluster",
    "notebook",
    "another-backbone",
    "joint-models",
    "own-benchmark",
    "own-metric",
    "language-models",
    "re-ranking",
)
HOW_TO = (
    "data",
    "own-data",
    "predictions",
    "submissions",
    "comparing",
    "report",
    "training",
    "training-data",
    "adding-a-method",
    "adding-a-plugin",
    "leaderboard",
    "reproducing",
)
PROTOCOLS = ("protocols", "scenes", "reviewers", "mteb")
REFERENCE = ("api", "reference/api", "reference/cli", "performance", "performance-encoding", "performance-training")
RAW = "https://raw.githubusercontent.com/cirbench/cirbench"
_ABSOLUTE = re.compile(rf"\]\((?:{REPOSITORY}/(?:blob|tree)|{RAW})/main/")
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def gather(target: Path) -> None:
    """Write every page and picture to a folder, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    docs = ROOT / "docs"
    pages = {"index.md": ROOT / "README.md", "changelog.md": ROOT / "CHANGELOG.md"}
    pages |= {path.relative_to(docs).as_posix(): path for path in docs.rglob("*.md")}
    pages |= {f"methods/{card.parent.name}.md": card for card in CARDS.glob("*/README.md")}
    made = {source: path for path, source in pages.items()}
    texts = {path: _led(source.read_text(encoding="utf-8"), source, path, made) for path, source in pages.items()}
    texts |= protocol_pages(REPOSITORY)
    texts |= {
        "index.md": texts["index.md"] + order(texts),
        "reference/api.md": api_page(),
        "reference/cli.md": cli_page(),
    }
    for path, text in texts.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text, encoding="utf-8")
    for picture in (*docs.glob("*.png"), *docs.glob("*.svg")):
        (target / "docs").mkdir(exist_ok=True)
        for folder in (target, target / "docs"):  # beside pages of docs/, and as the README names it
            shutil.copy(picture, folder / picture.name)


def _led(text: str, source: Path, page: str, made: dict[Path, str]) -> str:
    """Lead every link to the page that shows a file, or to the file in the repository."""
    up = "../" * page.count("/")

    def led(match: re.Match[str]) -> str:
        path, anchor = (source.parent / match[1]).resolve(), match[2] or ""
        if not path.exists() or path.suffix in (".png", ".svg"):
            return match[0]
        if path in made:
            return f"]({up}{made[path]}{anchor})"
        kind = "tree" if path.is_dir() else "blob"
        return f"]({REPOSITORY}/{kind}/main/{path.relative_to(ROOT).as_posix()}{anchor})"

    root = f"{os.path.relpath(ROOT, source.parent)}/".removeprefix("./")
    return _LINK.sub(led, _ABSOLUTE.sub(f"]({root}", text))


def order(pages: Collection[str]) -> str:
    """Write the order of all pages, which the first page holds."""
    cards = sorted(path for path in pages if path.startswith("methods/"))
    newer = sorted(path.removesuffix(".md") for path in pages if path.startswith("guides/"))
    parts = {
        "Guides": list(dict.fromkeys([*(f"guides/{name}" for name in GUIDES), *newer])),
        "How to": [*HOW_TO],
        "Protocols": [
            *PROTOCOLS,
            *sorted(path.removesuffix(".md") for path in pages if path.startswith("benchmarks/")),
        ],
        "Methods": [path.removesuffix(".md") for path in cards],
        "Reference": [*REFERENCE, "changelog"],
    }
    placed = {f"{name}.md" for names in parts.values() for name in names} | {"index.md"}
    if left := set(pages) - placed:
        raise SystemExit(f"no part of the site has {', '.join(sorted(left))}")
    tree = "\n```{{toctree}}\n:hidden:\n:caption: {}\n\n{}\n```\n"
    return "".join(tree.format(part, "\n".join(names)) for part, names in parts.items())


def api_page() -> str:
    """Write the reference of ``dir(cirbench)``."""
    parts = [f"```{{eval-rst}}\n.. {_directive(name)}:: cirbench.{name}\n```\n" for name in dir(cirbench)]
    lead = "What `import cirbench` offers; [From Python](../api.md) shows how it is used."
    return "\n".join(["# Every name", "", lead, "", *parts])


def _directive(name: str) -> str:
    return "autoclass" if isinstance(getattr(cirbench, name), type) else "autofunction"


def cli_page() -> str:
    """Write the reference of the command line from the commands themselves."""
    return "\n".join(["# Command line", "", *_command("cirbench", LazyGroup("cirbench"), None)])


def _command(name: str, command: click.Command, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent, terminal_width=100)
    if parent is not None:
        yield f"{'#' * min(4, 1 + name.count(' '))} {name}\n"
    yield f"```text\n{textwrap.dedent(command.get_help(context)).strip()}\n```\n"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            if found is not None and not found.hidden:
                yield from _command(f"{name} {each}", found, context)


if __name__ == "__main__":
    gather(Path(sys.argv[1]))

"""``cirbench leaderboard build``: the whole site in one folder, byte for byte the same from the same data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.benchmarks.catalogue import datasets
from cirbench.errors import UsageError
from cirbench.leaderboard.board import board_table, read_leaderboard, summaries
from cirbench.leaderboard.check import Verdict, checked
from cirbench.leaderboard.site import frame
from cirbench.leaderboard.site.cases import Thumbnails
from cirbench.leaderboard.site.frame import SCRIPT, STYLE, static
from cirbench.leaderboard.site.home import home
from cirbench.leaderboard.site.views import (
    BoardView,
    columns,
    explorer_page,
    explorer_view,
    filters,
    method_views,
    run_page,
    run_view,
    view,
)
from cirbench.support.files import read_versioned, write_text, write_versioned
from cirbench.support.tables.formats import render

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cirbench.leaderboard.board import Board, BoardRow
    from cirbench.leaderboard.check import Parser

_SUFFIXES = {"csv": "csv", "json": "json", "md": "md", "latex": "tex"}


def downloads(view: BoardView) -> dict[str, str]:
    """Write a board in every form but a page, by path."""
    table = board_table(view.board)
    return {f"data/{view.anchor}.{suffix}": render(table, form) for form, suffix in _SUFFIXES.items()}


@dataclasses.dataclass(frozen=True)
class BenchmarkView:
    """The page of a benchmark; ``runs_here`` says whether cirbench has its data."""

    slug: str
    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    views: tuple[BoardView, ...]
    runs_here: bool = True

    @property
    def short(self) -> str:
        """Its name where there is little room."""
        return self.title.partition(" ")[0]

    @property
    def filters(self) -> list[tuple[str, str, list[str]]]:
        """What rows can be chosen by."""
        return filters(self.views)

    @property
    def columns(self) -> list[tuple[str, str, bool, bool]]:
        """What columns can be chosen."""
        return columns(self.views)


class PageFailed(Exception):
    """The page of an entry cannot be written, whatever the reason; the verdict on it."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.name)
        self.verdict = verdict


def pages(boards: Sequence[Board], entries: Path, thumbnails: Thumbnails) -> dict[str, str]:
    """Write every file of the site but the thumbnails, which are written on the way.

    Args:
        boards: What to show.
        entries: The folder of the entries among their rows.
        thumbnails: Where small pictures of what runs retrieved go.

    Raises:
        PageFailed: An entry passes the check and cannot be shown; the others can, without it.
    """
    views = [view(board, entries) for board in boards]
    benchmarks = _benchmarks(views)
    methods = method_views(views)
    written = {STYLE: static(STYLE), SCRIPT: static(SCRIPT)}

    def write(path: str, template: str, part: str, **content: Any) -> None:
        root = "../" * path.count("/")
        if path in written:
            raise ValueError(f"two pages would be {path}")
        written[path] = frame.render(template, root=root, part=part, benchmarks=benchmarks, **content)

    explored = {}
    for each in views:
        if (explorer := explorer_view(each, entries, thumbnails)) is not None:
            explored[each.anchor] = explorer_page(each)
            write(explored[each.anchor], "explore.html", each.benchmark, page=explorer)
    for each in views:
        for row in each.board.rows:
            if row.is_run:

                def page(each: BoardView = each, row: BoardRow = row) -> bool:
                    content = run_view(each, row, entries, thumbnails)
                    write(run_page(row), "run.html", each.benchmark, page=content, explorer=explored.get(each.anchor))
                    return True

                done, failed = checked(entries / row.id, page)
                if done is None:
                    raise PageFailed(failed)
    write("index.html", "index.html", "index", pages=benchmarks, home=home(views, len(methods)))
    for benchmark in benchmarks:
        write(f"benchmarks/{benchmark.slug}.html", "benchmark.html", benchmark.slug, page=benchmark, explored=explored)
    write("methods/index.html", "methods.html", "methods", methods=methods)
    for method in methods:
        write(f"methods/{method.slug}.html", "method.html", "methods", page=method)
    for each in views:
        written |= downloads(each)
    return written


def _benchmarks(views: Sequence[BoardView]) -> list[BenchmarkView]:
    found: dict[str, list[BoardView]] = {}
    for each in views:
        found.setdefault(each.board.benchmark, []).append(each)
    # What can be compared comes first.
    ordered = {name: sorted(group, key=lambda each: -each.ranked) for name, group in found.items()}
    names = sorted(ordered, key=lambda name: (name.startswith("own-"), name == "scenes"))  # what the field quotes first
    return [_benchmark(name, tuple(ordered[name])) for name in names]


def _benchmark(name: str, views: tuple[BoardView, ...]) -> BenchmarkView:
    slug, known = views[0].benchmark, datasets().get(name)
    if known is None:
        lead = "Somebody's own data: its numbers follow from stored ranks, and who has its files can make them again."
        if not name.startswith("own-"):
            lead = "As its papers print it: cirbench does not have this benchmark yet."
        title = views[0].board.title.partition(",")[0] if views[0].published else name.removeprefix("own-")
        return BenchmarkView(slug, title, lead, (), views, runs_here=False)
    title, _, lead = known.title.partition(": ")
    if not lead:
        title, lead = known.name.capitalize(), known.title
    facts = [("licence", known.licence), ("run it", f"cirbench run --method METHOD --dataset {name}")]
    if known.needs is not None:
        facts.insert(1, ("get it", f"cirbench data get {name}"))
    return BenchmarkView(slug, title, f"{lead[:1].upper()}{lead[1:]}.", tuple(facts), views)


SCHEMA_VERSION = 1
MANIFEST = "site.json"
THUMBNAILS = "thumbnails"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a built site consists of.

    Attributes:
        schema_version: Of this form.
        files: Every other file, sorted.
    """

    schema_version: int = SCHEMA_VERSION
    files: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Built:
    """What a build wrote.

    Attributes:
        manifest: Of the site.
        boards: The files with a table of each protocol.
        left_out: The verdict on each entry that is not shown.
    """

    manifest: Manifest
    boards: tuple[Path, ...]
    left_out: tuple[Verdict, ...]


def build_site(entries: Path, output: Path, boards: Path | None = None, parse: Parser | None = None) -> Built:
    """Write the site of the published rows and the valid entries of a folder; files of an earlier one that it lacks go.

    Files that are the same as in the earlier one stay untouched, so that mirrors and caches see what changed.

    Args:
        entries: The folder of entries.
        output: Where the site goes.
        boards: Where the tables of protocols go as Markdown; nowhere where it is ``None``.
        parse: See `cirbench.leaderboard.check.check_entry`.

    Raises:
        UsageError: ``output`` holds something else than a site.
    """
    earlier = _earlier(output)
    without: dict[str, str] = {}
    while True:
        leaderboard = read_leaderboard(entries, parse=parse, without=without)
        thumbnails = Thumbnails(output / THUMBNAILS, f"../{THUMBNAILS}")
        try:
            written = pages(leaderboard.boards, entries, thumbnails)
            break
        except PageFailed as failed:
            without[failed.verdict.name] = failed.verdict.problems[0]
    for path, text in written.items():
        _write_changed(output / path, text)
    manifest = Manifest(files=tuple(sorted([*written, *(f"{THUMBNAILS}/{name}" for name in thumbnails.names)])))
    for path in set(earlier) - {*manifest.files}:
        (output / path).unlink(missing_ok=True)
    write_versioned(output / MANIFEST, manifest)
    tables = {} if boards is None else {boards / name: text for name, text in summaries(leaderboard.boards).items()}
    for file, text in tables.items():
        _write_changed(file, text)
    if boards is not None:
        for file in {*boards.glob("*.md")} - {*tables}:
            file.unlink()
    return Built(manifest, tuple(tables), leaderboard.left_out)


def _write_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def _earlier(output: Path) -> tuple[str, ...]:
    """The files of the site that lies in a folder.

    Raises:
        UsageError: Something else lies there.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return ()
    if not (output / MANIFEST).is_file():
        raise UsageError(f"{output} holds something other than a site.", hint="Give --output a folder of its own.")
    files = read_versioned(output / MANIFEST, Manifest, version=SCHEMA_VERSION).files
    root = output.resolve()
    return tuple(path for path in files if (output / path).resolve().is_relative_to(root))

"""``cirbench leaderboard build``: the whole site in one folder, byte for byte the same from the same data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.benchmarks.catalogue import datasets
from cirbench.errors import UsageError
from cirbench.leaderboard.board import boards
from cirbench.leaderboard.site import frame
from cirbench.leaderboard.site.frame import SCRIPT, STYLE, static
from cirbench.leaderboard.site.methods import method_views
from cirbench.leaderboard.site.naming import HERE, named, settings_of
from cirbench.leaderboard.site.runs import run_view
from cirbench.leaderboard.site.showing import Thumbnails
from cirbench.leaderboard.site.views import BoardView, columns, filters, run_page, view
from cirbench.support.files import read_versioned, write_text, write_versioned
from cirbench.support.tables import Column, Number, Table, render

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cirbench.leaderboard.board import Board
    from cirbench.leaderboard.site.views import BoardView
    from cirbench.support.tables import Row

_SUFFIXES = {"csv": "csv", "json": "json", "md": "md", "latex": "tex"}


def downloads(view: BoardView) -> dict[str, str]:
    """Write a board in every form but a page, by path."""
    table = board_table(view)
    return {f"data/{view.anchor}.{suffix}": render(table, form) for form, suffix in _SUFFIXES.items()}


def board_table(view: BoardView) -> Table:
    """Lay a board out as a table."""
    columns = (
        Column("backbone", "backbone"),
        Column("method", "method"),
        Column("rank", "rank"),
        *(Column(heading.label, heading.short) for heading in view.headings),
        Column("supervision", "supervision"),
        Column("evidence", "evidence"),
        Column("year", "year"),
        Column("source", "source"),
        Column("id", "id"),
    )
    rows: list[Row] = []
    for group in view.board.groups:
        for row in group.rows:
            values = [row.metrics.get(label) for label in view.board.metrics]
            numbers = [None if value is None else Number(value.value, value.low, value.high) for value in values]
            told = (row.supervision, row.badge, str(row.year or ""), row.source, row.id)
            rows.append((group.backbone, row.title, row.rank or "", *numbers, *told))
    return Table(
        f"{view.board.title} ({view.board.id})", columns, tuple(rows), caption="Percent.", notes=view.board.notes
    )


@dataclasses.dataclass(frozen=True)
class BenchmarkView:
    """The page of a benchmark."""

    slug: str
    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    views: tuple[BoardView, ...]

    @property
    def short(self) -> str:
        """Its name where there is little room."""
        return self.title.partition(" ")[0]

    @property
    def filters(self) -> list[tuple[str, str, list[str]]]:
        """What rows can be chosen by."""
        return filters(self.views)

    @property
    def columns(self) -> list[tuple[str, str, bool]]:
        """What columns can be chosen."""
        return columns(self.views)


def pages(boards: Sequence[Board], entries: Path, thumbnails: Thumbnails) -> dict[str, str]:
    """Write every file of the site but the thumbnails, which are written on the way.

    Args:
        boards: What to show.
        entries: The folder of the entries among their rows.
        thumbnails: Where small pictures of what runs retrieved go.

    Raises:
        CheckFailed: An entry does not fit its benchmark.
    """
    settings = settings_of(boards, entries)
    views = [view(board) for board in named(boards, settings)]
    benchmarks = _benchmarks(views)
    methods = method_views(views, settings)
    written = {STYLE: static(STYLE), SCRIPT: static(SCRIPT)}

    def write(path: str, template: str, here: str, **content: Any) -> None:
        root = "../" * path.count("/")
        if path in written:
            raise ValueError(f"two pages would be {path}")
        written[path] = frame.render(template, root=root, here=here, benchmarks=benchmarks, **content)

    write("index.html", "index.html", "index", pages=benchmarks)
    for page in benchmarks:
        write(f"benchmarks/{page.slug}.html", "benchmark.html", page.slug, page=page)
    write("methods/index.html", "methods.html", "methods", methods=methods)
    for method in methods:
        write(f"methods/{method.slug}.html", "method.html", "methods", page=method)
    for each in views:
        for row in each.board.rows:
            if row.badge in HERE:
                write(run_page(row), "run.html", each.benchmark, page=run_view(each, row, entries, thumbnails))
    for each in views:
        written |= downloads(each)
    return written


def _benchmarks(views: Sequence[BoardView]) -> list[BenchmarkView]:
    found: dict[str, list[BoardView]] = {}
    for each in views:
        found.setdefault(each.board.benchmark, []).append(each)
    # What can be compared comes first.
    ordered = {name: sorted(group, key=lambda each: -each.ranked) for name, group in found.items()}
    return [_benchmark(name, tuple(group)) for name, group in ordered.items()]


def _benchmark(name: str, views: tuple[BoardView, ...]) -> BenchmarkView:
    slug, known = views[0].benchmark, datasets().get(name)
    if known is None:
        lead = "Somebody's own data: its numbers follow from stored ranks, and who has its files can make them again."
        return BenchmarkView(slug, name.removeprefix("own-"), lead, (), views)
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


def build_site(entries: Path, output: Path) -> Manifest:
    """Write the site of the published rows and the entries of a folder; files of an earlier one that it lacks go.

    Raises:
        UsageError: ``output`` holds something else than a site.
        CheckFailed: An entry does not hold.
    """
    earlier = _earlier(output)
    thumbnails = Thumbnails(output / THUMBNAILS, f"../{THUMBNAILS}")
    written = pages(boards(entries), entries, thumbnails)
    for path, text in written.items():
        write_text(output / path, text)
    files = tuple(sorted([*written, *(f"{THUMBNAILS}/{name}" for name in thumbnails.names)]))
    manifest = Manifest(files=files)
    for path in set(earlier) - set(files):
        (output / path).unlink(missing_ok=True)
    write_versioned(output / MANIFEST, manifest)
    return manifest


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

"""Every page of the site as text, by its path: a pure function of the boards and of what is installed with cirbench."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from cirbench.datasets.catalogue import datasets
from cirbench.site.downloads import downloads
from cirbench.site.frame import SCRIPT, STYLE, render, static
from cirbench.site.methods import method_views
from cirbench.site.naming import HERE, named, settings_of
from cirbench.site.runs import run_view
from cirbench.site.views import BoardView, columns, filters, run_page, view

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cirbench.leaderboard.board import Board
    from cirbench.site.thumbnails import Thumbnails


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
        written[path] = render(template, root=root, here=here, benchmarks=benchmarks, **content)

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

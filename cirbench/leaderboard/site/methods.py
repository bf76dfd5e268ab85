"""The pages of methods: what each is, its card, and its rows on all benchmarks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from importlib.metadata import entry_points
from importlib.resources import files
from typing import TYPE_CHECKING

from cirbench.errors import CirbenchError
from cirbench.leaderboard.site import figures
from cirbench.leaderboard.site.frame import slug, to_html
from cirbench.leaderboard.site.naming import HERE
from cirbench.leaderboard.site.views import BoardView, run_page
from cirbench.methods.registry import GROUP, find_method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from cirbench.leaderboard.board import BoardRow
    from cirbench.leaderboard.site.figures import Figure
    from cirbench.leaderboard.site.naming import Settings
    from cirbench.methods.interface import MethodSpec


@dataclasses.dataclass(frozen=True)
class MethodView:
    """The page of a method.

    Attributes:
        slug: Its name in addresses.
        title: Its name.
        lead: One line about it, or nothing.
        facts: In pairs.
        paper: The address of its paper, or ``None``.
        rows: Its rows, each with its board.
        runs: The page of each row that was made here, by the row's id.
        figures: What rows that differ in one setting say about it.
        card: Its card, if cirbench ships it.
    """

    slug: str
    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    paper: str | None
    rows: tuple[tuple[BoardView, BoardRow], ...]
    runs: dict[str, str]
    figures: tuple[Figure, ...]
    card: Markup | None

    @property
    def supervision(self) -> str:
        """What it is trained with, as its rows say."""
        return ", ".join(dict.fromkeys(row.supervision for _, row in self.rows))

    @property
    def benchmarks(self) -> str:
        """Where it has rows."""
        return ", ".join(dict.fromkeys(view.board.benchmark for view, _ in self.rows))


def method_views(views: Sequence[BoardView], settings: Settings) -> list[MethodView]:
    """Gather the rows of each method, in the order of their names."""
    rows: dict[str, list[tuple[BoardView, BoardRow]]] = {}
    for view in views:
        for row in view.board.rows:
            rows.setdefault(slug(row.method), []).append((view, row))
    shipped = _shipped()
    found = [_method(name, tuple(theirs), shipped.get(name), settings) for name, theirs in rows.items()]
    return sorted(found, key=lambda method: (method.title.lower(), method.slug))


def _method(
    name: str, rows: tuple[tuple[BoardView, BoardRow], ...], spec: MethodSpec | None, settings: Settings
) -> MethodView:
    facts: list[tuple[str, str]] = []
    if spec is not None:
        facts += [("supervision", spec.supervision)] + ([("paper", spec.paper)] if spec.paper else [])
        facts.append(("run it", f"cirbench run --method {spec.name} --dataset DATASET"))
    printed = [*dict.fromkeys(row.title for _, row in rows if row.badge not in HERE)]
    if len(printed) > 1 or (printed and spec is not None):
        facts.append(("printed as", ", ".join(printed)))
    names = Counter(row.title for _, row in rows)
    title = spec.name if spec else names.most_common(1)[0][0]
    drawn = tuple(figures.ablations([(view.board, row) for view, row in rows], settings))
    return MethodView(
        name,
        title,
        spec.title if spec else "",
        tuple(facts),
        f"https://arxiv.org/abs/{spec.paper.removeprefix('arXiv:')}" if spec and spec.paper else None,
        rows,
        {row.id: run_page(row) for _, row in rows if row.badge in HERE},
        drawn,
        _card(spec) if spec else None,
    )


def _shipped() -> dict[str, MethodSpec]:
    """The methods that come with cirbench itself: what else is installed must not change the site."""
    found = {}
    for point in entry_points(group=GROUP):
        if point.dist is not None and point.dist.name == "cirbench":
            try:
                found[slug(point.name)] = find_method(point.name)
            except CirbenchError:  # broken by a missing extra: its rows are shown without its card
                continue
    return found


def _card(spec: MethodSpec) -> Markup | None:
    package = spec.implementation.partition(":")[0].rpartition(".")[0]
    card = files(package) / "README.md"
    return to_html(card.read_text(encoding="utf-8")) if card.is_file() else None

"""What pages show: boards, runs and methods, with their addresses, headings, facts and figures."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import Counter
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from cirbench.benchmarks.catalogue import protocols
from cirbench.comparison.audit import findings, side_by_side
from cirbench.errors import CirbenchError
from cirbench.leaderboard.audits import audits, released
from cirbench.leaderboard.binding import same_here, ships
from cirbench.leaderboard.board import BADGES, tested_pairs
from cirbench.leaderboard.entry import RANKS, SHOWN_ITEMS, read_entry, read_evidence, read_scores, spread
from cirbench.leaderboard.site import figures
from cirbench.leaderboard.site.cases import ShownCase, cases, outcomes_of_entry, shown
from cirbench.leaderboard.site.frame import Heading, headings, to_html
from cirbench.methods.interface import METHODS, unimodal_baselines
from cirbench.support.console import typed
from cirbench.support.files import slug

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from markupsafe import Markup

    from cirbench.comparison.audit import Audit, Finding
    from cirbench.leaderboard.audits import ReleasedLists
    from cirbench.leaderboard.board import Board, BoardRow
    from cirbench.leaderboard.entry import Entry, EntryMetric
    from cirbench.leaderboard.site.cases import Thumbnails
    from cirbench.leaderboard.site.figures import Figure
    from cirbench.methods.interface import MethodSpec
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.schema import Scored


@dataclasses.dataclass(frozen=True)
class BoardView:
    """One board on a page.

    Attributes:
        board: The board.
        anchor: Its name in addresses.
        benchmark: The name of its page.
        headings: Its columns of numbers.
        figures: Its pictures.
        pairs: How runs differ from each other by the paired test, as JSON: two rows, difference, interval and p-value.
        audits: Of its runs, and of published rows whose lists are released, by row.
    """

    board: Board
    anchor: str
    benchmark: str
    headings: tuple[Heading, ...]
    figures: tuple[Figure, ...]
    pairs: str
    audits: Mapping[str, Audit]

    def findings(self, row: BoardRow) -> list[Finding]:
        """What an audit found about a row; nothing about one that came without lists."""
        return [*findings(self.audits[row.id])] if row.id in self.audits else []

    def lists(self, row: BoardRow) -> ReleasedLists | None:
        """The lists of a published row that its authors released."""
        return released().get(row.id)

    @property
    def caption(self) -> str:
        """What the numbers are."""
        counted = ", in small figures 95 % intervals" if any(map(figures.measured, self.board.rows)) else ""
        return f"Percent{counted}. By backbone, the best first, by {self.headings[0].short}."

    @property
    def badges(self) -> list[str]:
        """The kinds of evidence of its rows."""
        return [badge for badge in BADGES if any(row.badge == badge for row in self.board.rows)]

    @property
    def about(self) -> str:
        """What fixes the numbers."""
        if self.board.protocol is None:
            return "The rows of this table were measured under different protocols."
        known = protocols().get(self.board.protocol)
        hidden = "; the ground truths are kept by a test server" if known and not known.labelled else ""
        size = f"{self.queries} queries" if known and known.queries else "size as in its files"
        size += f", gallery of {self.gallery}" if known and known.gallery else ""
        return f"Protocol {self.board.id}: {size}{hidden}."

    @property
    def queries(self) -> str:
        """How many queries there are."""
        known = protocols().get(self.board.protocol or "")
        return f"{known.queries:,}" if known and known.queries else "–"

    @property
    def gallery(self) -> str:
        """How many images are ranked."""
        known = protocols().get(self.board.protocol or "")
        return f"{known.gallery:,}" if known and known.gallery else "–"

    @property
    def runs(self) -> int:
        """How many rows were made by cirbench."""
        return sum(row.is_run for row in self.board.rows)

    @property
    def ranked(self) -> int:
        """How many rows have a rank."""
        return sum(row.ranked for row in self.board.rows)

    @property
    def published(self) -> int:
        """How many rows are somebody else's."""
        return len(self.board.rows) - self.runs

    def own_page(self, row: BoardRow) -> str | None:
        """The page of a row that was made here."""
        return run_page(row) if row.is_run else None

    def page_of(self, row: BoardRow) -> str:
        """Say where to read more about a row: its own page, or its method's."""
        return self.own_page(row) or method_page(row.method)

    def first_label(self, row: BoardRow) -> str:
        """Choose the number to show for a row where there is room for one."""
        return next(label for label in self.board.metrics if label in row.metrics)


def run_page(row: BoardRow) -> str:
    """The page of a run."""
    return f"runs/{slug(row.id)}.html"


def method_page(method: str) -> str:
    """The page of a method."""
    return f"methods/{slug(method)}.html"


def view(board: Board, entries: Path) -> BoardView:
    """Prepare a board for its page, with what the entries of its runs keep."""
    rows = figures.chosen(board)
    drawn = (*figures.intervals(board), *figures.recall_curves(rows), *figures.slices(rows), *figures.sizes(board))
    return BoardView(
        board,
        slug(board.id),
        slug(board.benchmark),
        headings(board.metrics),
        drawn,
        _pairs(board),
        {
            **audits((row.id for row in board.rows if row.is_run), entries),
            **{row.id: lists.audit for row in board.rows if (lists := released().get(row.id)) is not None},
        },
    )


_MOST_COMPARED = 40


def _pairs(board: Board) -> str:
    """Test the best runs of a board against each other; those that are not copies of each other, and whole."""
    stored = [(row, row.ranks) for row in board.rows if row.ranks is not None and not row.partial][:_MOST_COMPARED]
    evidence = [read_evidence(folder / RANKS) for _, folder in stored]
    found = [
        [
            slug(stored[one][0].id),
            slug(stored[other][0].id),
            *(round(100 * value, 3) for value in (pair.difference, pair.interval.low, pair.interval.high)),
            pair.p_value,
        ]
        for one, other, pair in tested_pairs(evidence, board.metrics[0])
    ]
    return json.dumps(found, separators=(",", ":"))


def filters(views: Sequence[BoardView]) -> list[tuple[str, str, list[str]]]:
    """List what rows can be chosen by: the name, its title, and the choices that occur."""
    rows = [row for view in views for row in view.board.rows]
    backbones = dict.fromkeys(group.backbone for view in views for group in view.board.groups)
    years = sorted({row.year for row in rows if row.year is not None})
    return [
        ("backbone", "Backbone", [*backbones]),
        ("supervision", "Supervision", sorted({row.supervision for row in rows})),
        ("badge", "Evidence", [badge for badge in BADGES if any(row.badge == badge for row in rows)]),
        ("since", "Year from", [str(year) for year in years]),
    ]


def columns(views: Sequence[BoardView]) -> list[tuple[str, str, bool, bool]]:
    """List the columns that can be shown and hidden: key, title, and whether it is shown at first, and on a phone."""
    found = {"rank": ("rank", True, True)}
    for each in views:
        for place, heading in enumerate(each.headings):
            _, shown, narrow = found.get(heading.key, ("", False, False))
            found[heading.key] = (heading.short, shown or heading.shown, narrow or place == 0)
    for key, title in (("supervision", "supervision"), ("badge", "evidence"), ("year", "year"), ("source", "source")):
        found[key] = (title, True, key == "source")
    return [(key, *rest) for key, rest in found.items()]


# Runs.


@dataclasses.dataclass(frozen=True)
class RunView:
    """The page of a run.

    Attributes:
        title: What it is about.
        benchmark: The page of its benchmark.
        row: Its row.
        facts: What a reader wants to know first, in pairs.
        commands: What to type to make it again.
        scores: Its numbers.
        audit: What an audit found, as `cirbench.comparison.audit.side_by_side` lays it out.
        figures: Its pictures.
        identity: Digests and versions, in pairs.
        cases: What it retrieved.
        chosen: How those queries were chosen.
    """

    title: str
    benchmark: str
    row: BoardRow
    facts: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    scores: tuple[EntryMetric, ...]
    audit: list[tuple[str, list[str], str]]
    figures: tuple[Figure, ...]
    identity: tuple[tuple[str, str], ...]
    cases: tuple[ShownCase, ...]
    chosen: str


def run_view(view: BoardView, row: BoardRow, entries: Path, thumbnails: Thumbnails) -> RunView:
    """Read a valid entry and prepare its page."""
    entry = read_entry(entries / row.id)
    entry = msgspec.structs.replace(entry, metrics=read_scores(entry, entries / row.id))
    retrieved = _cases(entry, view, entries, thumbnails)
    return RunView(
        f"{row.title} on {row.protocol}",
        view.benchmark,
        row,
        _facts(entry, row),
        entry.commands,
        entry.metrics,
        side_by_side([view.audits[row.id]]) if row.id in view.audits else [],
        (*figures.recall_curves([row]), *figures.slices([row])),
        _identity(entry),
        retrieved,
        f"{len(retrieved)} of {entry.counts.queries:,} queries, at even distances, whatever became of them.",
    )


def _facts(entry: Entry, row: BoardRow) -> tuple[tuple[str, str], ...]:
    counts, headline = entry.counts, entry.metrics[0]
    interval = "" if headline.low is None or headline.high is None else f" [{headline.low:.2f}, {headline.high:.2f}]"
    facts = {
        headline.label: f"{headline.value:.2f} %{interval}",
        "rank": f"{row.rank} among rows on {row.backbone}" if row.rank else "none",
        "method": f"{entry.method.name}: {entry.method.title}",
        "backbone": row.backbone,
        "protocol": f"{entry.protocol.name} ({entry.protocol.digest[:8]})",
        "scored": f"queries {counts.queries:,}/{counts.queries_expected:,}, "
        f"gallery {counts.gallery:,}/{counts.gallery_expected:,}",
        "made": f"{entry.created[:10]}, cirbench {entry.environment.cirbench} on {entry.environment.device}",
        **row.disclosures,
    }
    if entry.note:
        facts["note"] = entry.note
    return tuple(facts.items())


def _identity(entry: Entry) -> tuple[tuple[str, str], ...]:
    backbone, method = entry.backbone, entry.method
    settings = {**method.parameters, **(method.training or {})}
    facts = {
        "entry": entry.id,
        "run": entry.run,
        "ranks": entry.ranks or "scored by a server",
        "method's code": method.code,
        "checkpoint": method.checkpoint or "none",
        "settings": ", ".join(f"{name}={value}" for name, value in settings.items()) or "none",
        "seed": str(entry.seed),
        "backbone": f"{backbone.name}: {backbone.architecture}, {backbone.activation}, {backbone.precision}",
        "weights": backbone.weights,
        "preprocessing": backbone.preprocessing,
        **({} if entry.scored is None else {"scored from": _files(entry.scored)}),
        "packages": ", ".join(f"{name} {version}" for name, version in sorted(entry.environment.packages.items())),
        "python": f"{entry.environment.python} on {entry.environment.platform}",
        **{f"protocol: {name}": value for name, value in entry.protocol.fields.items()},
    }
    return tuple(facts.items())


def _files(scored: Scored) -> str:
    return ", ".join(
        f"{file.role}: {file.name or 'in memory'}{':' * bool(file.array)}{file.array} ({file.sha256[:12]})"
        for file in scored.files
    )


_CASES = 8
"""How many queries the page of a run shows."""


def _cases(entry: Entry, view: BoardView, entries: Path, thumbnails: Thumbnails) -> tuple[ShownCase, ...]:
    """What was retrieved, where every image comes with cirbench and the benchmark is still the entry's."""
    protocol = _shown_protocol(entry)
    if protocol is None:
        return ()
    unimodal = unimodal_baselines()
    beside = [
        read_entry(entries / row.id)
        for row in view.board.rows
        if row.method in unimodal and row.ranks is not None and not row.partial and row.id != entry.id
    ]
    same = [other for other in beside if other.backbone.digest == entry.backbone.digest]
    outcomes = [outcomes_of_entry(each, read_evidence(entries / each.id / RANKS)) for each in (entry, *same)]
    places = spread(len(outcomes[0].query_ids), _CASES)
    return shown(cases(protocol, outcomes, places, top=SHOWN_ITEMS), entry.metrics[0].label, thumbnails)


def _shown_protocol(entry: Entry) -> EvaluationProtocol | None:
    """The protocol of an entry, if everybody may see its images and it is the one here."""
    if not ships(entry.protocol.name) or not entry.ranks_stored or entry.partial:
        return None
    return same_here(entry.protocol)


@dataclasses.dataclass(frozen=True)
class ExplorerView:
    """The page on which queries of a board are looked at, with what several runs answered.

    Attributes:
        title: What it shows.
        board: The view of its board.
        metric: The number of a query that it shows.
        cases: The queries.
    """

    title: str
    board: BoardView
    metric: str
    cases: tuple[ShownCase, ...]


_MOST_EXPLORED = 12


def explorer_page(view: BoardView) -> str:
    """The page of a board's queries."""
    return f"explore/{view.anchor}.html"


def explorer_view(view: BoardView, entries: Path, thumbnails: Thumbnails) -> ExplorerView | None:
    """Show the queries of a board that runs kept lists of, with the best run of each method; nothing without runs."""
    rows = [row for row in figures.chosen(view.board) if row.ranks is not None]
    read = [read_entry(entries / row.id) for row in rows]
    protocols = [_shown_protocol(entry) for entry in read]
    kept = [(row, entry) for row, entry, found in zip(rows, read, protocols, strict=True) if found][:_MOST_EXPLORED]
    protocol = next(filter(None, protocols), None)
    if protocol is None:
        return None
    evidence = [read_evidence(entries / entry.id / RANKS) for _, entry in kept]
    outcomes = [
        dataclasses.replace(outcomes_of_entry(entry, ranks), name=row.title)
        for (row, entry), ranks in zip(kept, evidence, strict=True)
    ]
    places = sorted({place for ranks in evidence for place in ranks.shown_places})
    metric = view.board.metrics[0]
    found = shown(cases(protocol, outcomes, places, top=SHOWN_ITEMS), metric, thumbnails)
    return ExplorerView(f"Queries of {view.board.id}", view, metric, found)


# Methods.


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


def method_views(views: Sequence[BoardView]) -> list[MethodView]:
    """Gather the rows of each method, in the order of their names."""
    rows: dict[str, list[tuple[BoardView, BoardRow]]] = {}
    for view in views:
        for row in view.board.rows:
            rows.setdefault(slug(row.method), []).append((view, row))
    shipped = _shipped()
    found = [_method(name, tuple(theirs), shipped.get(name)) for name, theirs in rows.items()]
    return sorted(found, key=lambda method: (method.title.lower(), method.slug))


def _method(name: str, rows: tuple[tuple[BoardView, BoardRow], ...], spec: MethodSpec | None) -> MethodView:
    facts: list[tuple[str, str]] = []
    if spec is not None:
        facts += [("supervision", spec.supervision)] + ([("paper", spec.paper)] if spec.paper else [])
        facts.append(("run it", f"cirbench run --method {typed(spec.name)} --dataset DATASET"))
    printed = [*dict.fromkeys(row.title for _, row in rows if not row.is_run)]
    if len(printed) > 1 or (printed and spec is not None):
        facts.append(("printed as", ", ".join(printed)))
    names = Counter(row.title for _, row in rows)
    title = spec.name if spec else names.most_common(1)[0][0]
    drawn = tuple(figures.ablations([(view.board, row) for view, row in rows]))
    return MethodView(
        name,
        title,
        spec.title if spec else "",
        tuple(facts),
        f"https://arxiv.org/abs/{spec.paper.removeprefix('arXiv:')}" if spec and spec.paper else None,
        rows,
        {row.id: run_page(row) for _, row in rows if row.is_run},
        drawn,
        _card(spec) if spec else None,
    )


def _shipped() -> dict[str, MethodSpec]:
    """The methods that come with cirbench itself: what else is installed must not change the site."""
    found = {}
    for name in METHODS.shipped():
        with contextlib.suppress(CirbenchError):  # broken by a missing extra: its rows are shown without its card
            found[slug(name)] = METHODS.find(name)
    return found


def _card(spec: MethodSpec) -> Markup | None:
    package = spec.implementation.partition(":")[0].rpartition(".")[0]
    card = files(package) / "README.md"
    return to_html(card.read_text(encoding="utf-8")) if card.is_file() else None

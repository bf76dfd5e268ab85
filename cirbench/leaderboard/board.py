"""Boards: the rows of one protocol, in an order that claims no more than the tests show.

The rank of a row is a range, from one more than the number of better rows to the number of rows that are not worse. Two
rows are compared by the best evidence that both have: their ranks query by query, else their intervals, else the
interval of one and the printed number of the other, else both printed numbers.

Whether two rows differ depends on these two rows alone. A correction over all rows of a board would let anybody who
adds entries decide about the rows of others, and nobody can check who made an entry. So each pair has a fixed level,
`LEVEL`, which is what Bonferroni's correction gives each of the ten pairs of five methods at 5 %. Source for that level
as a default: Benjamin et al., Redefine statistical significance, Nature Human Behaviour 2, 2018. Entries with the same
ranks are one competitor: a copy shares the rank of its original and moves nobody.
"""

from __future__ import annotations

import dataclasses
import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cirbench.benchmarks.catalogue import datasets, protocols
from cirbench.comparison.differences import distinct_names
from cirbench.comparison.published import Published, Reference, load_published
from cirbench.comparison.tables import chosen_on, reservations, with_remarks
from cirbench.leaderboard.binding import known_protocols
from cirbench.leaderboard.check import Verdict, check_entry, checked
from cirbench.leaderboard.entry import RANKS, Entry, Evidence, entry_folders, read_entry, read_evidence, read_scores
from cirbench.methods.training import CONVERTED
from cirbench.metrics.paired import RankRange, better_of_two, pairs_of
from cirbench.metrics.table import printed_labels, short_label
from cirbench.runs.schema import is_transductive
from cirbench.support.files import slug
from cirbench.support.tables import BEST, Column, Number, Table
from cirbench.support.tables.formats import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cirbench.comparison.published import PublishedRow
    from cirbench.leaderboard.check import Parser
    from cirbench.metrics.measure import Measurement
    from cirbench.metrics.paired import Pair

ENTRIES = Path("leaderboards") / "entries"

LEVEL = 0.005
"""Two rows with ranks differ where the p-value of their paired test is below it."""

REPRODUCED, SCORED, SERVER, PUBLISHED, ELSEWHERE = (
    "reproduced here",
    "scored here",
    "server-scored",
    "as published",
    "as published in another paper",
)
BADGES = (REPRODUCED, SCORED, SERVER, PUBLISHED, ELSEWHERE)


@dataclasses.dataclass(frozen=True)
class BoardRow:
    """One row.

    Attributes:
        id: Of the entry or published row; unique over all boards.
        method: Name of the method of cirbench that it is, or its printed name as a slug.
        title: What to print.
        backbone: In the spelling of the literature where it has one.
        supervision: What it is trained with.
        year: Of the source, or of the run.
        badge: One of `BADGES`.
        protocol: Id, or ``None``.
        metrics: In percent, by label.
        rank: ``"1"``, ``"1-2"``, or ``None`` where it is not ranked.
        partial: Whether a part of the benchmark is missing.
        caveats: Sentences to be read with the numbers.
        source: Where the row comes from, in words.
        link: Where to read more, or ``None``.
        disclosures: What it was trained and selected on and what helped it: yes, no, unknown or a name.
        again: The commands that make the row again, one a line.
        ranks: The folder of the entry whose ranks are stored, or ``None``.
        settings: What its method was set to, as far as it is known.
        code: The address of the method's public code, if it is known.
        bibtex: What to cite for the method, if it is known.
        reservations: Why its numbers are not those of unseen data, in a few words each, which follow its name.
    """

    id: str
    method: str
    title: str
    backbone: str
    supervision: str
    year: int | None
    badge: str
    protocol: str | None
    metrics: Mapping[str, Number]
    rank: str | None
    partial: bool
    caveats: tuple[str, ...]
    source: str
    link: str | None
    disclosures: Mapping[str, str]
    again: str
    ranks: Path | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    code: str = ""
    bibtex: str = ""
    reservations: tuple[str, ...] = ()

    @property
    def ranked(self) -> bool:
        """Whether it takes part in an order."""
        return self.rank is not None

    @property
    def transductive(self) -> bool:
        """Whether it says that it looks at other gallery items or queries to answer one."""
        return self.disclosures.get("transductive") == "yes"

    @property
    def supervised(self) -> bool:
        """Whether its method was trained on triplets."""
        return self.supervision in ("supervised", "triplets")

    @property
    def is_run(self) -> bool:
        """Whether cirbench made it, so that there is an entry."""
        return self.badge in (REPRODUCED, SCORED, SERVER)


@dataclasses.dataclass(frozen=True)
class Group:
    """The rows of one backbone, the best first; a row without a rank is placed by its number."""

    backbone: str
    rows: tuple[BoardRow, ...]

    @property
    def parts(self) -> tuple[tuple[str, tuple[BoardRow, ...]], ...]:
        """The rows that are ranked among themselves, below headings: those trained on triplets, and all others."""
        parts = {kind: tuple(row for row in self.rows if row.supervised == kind) for kind in (True, False)}
        if not all(parts.values()):
            return ((self.backbone, self.rows),)
        names = {True: f"{self.backbone}, trained on triplets", False: f"{self.backbone}, zero-shot"}
        return tuple((names[kind], parts[kind]) for kind in dict.fromkeys(row.supervised for row in self.rows))


@dataclasses.dataclass(frozen=True)
class Board:
    """One table.

    Attributes:
        id: The protocol's id, or ``benchmark/other`` for rows under protocols of their own.
        benchmark: Name of the data set.
        protocol: Id, or ``None`` where the rows share none.
        title: What to print above it.
        metrics: Labels of the columns; the first one is what rows are ranked by.
        groups: By backbone.
        notes: What a reader must know, one sentence each.
    """

    id: str
    benchmark: str
    protocol: str | None
    title: str
    metrics: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]

    @property
    def rows(self) -> tuple[BoardRow, ...]:
        """All rows."""
        return tuple(row for group in self.groups for row in group.rows)


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """Every board, and the entries that are on none.

    Attributes:
        boards: In the order of the catalogue.
        left_out: The verdict on each entry that is not valid.
    """

    boards: tuple[Board, ...]
    left_out: tuple[Verdict, ...]


# From entries and published results to rows.


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A row before it has a rank.

    Attributes:
        row: Without a rank.
        benchmark: Name of the data set.
        unranked: Whether it must not be ranked.
        version: Number and digest of the protocol; ``None`` where the source does not say.
        weights: Sha256 of the backbone's; ``None`` where the source does not say.
        evidence: The ranks behind the numbers, where they are stored and whole.
    """

    row: BoardRow
    benchmark: str
    unranked: bool
    version: tuple[int, str] | None = None
    weights: str | None = None
    evidence: Evidence | None = None


_PARTIAL = "It covers a part of the benchmark only, so it is not ranked."
_NOT_STORED = "Its ranks are too large to be stored, so its numbers cannot be checked here and it is not ranked."
_DECLARED = (
    "Its ranking was made elsewhere and scored here: method, backbone, training and disclosures are what its author "
    "declares."
)
_CHOSEN = "Its weights were chosen by their score on this protocol, so it is not a number of unseen data."
_SEEN = "It was trained on {:,} images of this protocol."
_TRANSDUCTIVE = "It is transductive: it looks at other gallery items or queries to answer one."
SETTING = re.compile(r"\((?P<name>[a-z ]+) (?P<value>\d+(?:\.\d+)?)\)$")


def of_published(row: PublishedRow, known: Published) -> Candidate:
    """Make a row from the literature."""
    source, reference = row.source, known.reference_of(row) or Reference(())
    setting = SETTING.search(row.method)
    shown = BoardRow(
        id=row.id,
        method=known.methods.get(row.method, slug(row.method)),
        title=row.method,
        backbone=row.backbone,
        supervision=row.supervision,
        year=source.year,
        badge=PUBLISHED if row.provenance == "own" else ELSEWHERE,
        protocol=row.protocol,
        metrics={label: Number(value) for label, value in row.metrics.items()},
        rank=None,
        partial=False,
        caveats=known.caveats_of(row),
        source=f"{source.title}, {source.table} ({source.id}; {source.how})",
        link=_link(source.id),
        disclosures={},
        again=f"cirbench reproduce {row.id}",
        settings={setting["name"].replace(" ", "_"): float(setting["value"])} if setting else {},
        code=reference.code,
        bibtex=reference.bibtex,
    )
    named = row.protocol is not None and known.awaits(row) is None and row.unranked is None
    return Candidate(shown, row.benchmark, not named or known.first_hand(row) is not row)


def of_entry(entry: Entry, folder: Path, known: Published) -> Candidate:
    """Make a row from a run, whether cirbench or a test server scored it."""
    method, backbone = entry.method, entry.backbone
    names = {loads: name for name, loads in known.backbones.items() if loads is not None}
    protocol = entry.protocol.name.partition("@")[0]
    stored = entry.server_scored or entry.ranks_stored
    caveats = [
        *([_PARTIAL] if entry.partial else []),
        *([] if stored else [_NOT_STORED]),
        *([] if entry.scored is None else [_DECLARED]),
        *([_TRANSDUCTIVE] if is_transductive(method, entry.scored) == "yes" else []),
        *([_CHOSEN] if chosen_on(method, entry.protocol.name) else []),
        *([_SEEN.format(method.overlap)] if method.overlap else []),
    ]
    untrained = "nothing" if method.checkpoint is None and entry.scored is None else "unknown"
    trained_here = entry.scored is None and method.trained_on and not method.trained_on.startswith(CONVERTED)
    unselected = "nothing, its last weights" if trained_here else untrained
    here = REPRODUCED if entry.scored is None else SCORED
    shown = BoardRow(
        id=entry.id,
        method=method.name,
        title=method.title,
        backbone=names.get(backbone.name, backbone.name),
        supervision=method.supervision,
        year=int(entry.created[:4]),
        badge=SERVER if entry.server_scored else here,
        protocol=protocol,
        metrics={score.label: Number(score.value, score.low, score.high) for score in read_scores(entry, folder)},
        rank=None,
        partial=entry.partial,
        caveats=(*caveats, *([entry.note] if entry.note else [])),
        source=_source(entry),
        link=None,
        disclosures={
            "trained on": method.trained_on or untrained,
            "selected on": ", ".join(method.selections) or unselected,
            "triplets": method.uses_triplets,
            "language model": method.uses_llm,
            "shared concept": method.uses_shared_concept,
            "transductive": is_transductive(method, entry.scored),
            **({} if entry.reranking is None else {_SECOND_STAGE: str(entry.reranking)}),
        },
        again="\n".join(entry.commands),
        ranks=folder if (folder / RANKS).is_file() else None,
        settings={**method.parameters, **(method.training or {}), "data": method.trained_on, "seed": entry.seed},
        reservations=tuple(reservations(method, protocol)),
    )
    evidence = None if shown.ranks is None or entry.partial else read_evidence(folder / RANKS)
    dataset, _, name = protocol.partition("/")
    return Candidate(
        shown,
        f"own-{name}" if dataset == "own" else dataset,
        entry.partial or not stored,
        (int(entry.protocol.fields["version"]), entry.protocol.digest),
        backbone.weights if entry.scored is None or _SHA256.fullmatch(backbone.weights) else None,
        evidence,
    )


_SECOND_STAGE = "second stage"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _source(entry: Entry) -> str:
    """Where a run comes from, in words."""
    version = f"cirbench {entry.environment.cirbench}"
    if entry.scored is not None:
        return f"{entry.scored}, by {version}, {entry.created[:10]}"
    return f"{version} on {entry.environment.device}, {entry.created[:10]}"


def _link(id: str) -> str | None:
    match = re.match(r"arXiv:(\d{4}\.\d{4,5})", id)
    return f"https://arxiv.org/abs/{match[1]}" if match else None


# From rows to ranks.


def ranked(candidates: Sequence[Candidate], headline: str) -> tuple[BoardRow, ...]:
    """Order rows by their headline number, and give a rank to those that may have one."""
    in_order = sorted(candidates, key=lambda candidate: _key(candidate.row, headline))
    rivals: dict[bool, list[Candidate]] = {}
    for candidate in in_order:
        if not candidate.unranked and headline in candidate.row.metrics:
            rivals.setdefault(candidate.row.supervised, []).append(candidate)
    ranks = {id: rank for group in rivals.values() for id, rank in _ranks(group, headline)}
    copies = _copies(candidates)
    return tuple(
        dataclasses.replace(
            each.row,
            rank=ranks.get(each.row.id),
            caveats=(*(f"Its ranks are equal to those of {other}." for other in copies(each)), *each.row.caveats),
        )
        for each in in_order
    )


def _ranks(group: Sequence[Candidate], headline: str) -> Iterator[tuple[str, str]]:
    """The rank of each row, by its id; nothing where there is nobody to compare with."""
    if len(group) < 2:
        return
    competitors: dict[object, list[Candidate]] = {}
    for candidate in group:
        competitors.setdefault(_competitor(candidate), []).append(candidate)
    firsts = [members[0] for members in competitors.values()]
    tested = _tested(firsts, headline)
    above, below = [0] * len(firsts), [0] * len(firsts)
    for pair in combinations(range(len(firsts)), 2):
        sign = tested[pair] if pair in tested else _compared(*(firsts[place].row.metrics[headline] for place in pair))
        if sign:
            better, worse = pair if sign > 0 else pair[::-1]
            below[better] += 1
            above[worse] += 1
    for place, members in enumerate(competitors.values()):
        rank = str(RankRange(1 + above[place], len(firsts) - below[place]))
        yield from ((member.row.id, rank) for member in members)


def _competitor(candidate: Candidate) -> object:
    """What counts once: the ranks of an entry, however often they were handed in; else the row."""
    return candidate.row.id if candidate.evidence is None else (candidate.version, candidate.evidence.digest)


def _copies(candidates: Sequence[Candidate]) -> Callable[[Candidate], Iterator[str]]:
    """Return what names one other row with the same ranks, if there is one; nobody can tell which came first."""
    same: dict[object, list[str]] = {}
    for candidate in candidates:
        same.setdefault(_competitor(candidate), []).append(candidate.row.id)
    return lambda candidate: (id for id in sorted(set(same[_competitor(candidate)]) - {candidate.row.id})[:1])


def _compared(one: Number, other: Number) -> int:
    """1 where the first is higher by intervals, and by printed numbers without them; -1 where it is lower, else 0."""
    (low, high), (other_low, other_high) = (value.ends or (value.value, value.value) for value in (one, other))
    return 1 if low > other_high else -1 if other_low > high else 0


def _tested(candidates: Sequence[Candidate], headline: str) -> dict[tuple[int, int], int]:
    """For any two rows with ranks of the same queries: 1 where the first is better, -1 where the second is, else 0."""
    tested = {}
    for places in _of_same_queries([candidate.evidence for candidate in candidates]):
        ranked = [evidence for place in places if (evidence := candidates[place].evidence) is not None]
        numbers = [_measured(evidence, headline) for evidence in ranked]
        better = better_of_two(numbers, ranked[0].clusters, level=LEVEL)
        for one, other in combinations(range(len(places)), 2):
            tested[places[one], places[other]] = better[one][other]
    return tested


_AT_ONCE = 11
"""Rows that are tested together are at most twice as many: so few pairs get the same resamples as one pair alone."""


def tested_pairs(ranked: Sequence[Evidence], headline: str) -> Iterator[tuple[int, int, Pair]]:
    """Test every two rankings of the same queries against each other.

    Yields both places and the pair, the first minus the second; what is found of a pair does not depend on the others.
    """
    for places in _of_same_queries(ranked):
        numbers = {place: _measured(ranked[place], headline) for place in places}
        blocks = [places[start : start + _AT_ONCE] for start in range(0, len(places), _AT_ONCE)]
        for at, block in enumerate(blocks):
            for other in blocks[at:]:
                members = block if other is block else [*block, *other]
                for pair in pairs_of([numbers[place] for place in members], ranked[members[0]].clusters, seed=0):
                    crosses = pair.first < len(block) <= pair.second
                    if other is block or crosses:
                        yield members[pair.first], members[pair.second], pair


def _of_same_queries(ranked: Sequence[Evidence | None]) -> list[list[int]]:
    """Return the places of rankings that have the same queries, group by group."""
    same: dict[tuple[str, ...], list[int]] = {}
    for place, evidence in enumerate(ranked):
        if evidence is not None:
            same.setdefault(evidence.query_ids, []).append(place)
    return [*same.values()]


def _measured(evidence: Evidence, headline: str) -> list[Measurement]:
    """The headline number, and after it what it is the mean of."""
    labels = [headline]
    if "[mean over " in headline:
        family, _, rest = headline.partition("[mean over ")
        by = rest.removesuffix("]")
        parts = sorted({label for labels_of_query in evidence.slices.get(by, ()) for label in labels_of_query})
        labels += [f"{family}[{by}={part}]" for part in parts]
    return list(evidence.measured(labels))


def _key(row: BoardRow, headline: str) -> tuple[bool, float, str]:
    value = row.metrics.get(headline)
    return (value is None, 0.0 if value is None else -value.value, row.id)


# From rows to boards.

_NOTES = (
    "Ranks count within one backbone; methods that were trained on triplets are ranked among themselves. A range of "
    "ranks says that the numbers do not show which row is better; rows without intervals are ordered as printed.",
    "A published row is what its source prints; nobody ran it here.",
)
_OTHER = "Rows under protocols of their own: each says what differs. They are not ranked."


def read_leaderboard(
    entries: Path = ENTRIES,
    published: Published | None = None,
    *,
    parse: Parser | None = None,
    without: Mapping[str, str] | None = None,
) -> Leaderboard:
    """Make every board from the published rows and the valid entries of a folder.

    Args:
        entries: The folder of entries; none where it does not exist.
        published: The published rows; those that are shipped where it is ``None``.
        parse: See `cirbench.leaderboard.check.check_entry`.
        without: Entries to leave out, each with the reason.

    Raises:
        CorruptFile: The published rows or the list of protocols are damaged.
    """
    rows = load_published() if published is None else published
    known = known_protocols(entries)
    candidates = [of_published(row, rows) for row in rows.rows]
    left_out = []
    for folder in entry_folders(entries):
        verdict = check_entry(folder, known, parse)
        if verdict.ok and folder.name in (without or {}):
            verdict = Verdict(folder.name, ((without or {})[folder.name],))
        if verdict.ok:
            found, verdict = checked(folder, lambda folder=folder: of_entry(read_entry(folder), folder, rows))  # type: ignore[misc]
            candidates += [] if found is None else [found]
        left_out += [] if verdict.ok else [verdict]
    newest = _newest(candidates)
    tables: dict[tuple[str, str | None, str], list[Candidate]] = {}
    for candidate in candidates:
        protocol = candidate.row.protocol
        older = candidate.version is not None and candidate.version != newest[protocol or ""]
        suffix = f"@{candidate.version[0]} ({candidate.version[1][:8]})" if older and candidate.version else ""
        tables.setdefault((candidate.benchmark, protocol, suffix), []).append(candidate)
    made = (_board(*key, tables[key], rows) for key in sorted(tables, key=lambda key: _place(*key)))
    return Leaderboard(tuple(made), tuple(left_out))


def _newest(candidates: Sequence[Candidate]) -> dict[str, tuple[int, str]]:
    """The newest version of each protocol that an entry was made on; published rows are shown beside those entries."""
    newest: dict[str, tuple[int, str]] = {}
    for candidate in candidates:
        if candidate.version is not None and candidate.row.protocol is not None:
            newest[candidate.row.protocol] = max(candidate.version, newest.get(candidate.row.protocol, (0, "")))
    return newest


def _place(benchmark: str, protocol: str | None, suffix: str) -> tuple[int, str, int, str, str]:
    """The catalogue's order; a benchmark's rows without a protocol come after those with one."""
    known, ids = [*datasets()], [*protocols()]
    return (
        known.index(benchmark) if benchmark in known else len(known),
        benchmark,
        ids.index(protocol) if protocol in ids else len(ids) + (protocol is None),
        protocol or "",
        suffix,
    )


def _board(
    benchmark: str, protocol: str | None, suffix: str, candidates: Sequence[Candidate], known: Published
) -> Board:
    described = known.benchmarks.get(benchmark)
    name = described.title if described is not None else benchmark
    if protocol is None:
        title = f"{name}: other protocols"
    elif protocol in known.awaited and protocol not in protocols():
        title = f"{name}, under a protocol that cirbench does not have yet"
    else:
        title = (protocols()[protocol].title if protocol in protocols() else protocol) + suffix
    labels = _labels([candidate.row for candidate in candidates])
    notes = (_OTHER,) if protocol is None else _NOTES
    if protocol in known.awaited and protocol not in protocols():
        notes = (f"Not ranked, since cirbench does not have this protocol yet: {known.awaited[protocol]}", _NOTES[1])
    return Board(
        id=(protocol or f"{benchmark}/other") + suffix,
        benchmark=benchmark,
        protocol=protocol,
        title=title,
        metrics=labels,
        groups=_groups(candidates, labels[0]),
        notes=(*notes, *(described.notes if described is not None else ())),
    )


def _labels(rows: Sequence[BoardRow]) -> tuple[str, ...]:
    """Every label of the rows, as the row with most of them orders them; numbers of a slice come last."""
    found = dict.fromkeys(label for row in sorted(rows, key=lambda row: -len(row.metrics)) for label in row.metrics)
    return tuple(sorted(found, key=lambda label: "=" in label))


def _groups(candidates: Sequence[Candidate], headline: str) -> tuple[Group, ...]:
    """One group a backbone, that of the best row first; rows without a rank decide where no row has one.

    Entries whose backbones share a name and not the weights are in groups of their own.
    """
    weights: dict[str, set[str]] = {}
    for candidate in candidates:
        weights.setdefault(candidate.row.backbone, set()).update(filter(None, [candidate.weights]))
    by_backbone: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        name = candidate.row.backbone
        if candidate.weights is not None and len(weights[name]) > 1:
            name = f"{name} (weights {candidate.weights[:8]})"
        by_backbone.setdefault(name, []).append(candidate)
    groups = [Group(name, distinct(ranked(rows, headline))) for name, rows in by_backbone.items()]
    return tuple(sorted(groups, key=lambda group: (-_best(group, headline), group.backbone)))


def _best(group: Group, headline: str) -> float:
    """The highest headline number of a group's rows: of those with a rank, if there are any."""
    rows = [row for row in group.rows if row.ranked] or group.rows
    return max((row.metrics[headline].value for row in rows if headline in row.metrics), default=-1.0)


def distinct(rows: Sequence[BoardRow]) -> tuple[BoardRow, ...]:
    """Call runs by their method and, where it has several here, by the settings that differ, or by their digest."""
    runs = [row for row in rows if row.is_run]
    names = distinct_names(
        [row.method for row in runs], [row.settings for row in runs], [row.id.rpartition("--")[2] for row in runs]
    )
    titles = {row.id: with_remarks(name, row.reservations) for row, name in zip(runs, names, strict=True)}
    return tuple(dataclasses.replace(row, title=titles.get(row.id, row.title)) for row in rows)


# From boards to tables.


def board_table(board: Board) -> Table:
    """Lay a board out as a table, with every number that its rows have; on a printed page, those that papers print."""
    table = _table(board, board.metrics, [(group.backbone, row) for group in board.groups for row in group.rows])
    marked = dataclasses.replace(table, sections="backbone").with_best(board.metrics)
    return dataclasses.replace(
        marked,
        caption=f"Percent. {BEST}",
        summary=f"{board.title}, in percent. {BEST}",
    )


_SUMMARY_ROWS, _SUMMARY_METRICS = 3, 4


def summary_table(board: Board) -> Table:
    """Lay out the first ranked rows of each backbone and every run, with a few numbers, for a small file."""
    shown, ranks = [], any(row.ranked for row in board.rows)
    for group in board.groups:
        best = [row.id for row in group.rows if row.ranked or not ranks or len(group.rows) == 1][:_SUMMARY_ROWS]
        shown += [(group.backbone, row) for row in group.rows if row.id in best or row.is_run]
    labels = [label for label in board.metrics if "=" not in label][:_SUMMARY_METRICS]
    table = _table(board, labels, shown)
    left = len(board.rows) - len(shown)
    kept = f"The first {_SUMMARY_ROWS}{' ranked' if ranks else ''} rows of each backbone and every run"
    note = f"{kept}; {left} more rows are on the site."
    return dataclasses.replace(table, notes=(*([note] if left else []), *table.notes))


def _table(board: Board, labels: Sequence[str], rows: Sequence[tuple[str, BoardRow]]) -> Table:
    printed = printed_labels(board.metrics)
    transductive = any(row.transductive for _, row in rows)
    columns = (
        Column("backbone", "backbone"),
        Column("method", "method"),
        Column("rank", "rank"),
        *(
            Column(label, short_label(label), optional=at, aside=label not in printed)
            for at, label in enumerate(labels)
        ),
        Column("supervision", "supervision", optional=len(labels)),
        *((Column("transductive", "transductive", optional=len(labels) + 1),) if transductive else ()),
        Column("evidence", "evidence", optional=len(labels) + 1, aside=True),
        Column("year", "year", optional=len(labels) + 2, aside=True),
        Column("source", "source", optional=len(labels) + 3, aside=True),
        Column("id", "id", optional=len(labels) + 3, aside=True),
    )
    cells = tuple(
        (
            backbone,
            row.title,
            row.rank or "",
            *(row.metrics.get(label) for label in labels),
            row.supervision,
            *((row.disclosures.get("transductive", "unknown"),) if transductive else ()),
            row.badge,
            str(row.year or ""),
            row.source,
            row.id,
        )
        for backbone, row in rows
    )
    second = (f"{row.title}: {said}." for _, row in rows if (said := row.disclosures.get(_SECOND_STAGE)))
    return Table(f"{board.title} ({board.id})", columns, cells, caption="Percent.", notes=(*board.notes, *second))


def summaries(boards: Sequence[Board]) -> dict[str, str]:
    """Write the summary of each protocol's board as Markdown, by file name."""
    return {
        f"{slug(board.id)}.md": render(summary_table(board), "md") for board in boards if board.protocol is not None
    }

"""Boards: the rows of one protocol, in an order that says no more than the tests do.

The rank of a row reaches from one more than the number of rows that are better to the number of those that are not
worse. Two rows are told apart by the best evidence that both have: their ranks, query by query, with a correction over
all such pairs; else their intervals, the interval of one and the printed number of the other, or both printed numbers.

A board belongs to one protocol, or to none: then its rows are shown, and nothing is ranked. Rows are grouped by
backbone; see `cirbench.leaderboard.board` for the ranks inside a group.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.benchmarks.catalogue import datasets, protocols
from cirbench.leaderboard.check import check_entry
from cirbench.leaderboard.entry import entry_folders, known_protocols, read_entry
from cirbench.leaderboard.published import Published, load_published
from cirbench.leaderboard.rows import BADGES, Board, BoardRow, Candidate, Group, Value, of_entry, of_published
from cirbench.metrics.statistics import RankRange, compare_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.leaderboard.evidence import Evidence
    from cirbench.leaderboard.rows import Candidate
    from cirbench.metrics.measure import Measurement


def ranked(candidates: Sequence[Candidate], headline: str) -> tuple[BoardRow, ...]:
    """Order rows by their headline number, and give a rank to those that may have one."""
    in_order = sorted(candidates, key=lambda candidate: _key(candidate.row, headline))
    rivals: dict[bool, list[Candidate]] = {}
    for candidate in in_order:
        if not candidate.unranked and headline in candidate.row.metrics:
            rivals.setdefault(_supervised(candidate.row), []).append(candidate)
    ranks = {id: str(rank) for group in rivals.values() if len(group) > 1 for id, rank in _ranks(group, headline)}
    return tuple(dataclasses.replace(each.row, rank=ranks.get(each.row.id)) for each in in_order)


def _ranks(group: Sequence[Candidate], headline: str) -> Iterator[tuple[str, RankRange]]:
    values = [candidate.row.metrics[headline] for candidate in group]
    tested = _tested(group, headline)
    above, below = [0] * len(group), [0] * len(group)
    for one, value in enumerate(values):
        for other, rival in enumerate(values):
            if one != other and tested.get((one, other), _higher(value, rival)):
                below[one] += 1
                above[other] += 1
    for place, candidate in enumerate(group):
        yield candidate.row.id, RankRange(1 + above[place], len(group) - below[place])


def _higher(one: Value, other: Value) -> bool:
    """Whether intervals, and printed numbers where there are none, tell that the first one is higher."""
    low = one.value if one.low is None else one.low
    high = other.value if other.high is None else other.high
    return low > high


def _tested(group: Sequence[Candidate], headline: str) -> dict[tuple[int, int], bool]:
    """Whether one row is better than another, for every two rows with ranks of the same queries."""
    places = [place for place, candidate in enumerate(group) if candidate.evidence is not None]
    evidence = [each for candidate in group if (each := candidate.evidence) is not None]
    if len({each.query_ids for each in evidence}) != 1:
        return {}
    pairs = compare_all([_measured(each, headline) for each in evidence], evidence[0].clusters)
    tested: dict[tuple[int, int], bool] = {}
    for pair in pairs:
        one, other = places[pair.first], places[pair.second]
        tested[one, other] = pair.apart and pair.difference > 0
        tested[other, one] = pair.apart and pair.difference < 0
    return tested


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


def _supervised(row: BoardRow) -> bool:
    return row.supervision in ("supervised", "triplets")


__all__ = ["BADGES", "ENTRIES", "Board", "BoardRow", "Group", "Value", "boards"]

ENTRIES = Path("leaderboards") / "entries"

_NOTES = (
    "Ranks count within one backbone; methods that were trained on triplets are ranked among themselves. A range of "
    "ranks says that the numbers do not tell rows apart; rows without intervals are ordered as printed.",
    "A published row is what its source prints; nobody ran it here.",
)
_OTHER = "Rows under protocols of their own: each says what differs. They are not ranked."


def boards(entries: Path = ENTRIES, published: Published | None = None) -> tuple[Board, ...]:
    """Make every board from the published rows and the entries of a folder.

    Args:
        entries: The folder of entries; none where it does not exist.
        published: The published rows; those that are shipped where it is ``None``.

    Raises:
        CheckFailed: An entry does not hold; nothing of it is shown before it does.
        CorruptFile: A file is damaged.
    """
    known = load_published() if published is None else published
    digests = known_protocols(entries)
    for folder in entry_folders(entries):
        check_entry(folder, digests).require()
    candidates = [of_published(row, known) for row in known.rows]
    candidates += [of_entry(read_entry(folder), folder, known) for folder in entry_folders(entries)]
    newest = _newest(candidates)
    tables: dict[tuple[str, str | None, str], list[Candidate]] = {}
    for candidate in candidates:
        protocol = candidate.row.protocol
        older = candidate.version is not None and candidate.version != newest[protocol or ""]
        suffix = f"@{candidate.version[0]} ({candidate.version[1][:8]})" if older and candidate.version else ""
        tables.setdefault((candidate.benchmark, protocol, suffix), []).append(candidate)
    return tuple(_board(*key, tables[key], known) for key in sorted(tables, key=lambda key: _place(*key)))


def _newest(candidates: Sequence[Candidate]) -> dict[str, tuple[int, str]]:
    """The newest version of each protocol that an entry was made on; published rows stand beside those entries."""
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
    else:
        title = (protocols()[protocol].title if protocol in protocols() else protocol) + suffix
    labels = _labels([candidate.row for candidate in candidates])
    notes = (_OTHER,) if protocol is None else _NOTES
    return Board(
        id=(protocol or f"{benchmark}/other") + suffix,
        benchmark=benchmark,
        protocol=protocol,
        title=title,
        metrics=labels,
        groups=_groups(candidates, labels[0], known),
        notes=(*notes, *(described.notes if described is not None else ())),
    )


def _labels(rows: Sequence[BoardRow]) -> tuple[str, ...]:
    """Every label of the rows, as the row with most of them orders them; numbers of a slice come last."""
    found = dict.fromkeys(label for row in sorted(rows, key=lambda row: -len(row.metrics)) for label in row.metrics)
    return tuple(sorted(found, key=lambda label: "=" in label))


def _groups(candidates: Sequence[Candidate], headline: str, known: Published) -> tuple[Group, ...]:
    """One group a backbone: those that are known exactly first, in the order of the data file, then by name.

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
    exact = [*known.backbones]
    names = sorted(by_backbone, key=lambda name: (exact.index(name) if name in exact else len(exact), name))
    return tuple(Group(name, ranked(by_backbone[name], headline)) for name in names)

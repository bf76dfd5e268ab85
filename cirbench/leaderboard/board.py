"""The boards: what was published and what was measured here, side by side where they may stand so.

A board belongs to one protocol, or to none: then its rows are shown, and nothing is ranked. Rows are grouped by
backbone; see `cirbench.leaderboard.order` for the ranks inside a group.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.datasets.catalogue import datasets, protocols
from cirbench.leaderboard.check import check_entry
from cirbench.leaderboard.entry import entry_folders, read_entry
from cirbench.leaderboard.known import known_protocols
from cirbench.leaderboard.model import BADGES, Board, BoardRow, Group, Value
from cirbench.leaderboard.order import ranked
from cirbench.leaderboard.published import Published, load_published
from cirbench.leaderboard.rows import Candidate, of_entry, of_published

if TYPE_CHECKING:
    from collections.abc import Sequence

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

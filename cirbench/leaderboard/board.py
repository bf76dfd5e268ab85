"""The boards: what was published and what was measured here, side by side where they may stand so.

A board belongs to one protocol, or to none: then its rows are shown, and nothing is ranked. Rows are grouped by
backbone; see `cirbench.leaderboard.order` for the ranks inside a group.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.datasets.catalogue import datasets, protocols
from cirbench.leaderboard.entry import entry_folders, read_entry
from cirbench.leaderboard.model import BADGES, Board, BoardRow, Group, Value
from cirbench.leaderboard.order import ranked
from cirbench.leaderboard.published import Published, load_published
from cirbench.leaderboard.rows import Candidate, of_entry, of_published

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BADGES", "ENTRIES", "Board", "BoardRow", "Group", "Value", "boards"]

ENTRIES = Path("leaderboards") / "entries"

_NOTES = (
    "Ranks count within one backbone and one kind of supervision. A range of ranks says that the numbers do not tell "
    "rows apart; rows without intervals are ordered as printed.",
    "A published row is what its source prints; nobody ran it here.",
)
_OTHER = "Rows under protocols of their own: each says what differs. They are not ranked."


def boards(entries: Path = ENTRIES, published: Published | None = None) -> tuple[Board, ...]:
    """Make every board from the published rows and the entries of a folder.

    Args:
        entries: The folder of entries; none where it does not exist.
        published: The published rows; those that are shipped where it is ``None``.

    Raises:
        CorruptFile: A file is damaged. Whether the claims of an entry hold is another question: see
            `cirbench.leaderboard.check`.
    """
    known = load_published() if published is None else published
    candidates = [of_published(row, known) for row in known.rows]
    candidates += [of_entry(read_entry(folder), folder, known) for folder in entry_folders(entries)]
    tables: dict[tuple[str, str | None], list[Candidate]] = {}
    for candidate in candidates:
        tables.setdefault((candidate.benchmark, candidate.row.protocol), []).append(candidate)
    return tuple(
        _board(benchmark, protocol, tables[benchmark, protocol], known)
        for benchmark, protocol in sorted(tables, key=lambda key: _place(*key))
    )


def _place(benchmark: str, protocol: str | None) -> tuple[int, str, int, str]:
    """The catalogue's order; a benchmark's rows without a protocol come after those with one."""
    known, ids = [*datasets()], [*protocols()]
    return (
        known.index(benchmark) if benchmark in known else len(known),
        benchmark,
        ids.index(protocol) if protocol in ids else len(ids) + (protocol is None),
        protocol or "",
    )


def _board(benchmark: str, protocol: str | None, candidates: Sequence[Candidate], known: Published) -> Board:
    described = known.benchmarks.get(benchmark)
    name = described.title if described is not None else benchmark
    if protocol is None:
        title = f"{name}: other protocols"
    else:
        title = protocols()[protocol].title if protocol in protocols() else protocol
    labels = _labels([candidate.row for candidate in candidates])
    notes = (_OTHER,) if protocol is None else _NOTES
    return Board(
        id=protocol or f"{benchmark}/other",
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
    """One group a backbone: those that are known exactly first, in the order of the data file, then by name."""
    by_backbone: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_backbone.setdefault(candidate.row.backbone, []).append(candidate)
    exact = [*known.backbones]
    names = sorted(by_backbone, key=lambda name: (exact.index(name) if name in exact else len(exact), name))
    return tuple(Group(name, ranked(by_backbone[name], headline)) for name in names)

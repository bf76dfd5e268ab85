"""Rows of boards, from entries and from published results."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from cirbench.leaderboard.entry import RANKS, Entry
from cirbench.leaderboard.evidence import Evidence, read_evidence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cirbench.leaderboard.published import Published, PublishedRow

REPRODUCED, SERVER, PUBLISHED, ELSEWHERE = (
    "reproduced here",
    "server-scored",
    "as published",
    "as published in another paper",
)
BADGES = (REPRODUCED, SERVER, PUBLISHED, ELSEWHERE)


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A number in percent, with its 95 % interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


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
        metrics: By label.
        rank: ``"1"``, ``"1-2"``, or ``None`` where it is not ranked.
        partial: Whether a part of the benchmark is missing.
        caveats: Sentences to be read with the numbers.
        source: Where the row comes from, in words.
        link: Where to read more, or ``None``.
        disclosures: What it was trained and selected on and what helped it: yes, no, unknown or a name.
        again: The commands that make the row again, one a line.
        ranks: The folder of the entry whose ranks are stored, or ``None``.
    """

    id: str
    method: str
    title: str
    backbone: str
    supervision: str
    year: int | None
    badge: str
    protocol: str | None
    metrics: Mapping[str, Value]
    rank: str | None
    partial: bool
    caveats: tuple[str, ...]
    source: str
    link: str | None
    disclosures: Mapping[str, str]
    again: str
    ranks: Path | None = None

    @property
    def ranked(self) -> bool:
        """Whether it takes part in an order."""
        return self.rank is not None


@dataclasses.dataclass(frozen=True)
class Group:
    """The rows of one backbone, the best first; rows that are not ranked stand where their numbers put them."""

    backbone: str
    rows: tuple[BoardRow, ...]


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


_PARTIAL = "It covers a part of the benchmark only, so it is not ranked."
_NOT_STORED = "Its ranks are too large to be stored here; their digest is."


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A row before it has a rank.

    Attributes:
        row: Without a rank.
        benchmark: Name of the data set.
        unranked: Whether it must not be ranked.
        version: Number and digest of the protocol; ``None`` where the source tells none.
        weights: Sha256 of the backbone's; ``None`` where the source tells none.
        evidence: The ranks behind the numbers, where they are stored and whole.
    """

    row: BoardRow
    benchmark: str
    unranked: bool
    version: tuple[int, str] | None = None
    weights: str | None = None
    evidence: Evidence | None = None


def of_published(row: PublishedRow, known: Published) -> Candidate:
    """Make a row from the literature."""
    source = row.source
    shown = BoardRow(
        id=row.id,
        method=known.methods.get(row.method, slug(row.method)),
        title=row.method,
        backbone=row.backbone,
        supervision=row.supervision,
        year=source.year,
        badge=PUBLISHED if row.provenance == "own" else ELSEWHERE,
        protocol=row.protocol,
        metrics={label: Value(value) for label, value in row.metrics.items()},
        rank=None,
        partial=False,
        caveats=known.caveats_of(row),
        source=f"{source.title}, {source.table} ({source.id}; {source.how})",
        link=_link(source.id),
        disclosures={},
        again=f"cirbench reproduce {row.id}",
    )
    return Candidate(shown, row.benchmark, row.protocol is None or row.unranked is not None)


def of_entry(entry: Entry, folder: Path, known: Published) -> Candidate:
    """Make a row from a run of our own, or one that a server scored."""
    method, backbone = entry.method, entry.backbone
    names = {loads: name for name, loads in known.backbones.items() if loads is not None}
    protocol = entry.protocol.name.partition("@")[0]
    caveats = [_PARTIAL] if entry.partial else []
    if entry.ranks is not None and not entry.ranks_stored:
        caveats.append(_NOT_STORED)
    if entry.note:
        caveats.append(entry.note)
    shown = BoardRow(
        id=entry.id,
        method=method.name,
        title=method.title,
        backbone=names.get(backbone.name, backbone.name),
        supervision=method.supervision,
        year=int(entry.created[:4]),
        badge=SERVER if entry.server_scored else REPRODUCED,
        protocol=protocol,
        metrics={score.label: Value(score.value, score.low, score.high) for score in entry.metrics},
        rank=None,
        partial=entry.partial,
        caveats=tuple(caveats),
        source=f"cirbench {entry.environment.cirbench} on {entry.environment.device}, {entry.created[:10]}",
        link=None,
        disclosures={
            "trained on": method.trained_on or ("nothing" if method.checkpoint is None else "unknown"),
            "selected on": method.selected_on or ("nothing" if method.checkpoint is None else "unknown"),
            "triplets": method.uses_triplets,
            "language model": method.uses_llm,
            "shared concept": method.uses_shared_concept,
        },
        again="\n".join(entry.commands),
        ranks=folder if (folder / RANKS).is_file() else None,
    )
    version = int(entry.protocol.fields["version"]), entry.protocol.digest
    evidence = None if shown.ranks is None or entry.partial else read_evidence(folder / RANKS)
    dataset, _, name = protocol.partition("/")
    return Candidate(
        shown, f"own-{name}" if dataset == "own" else dataset, entry.partial, version, backbone.weights, evidence
    )


def slug(name: str) -> str:
    """Write a name so that it can stand in an address."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _link(id: str) -> str | None:
    match = re.match(r"arXiv:(\d{4}\.\d{4,5})", id)
    return f"https://arxiv.org/abs/{match[1]}" if match else None

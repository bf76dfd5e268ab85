"""The tables of methods in the pages are what the committed entries give."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cirbench.comparison.tables import difference
from cirbench.leaderboard.entry import Entry, entry_folders, read_entry
from cirbench.leaderboard.evidence import Evidence, read_evidence
from cirbench.metrics.statistics import compare_all
from cirbench.support.tables import Number

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(
    r"cirbench compare (?P<runs>[^`]*?) --baseline (?P<base>\S+) --table runs --format md\n\n"
    r"(?P<table>\*\*.*?\n\n\|.*?)\n\n",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Published:
    """A table on a page, and the runs that its command names."""

    page: str
    runs: tuple[str, ...]
    base: str
    rows: tuple[tuple[str, ...], ...]


def published() -> Iterator[Published]:
    for page in ("README.md", "docs/own-data.md"):
        for block in BLOCK.finditer((ROOT / page).read_text()):
            lines = block["table"].splitlines()[4:]
            rows = tuple(tuple(cell.strip(" *_") for cell in line.strip("|").split("|")) for line in lines)
            runs = tuple(block["runs"].replace("\\\n", " ").split())
            yield Published(page, runs, block["base"], rows)


def entry_of(run: str) -> tuple[Entry, Evidence]:
    digest = Path(run).name.rpartition("-")[2]
    (folder,) = (each for each in entry_folders(ROOT / "leaderboards" / "entries") if each.name.endswith(f"--{digest}"))
    return read_entry(folder), read_evidence(folder / "ranks.npz")


def test_the_pages_have_such_tables() -> None:
    assert [table.page for table in published()] == ["README.md", "docs/own-data.md"]


@pytest.mark.slow
@pytest.mark.parametrize("table", [*published()], ids=lambda table: table.page)
def test_every_cell_follows_from_the_ranks_of_the_entries(table: Published) -> None:
    entries, evidence = zip(*map(entry_of, table.runs), strict=True)
    headline = entries[0].metrics[0].label
    pairs = compare_all([each.measured([headline]) for each in evidence], evidence[0].clusters, seed=entries[0].seed)
    base = table.runs.index(table.base)
    against = {
        at: pair.seen_from(at)
        for pair in pairs
        for at in {pair.first, pair.second} - {base}
        if base in (pair.first, pair.second)
    }
    expected = []
    for at in sorted(range(len(entries)), key=lambda at: -entries[at].metrics[0].value):
        score, pair = evidence[at].scores([headline])[0], against.get(at)
        assert (score.value, score.n) == (entries[at][headline].value, entries[at][headline].n)
        cells = [str(Number(score.value, score.low, score.high))]
        if pair is None:
            cells += [""] * 5
        else:
            counts = (str(count) for count in (pair.wins, pair.ties, pair.losses))
            cells += [str(difference(pair)), f"{pair.corrected:.4f}", *counts]
        expected.append((entries[at].method.name, *cells))
    found = [(row[0].split()[0], row[2].replace("*", "").replace("_", ""), *row[3:]) for row in table.rows]
    assert found == expected

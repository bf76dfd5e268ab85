"""The tables of methods in the pages are what the committed entries give."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cirbench.comparison.tables import difference
from cirbench.leaderboard.entry import Entry, Evidence, entry_folders, read_entry, read_evidence
from cirbench.metrics.paired import compare_all
from cirbench.support.tables import Number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(
    r"cirbench compare \S+ --baseline \S*?/(?P<base>[a-z-]+)-\* --table runs --format md\n\n"
    r"(?P<table>\*\*[^\n]*\n\n\|.*?)\n\n.*?"
    r"in the order of the table:(?P<entries>[^.]*)\.",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Published:
    """A table on a page, and the entries that the page names for its rows."""

    page: str
    title: str
    base: str
    rows: tuple[tuple[str, ...], ...]
    entries: tuple[str, ...]


def published() -> Iterator[Published]:
    for page in ("docs/scenes.md", "docs/own-data.md"):
        for block in BLOCK.finditer((ROOT / page).read_text()):
            title, *lines = block["table"].splitlines()
            rows = tuple(tuple(cell.strip(" *_") for cell in line.strip("|").split("|")) for line in lines[3:])
            yield Published(page, title, block["base"], rows, tuple(re.findall(r"`(.+?)`", block["entries"])))


def entry_of(name: str) -> tuple[Entry, Evidence]:
    (folder,) = (each for each in entry_folders(ROOT / "leaderboards" / "entries") if each.name == name)
    return read_entry(folder), read_evidence(folder / "ranks.npz")


def short_name(entry: Entry, others: Sequence[Entry]) -> str:
    """The name of a run in the table: its method, and what it was trained on where that tells it from another."""
    alike = [other for other in others if other.method.name == entry.method.name]
    return entry.method.name if len(alike) == 1 else f"{entry.method.name} data={entry.method.trained_on}"


def test_the_pages_have_such_tables() -> None:
    assert [table.page for table in published()] == ["docs/scenes.md", "docs/own-data.md"]


@pytest.mark.slow
@pytest.mark.parametrize("table", [*published()], ids=lambda table: table.page)
def test_every_cell_follows_from_the_ranks_of_the_entries(table: Published) -> None:
    entries, evidence = zip(*map(entry_of, table.entries), strict=True)
    assert {f"**{entry.protocol.name} ({entry.protocol.digest[:8]})" for entry in entries} == {
        table.title.split(" ·")[0]
    }
    headline = entries[0].metrics[0].label
    pairs = compare_all([each.measured([headline]) for each in evidence], evidence[0].clusters, seed=entries[0].seed)
    (base,) = (at for at, entry in enumerate(entries) if entry.method.name == table.base)
    against = {
        at: pair.seen_from(at)
        for pair in pairs
        for at in {pair.first, pair.second} - {base}
        if base in (pair.first, pair.second)
    }
    expected = []
    values = [entry.metrics[0].value for entry in entries]
    assert values == sorted(values, reverse=True)
    for at in range(len(entries)):
        score, pair = evidence[at].scores([headline])[0], against.get(at)
        assert (score.value, score.n) == (entries[at][headline].value, entries[at][headline].n)
        cells = [str(Number(score.value, score.low, score.high))]
        if pair is None:
            cells += [""] * 5
        else:
            counts = (str(count) for count in (pair.wins, pair.ties, pair.losses))
            cells += [str(difference(pair)), f"{pair.corrected:.4f}", *counts]
        expected.append((short_name(entries[at], entries), *cells))
    found = [(row[0], row[2].replace("*", "").replace("_", ""), *row[3:]) for row in table.rows]
    assert found == expected

"""A page for each benchmark, with a figure of each of its protocols, made from the table of ``docs/protocols.md``."""

from __future__ import annotations

import dataclasses
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.benchmarks.interface import BENCHMARKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cirbench.benchmarks.interface import Benchmark

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "protocols.md"
BOARDS = ROOT / "leaderboards" / "boards"

SHARED = "[what every protocol shares](../protocols.md#what-every-protocol-shares)"

_SEVERAL = ("mAP", "Hit_rate", "Recall_fractional", "soft")
_REPEATED = re.compile(r"^(?:the same|as above)(?=$|;)")


@dataclasses.dataclass(frozen=True)
class Facts:
    """A row of the table: what queries, candidates, the reference among them and measures are.

    Attributes:
        queries: How many.
        gallery: What is ranked.
        reference: Whether the reference image is among the candidates.
        measures: What is measured.
    """

    queries: str
    gallery: str
    reference: str
    measures: str


def protocol_pages(repository: str) -> dict[str, str]:
    """Return the page of each benchmark by its path; boards are tables in the repository at that address."""
    text = TABLE.read_text(encoding="utf-8")
    facts, sections = table_of(text), list(_sections(text))
    found = {name: BENCHMARKS.find(name) for name in BENCHMARKS.shipped()}
    return {f"benchmarks/{name}.md": _page(found[name], facts, sections, repository) for name in found}


def table_of(text: str) -> dict[str, Facts]:
    """Read the first table, that of protocols; a cell that repeats the one above has its words."""
    facts: dict[str, Facts] = {}
    before = ("", "", "", "")
    rows = text[text.index("\n| `") :].partition("\n\n")[0].strip()
    for line in rows.splitlines():
        names, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        filled = [_REPEATED.sub(above.replace("\\", "\\\\"), cell) for cell, above in zip(cells, before, strict=True)]
        before = (filled[0], filled[1], filled[2], filled[3])
        facts |= dict.fromkeys(_ids(names), Facts(*filled))
    return facts


def _ids(cell: str) -> Iterator[str]:
    """The protocols that a row is about; a name that begins with a dash ends the one before otherwise."""
    before = ""
    for name in re.findall(r"`([^`]+)`", cell):
        before = before.rpartition("-")[0] + name if name.startswith("-") else name
        yield before


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, content = part.partition("\n")
        yield title, content


def _page(benchmark: Benchmark, facts: dict[str, Facts], sections: list[tuple[str, str]], repository: str) -> str:
    # a section is about a benchmark if it names it in its title, or one of its protocols in its text, or it at least
    named = re.compile(rf"`{re.escape(benchmark.name)}/")
    about = [
        title for title, content in sections if named.search(content) or _letters(benchmark.name) in _letters(title)
    ]
    if not about:
        word = re.compile(rf"\b{re.escape(benchmark.name)}\b", re.IGNORECASE)
        about = [title for title, content in sections if word.search(content)]
    links = [f"[{title}](../protocols.md#{_anchor(title)})" for title in about]
    parts = [
        f"# {benchmark.name}\n",
        f"{benchmark.title}.\n\n{benchmark.citation.rstrip('.')}. Licence: {benchmark.licence.rstrip('.')}.\n",
        f"    cirbench data plan {benchmark.name}\n    cirbench run --method image-text --dataset {benchmark.name}\n",
        f"More about it: {', '.join([*links, SHARED])}.\n",
    ]
    first = facts[benchmark.protocols[0].id]
    for entry in benchmark.protocols:
        fact = facts[entry.id]
        drawn = fact.measures if entry.labelled else first.measures  # a server measures as on the split with labels
        board = BOARDS / f"{entry.id.replace('/', '-')}.md"
        parts += [
            f"## {entry.id}\n",
            f"{entry.title.rstrip('.')}.\n",
            f"{figure(fact, drawn)}\n",
            f"- **Queries**: {fact.queries}\n- **Candidates**: {fact.gallery}",
            f"- **Reference image**: {fact.reference}\n- **Measures**: {fact.measures}\n",
        ]
        if board.is_file():
            parts.append(f"[Its board]({repository}/blob/main/{board.relative_to(ROOT).as_posix()})\n")
    return "\n".join(parts)


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def figure(facts: Facts, measures: str) -> str:
    """Draw a query, its candidates and what is right among them, in the colours of the page.

    Args:
        facts: Of the protocol.
        measures: What tells whether several may be right, and whether there is a group.
    """
    removed, kept = facts.reference.startswith("removed"), facts.reference.startswith("kept")
    absent = re.match("never a candidate|not in the", facts.reference)
    several = any(word in measures for word in _SEVERAL)
    right = (0, 3, 4) if several else (0,)
    group = "subset" in measures or "group" in facts.gallery
    label = (
        "A query is an image and a text. Candidates are ranked; "
        + ("several are right" if several else "one is right")
        + (
            "; the reference image is removed."
            if removed
            else "; the reference image is one of them."
            if kept
            else "; the reference image is none of them."
            if absent
            else "."
        )
    )
    parts = [_text(0, 12, "query")]
    parts += [_image(0, 20, "reference"), _text(54, 48, "+")]
    parts += ['<rect x="72" y="20" width="124" height="44" rx="6" fill="none" stroke="currentColor"/>']
    parts += [f'<path d="M82 {y}H{x}" stroke="currentColor" stroke-width="3"/>' for y, x in ((34, 184), (46, 160))]
    parts += [_text(0, 92, "candidates in their order; filled: right")]
    for place in range(7):
        if place == 1 and (kept or removed):
            parts.append(_image(place * 51, 100, "reference", faint=removed))
            if removed:
                parts.append(f'<path d="M{place * 51} 100l44 44m0 -44l-44 44" stroke="currentColor"/>')
        else:
            parts.append(_image(place * 51, 100, "right" if place in right else "other"))
    if group:
        parts.append('<path d="M0 152v6H248v-6" fill="none" stroke="currentColor"/>' + _text(84, 174, "its group"))
    height = 178 if group else 148
    return (
        f'<figure class="protocol"><svg viewBox="-1 0 354 {height}" width="354" height="{height}" '
        f'style="max-width: 100%; height: auto; color: var(--color-foreground-primary)" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg></figure>'
    )


def _image(x: int, y: int, kind: str, *, faint: bool = False) -> str:
    """A picture: with a mountain where it is the reference, filled where it is right."""
    colour = "var(--color-brand-primary)"
    fill = colour if kind == "right" else "none"
    drawn = f'<rect x="{x}" y="{y}" width="44" height="44" rx="3" fill="{fill}" stroke="currentColor"/>'
    if kind == "reference":
        drawn += (
            f'<path d="M{x + 4} {y + 38}l12 -18 8 10 6 -7 10 15z" fill="currentColor"/>'
            f'<circle cx="{x + 32}" cy="{y + 13}" r="4" fill="currentColor"/>'
        )
    return f'<g opacity=".35">{drawn}</g>' if faint else drawn


def _text(x: int, y: int, words: str) -> str:
    return f'<text x="{x}" y="{y}" fill="currentColor" font-size="13">{words}</text>'

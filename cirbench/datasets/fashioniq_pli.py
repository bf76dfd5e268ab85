"""``fashioniq/val-pli``: FashionIQ as the public code of PLI evaluates it, to compare with numbers obtained that way.

It differs from every other evaluation of FashionIQ: each pair is asked twice, once per order of its two captions; four
punctuation marks become words; the reference is no candidate; the gallery is the references and targets of a list of
pairs from which about a twelfth of the official ones is missing. That list is not data that FashionIQ published, so it
is not fetched: put the three files where `FILE` says.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.datasets.annotation import queries, read_lines, refuse, some, wrong_count
from cirbench.datasets.fashioniq import CATEGORIES, Part, assemble
from cirbench.datasets.locate import locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cirbench.datasets.protocol import EvaluationProtocol

FILE = "fashioniq/captions_pairs/fashion_iq-val-cap-{category}.txt"
"""Lines of ``reference;target;caption``, where two neighbouring lines are the two captions of one pair."""

WORDS = str.maketrans({".": "dotmark", "?": "questionmark", "&": "andmark", "*": "starmark"})
"""What stands for a punctuation mark in the text."""


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a category must count up to: queries, two to a pair, and images."""

    queries: int
    gallery: int


EXPECTED = {"dress": Expected(3738, 2454), "shirt": Expected(3888, 2962), "toptee": Expected(3754, 2808)}


def pli_protocol(data_root: Path) -> EvaluationProtocol:
    """Load ``fashioniq/val-pli``.

    Raises:
        MissingData: A list of pairs is absent.
        CorruptFile: It is not the one that PLI's numbers were obtained with.
    """
    return load(data_root, EXPECTED)


def load(data_root: Path, expected: Mapping[str, Expected]) -> EvaluationProtocol:
    """Load lists of pairs whose counts are ``expected``; see `pli_protocol`."""
    return assemble(
        "fashioniq/val-pli",
        "FashionIQ val as PLI's code, pair list from your file",
        [_read(category, data_root, expected[category]) for category in CATEGORIES],
        data_root,
        cutoffs=(10, 50, 1, 5),
        captions='each pair is two queries, its captions joined by " and " in either order; '
        "the marks . ? & * are written dotmark questionmark andmark starmark",
        exclude_reference=True,
    )


def _read(category: str, data_root: Path, expected: Expected) -> Part:
    path = locate(
        data_root,
        FILE.format(category=category),
        hint="FashionIQ did not publish this list; it comes with the public code of PLI. Copy its file there, "
        "or use the protocol fashioniq/val.",
    )
    rows = [tuple(line.split(";", 2)) for line in read_lines(path)]
    refuse(path, _broken_lines(rows))
    gallery = tuple(dict.fromkeys(name for reference, target, _ in rows for name in (reference, target)))
    refuse(
        path,
        [*wrong_count("queries", len(rows), expected.queries), *wrong_count("images", len(gallery), expected.gallery)],
    )
    return Part(
        category,
        gallery,
        tuple((reference, target) for reference, target, _ in rows),
        tuple(
            (f"{rows[place][2]} and {rows[place ^ 1][2]}".translate(WORDS),)  # its own line first, then its neighbour
            for place in range(len(rows))
        ),
    )


def _broken_lines(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if odd := [place + 1 for place, row in enumerate(rows) if len(row) != 3]:
        yield f"not reference;target;caption in line {some(odd)}"
    elif len(rows) % 2:
        yield f"its {len(rows)} lines are not two to a pair"
    elif split := [place for place in range(0, len(rows), 2) if rows[place][:2] != rows[place + 1][:2]]:
        yield f"neighbouring lines are not of one pair at {queries(split)}"

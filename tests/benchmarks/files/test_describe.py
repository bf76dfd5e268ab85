"""Descriptions count what a naive reader of the annotations counts."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks import load_protocol
from cirbench.benchmarks.files.check import Spread, describe
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from pathlib import Path


class Nothing:
    """An image that nobody opens."""

    content = "nothing"

    def open(self) -> None:
        raise AssertionError


def query(name: str, reference: str, *captions: str, category: str | None = None) -> Query:
    return Query(name, Item(reference, Nothing()), captions, category=category)  # type: ignore[arg-type]


def toy(*queries: Query, **fields: object) -> EvaluationProtocol:
    settings: dict[str, object] = {"gallery": Gallery(("a", "b", "c")), "labels": None} | fields
    return EvaluationProtocol("toy/val", 1, "", queries, measures=(Measure("Recall", 1),), **settings)  # type: ignore[arg-type]


def test_queries_references_and_galleries_are_counted() -> None:
    told = describe(toy(query("1", "a", "x"), query("2", "a", "y"), query("3", "z", "w")))
    assert (told.queries, told.references, told.gallery, told.references_in_gallery) == (3, 2, 3, 1)
    assert describe(toy(query("1", "a", "x"), gallery=None)).gallery is None


def test_ground_truths_are_summed_up_or_hidden() -> None:
    queries = [query(name, "a", name) for name in "123"]
    told = describe(toy(*queries, labels=Labels((("b", "c"), (), ("b",)))))
    assert told.ground_truths == Spread(3, 1.0, 1, 0, 2)
    assert told.unanswerable == 1
    assert describe(toy(*queries)).ground_truths is None


def test_empty_equal_and_repeated_captions_are_found() -> None:
    told = describe(
        toy(
            query("1", "a", "is red", "is  Red"),
            query("2", "b", "is blue", " "),
            query("3", "b", "is blue", " "),
            query("4", "c", "is red", "is long and wide"),
        )
    )
    assert told.equal_captions == ["1"]
    assert told.empty_captions == ["2", "3"]
    assert told.repeated_captions == (2, 4)
    assert told.repeated_queries == [["2", "3"]]
    assert told.words == Spread(14, 14 / 6, 2, 2, 4)
    assert told.captions == Spread(8, 2, 2, 2, 2)


def test_parts_and_candidates_are_counted() -> None:
    told = describe(
        toy(
            query("1", "a", "x", category="dress"),
            query("2", "a", "y", category="shirt"),
            query("3", "a", "z", category="dress"),
            pools=(("a", "b"), ("a", "b", "c")),
            pool_of_query=(0, 1, 0),
            slices={"aspect": (("addition", "negation"), ("addition",), ())},
        )
    )
    assert [(part.kind, part.label, part.queries) for part in told.parts] == [
        ("category", "dress", 2),
        ("category", "shirt", 1),
        ("aspect", "addition", 2),
        ("aspect", "negation", 1),
    ]
    assert told.candidates == Spread(7, 7 / 3, 2, 2, 3)


def test_fashioniq_is_described_as_its_files_say(annotation_root: Path) -> None:
    told = describe(load_protocol("fashioniq/val", annotation_root))
    pairs: list[tuple[str, list[str]]] = []
    for category in ("dress", "shirt", "toptee"):
        rows = json.loads((annotation_root / f"fashioniq/captions/cap.{category}.val.json").read_text())
        pairs += [(category + row["candidate"], row["captions"]) for row in rows]
    plain = [[" ".join(caption.casefold().split()) for caption in captions] for _, captions in pairs]
    words = [len(caption.split()) for captions in plain for caption in captions if caption]
    assert told.queries == len(pairs)
    assert len(told.empty_captions) == sum("" in captions for captions in plain)
    assert len(told.equal_captions) == sum(first == second for first, second in plain)
    assert told.words is not None
    assert (told.words.total, told.words.least, told.words.most) == (sum(words), min(words), max(words))
    assert told.words.mean == pytest.approx(sum(words) / len(words))
    times = Counter(caption for captions in plain for caption in captions if caption)
    assert told.repeated_captions[0] == sum(count > 1 for count in times.values())


def test_circo_is_described_as_its_paper_counts(annotation_root: Path) -> None:
    told = describe(load_protocol("circo/val", annotation_root))
    assert told.ground_truths is not None
    assert (told.queries, told.references) == (220, 220)
    assert (told.ground_truths.total, told.ground_truths.least, told.ground_truths.most) == (916, 1, 14)
    assert told.empty_captions == []

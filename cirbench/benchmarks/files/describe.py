"""What a benchmark's annotations hold, counted: the same numbers for every protocol."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cirbench.protocol import EvaluationProtocol


class Spread(msgspec.Struct, frozen=True):
    """Some counts, summed up."""

    total: int
    mean: float
    median: float
    least: int
    most: int


class Part(msgspec.Struct, frozen=True):
    """The queries that carry one label, for instance one category."""

    kind: str
    label: str
    queries: int


class Description(msgspec.Struct, frozen=True):
    """What the annotations of one protocol hold.

    Attributes:
        protocol: Its name.
        queries: Queries.
        references: Distinct reference images.
        gallery: Images that are ranked; ``None`` where their list is not available.
        references_in_gallery: Distinct references that are ranked as well.
        candidates: Images that each query ranks, where queries have candidates of their own.
        ground_truths: Per query; ``None`` where a server keeps them.
        unanswerable: Queries without any ground truth.
        captions: How many captions the queries have.
        words: Words per caption that is not empty.
        empty_captions: Ids of the queries with an empty caption.
        equal_captions: Ids of the queries whose captions are all the same.
        repeated_captions: Captions that occur more than once, and the queries they occur in.
        repeated_queries: Groups of queries with the same reference and the same captions.
        parts: Queries by category and whatever else the protocol reports separately.
    """

    protocol: str
    queries: int
    references: int
    gallery: int | None
    references_in_gallery: int | None
    candidates: Spread | None
    ground_truths: Spread | None
    unanswerable: int
    captions: Spread
    words: Spread | None
    empty_captions: list[str]
    equal_captions: list[str]
    repeated_captions: tuple[int, int]
    repeated_queries: list[list[str]]
    parts: list[Part]


def describe(protocol: EvaluationProtocol) -> Description:
    """Count what the annotations of a protocol hold."""
    queries = protocol.queries
    gallery = protocol.gallery
    references = {query.reference.id for query in queries}
    relevant = None if protocol.labels is None else [len(ids) for ids in protocol.labels.relevant]
    captions = [_plain(caption) for query in queries for caption in query.captions]
    times = Counter(filter(None, captions))
    twins: dict[tuple[str, tuple[str, ...], str | None], list[str]] = {}
    for query in queries:
        twins.setdefault((query.reference.id, query.captions, query.category), []).append(query.id)
    pools = protocol.pools or ()
    return Description(
        protocol=protocol.name,
        queries=len(queries),
        references=len(references),
        gallery=None if gallery is None else len(gallery),
        references_in_gallery=None if gallery is None else sum(name in gallery.positions for name in references),
        candidates=spread([len(pools[nth]) for nth in protocol.pool_of_query or ()]),
        ground_truths=None if relevant is None else spread(relevant),
        unanswerable=0 if relevant is None else relevant.count(0),
        captions=spread([len(query.captions) for query in queries]) or Spread(0, 0, 0, 0, 0),
        words=spread([len(caption.split()) for caption in captions if caption]),
        empty_captions=[query.id for query in queries if not all(map(str.strip, query.captions))],
        equal_captions=[
            query.id for query in queries if len(query.captions) > 1 and len(set(map(_plain, query.captions))) == 1
        ],
        repeated_captions=_repeated(times, protocol),
        repeated_queries=[ids for ids in twins.values() if len(ids) > 1],
        parts=[Part("category", *row) for row in _tally([query.category] for query in queries)]
        + [Part(kind, *row) for kind, rows in protocol.slices.items() if kind != "category" for row in _tally(rows)],
    )


def _plain(caption: str) -> str:
    """Return a caption as it counts for being the same: case and spaces apart."""
    return " ".join(caption.casefold().split())


def spread(counts: Sequence[int]) -> Spread | None:
    """Sum up some counts; ``None`` where there are none."""
    if not counts:
        return None
    return Spread(sum(counts), statistics.fmean(counts), statistics.median(counts), min(counts), max(counts))


def _repeated(times: Counter[str], protocol: EvaluationProtocol) -> tuple[int, int]:
    repeated = {caption for caption, count in times.items() if count > 1}
    carrying = sum(any(_plain(caption) in repeated for caption in query.captions) for query in protocol.queries)
    return len(repeated), carrying


def _tally(rows: Iterable[Sequence[str | None]]) -> list[tuple[str, int]]:
    """Count the queries per label, in the order of first appearance."""
    return list(Counter(label for labels in rows for label in labels if label is not None).items())

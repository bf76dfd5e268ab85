"""CIRCLED: dialogues of two to six turns on CIRR, FashionIQ and CIRCO, each turn as a query of its own.

Takeda et al., "CIRCLED: A Multi-turn CIR Dataset with Consistent Dialogues across Domains", 2026 (arXiv:2605.26734). A
session asks for one answer in several turns; after the first, the reference is what a simulated searcher chose among
what was found so far, and the text was written by GPT-4o-mini. A turn is a query here: its own reference and text, the
answers of its session, gallery and candidates of the benchmark. What was said before reaches no method, so a later turn
is not easier for having been preceded; its reference is nearer to the answer, though, by the retriever that simulated
the search (CIReVL on BLIP), which favours methods like it.

The published files were not available when this was written: their form is that of the script that writes them, their
counts are those of the data card.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import msgspec

from cirbench.benchmarks.annotation_files import Expected, decode, locate, queries, refuse, repeated, wrong_counts
from cirbench.errors import MissingData, some
from cirbench.protocol import Item, Labels, Query
from cirbench.support.console import typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cirbench.metrics.table import Measure
    from cirbench.protocol import EvaluationProtocol

VARIANT = "val-circled"
TITLE = "turns of CIRCLED's dialogues, each by itself"
SESSIONS, TURNS = "sessions", "turns"
EXPECTED: Mapping[str, Expected] = {
    "cirr_val": {SESSIONS: 959, TURNS: 2279},
    "fashioniq_dress_val": {SESSIONS: 1360, TURNS: 3716},
    "fashioniq_shirt_val": {SESSIONS: 1500, TURNS: 3773},
    "fashioniq_toptee_val": {SESSIONS: 1506, TURNS: 3841},
    "circo_val": {SESSIONS: 54, TURNS: 141},
}
"""From the data card: sessions, and the turns of their lengths."""

HINT = (
    "It is published at https://huggingface.co/datasets/tk1441/CIRCLED, under CC BY 4.0: copy its {subset}.json there."
)

Id = str | int


class _Turn(msgspec.Struct, frozen=True):
    turn: int
    reference_image_id: Id
    relative_caption: str


class _Session(msgspec.Struct, frozen=True):
    session_id: str
    subset: str
    ground_truth_ids: Annotated[list[Id], msgspec.Meta(min_length=1)]
    num_turns: int
    turns: Annotated[list[_Turn], msgspec.Meta(min_length=1)]


def of_turns(
    protocol: EvaluationProtocol,
    subsets: Mapping[str | None, str],
    data_root: Path,
    expected: Mapping[str, Expected],
    measures: tuple[Measure, ...],
) -> EvaluationProtocol:
    """Return a protocol whose queries are the turns of CIRCLED's sessions, by gallery and candidates as they are.

    Args:
        protocol: The protocol of the benchmark's validation split, with its gallery.
        subsets: Per category of queries, ``None`` where they have none, the subset of CIRCLED.
        data_root: The folder that holds ``cirr/circled/cirr_val.json`` and so on.
        expected: Per subset, what its file counts up to.
        measures: What is reported.

    Raises:
        MissingData: A file is absent; the hint says where it is published.
        CorruptFile: A file is not what was published; the message names the sessions or images.
    """
    gallery = protocol.gallery
    if gallery is None or gallery.images is None:
        raise MissingData(
            f"The turns of CIRCLED start from images of the gallery of {protocol.id}, whose list is missing.",
            hint=f"Type `cirbench data get {protocol.id} --data-root {typed(data_root)} --annotations-only`.",
        )
    dataset = protocol.id.partition("/")[0]
    turns: list[tuple[Query, tuple[str, ...], str, int]] = []
    pool_of_query: list[int] = []
    for category, subset in subsets.items():
        path = locate(data_root, f"{dataset}/circled/{subset}.json", hint=HINT.format(subset=subset))
        sessions = decode(path, list[_Session])
        pool = _pool(protocol, category)
        candidates = frozenset(gallery.ids if pool is None else (protocol.pools or ())[pool])
        refuse(path, _broken(sessions, subset, candidates, expected[subset]))
        for session in sessions:
            for turn in session.turns:
                reference = _id(turn.reference_image_id)
                image = gallery.images[gallery.positions[reference]]
                query = Query(
                    f"{session.session_id}-{turn.turn}", Item(reference, image), (turn.relative_caption,), category
                )
                answers = tuple(name for name in map(_id, session.ground_truth_ids) if name != reference)
                turns.append((query, answers, session.session_id, turn.turn))
                pool_of_query += [] if pool is None else [pool]
    slices = {"turn": tuple((str(turn),) for *_, turn in turns)}
    if "category" in protocol.slices:
        slices["category"] = tuple((query.category or "",) for query, *_ in turns)
    return dataclasses.replace(
        protocol,
        queries=tuple(query for query, *_ in turns),
        labels=Labels(tuple(answers for _, answers, *_ in turns)),
        measures=measures,
        groups=None,
        pool_of_query=tuple(pool_of_query) if protocol.pools is not None else None,
        slices=slices,
        clusters=tuple(session for *_, session, _ in turns),
        captions="the text of the turn alone",
    )


def _pool(protocol: EvaluationProtocol, category: str | None) -> int | None:
    """The candidates of a category's queries, by their place among the pools."""
    if protocol.pool_of_query is None:
        return None
    of_category = (
        place
        for place, query in zip(protocol.pool_of_query, protocol.queries, strict=True)
        if query.category == category
    )
    return next(of_category)


def _id(written: Id) -> str:
    """An id as the benchmark has it: COCO's without the zeros of file names."""
    return str(int(written)) if str(written).isdecimal() else str(written)


def _broken(sessions: Sequence[_Session], subset: str, inside: frozenset[str], expected: Expected) -> Iterator[str]:
    found = {SESSIONS: len(sessions), TURNS: sum(len(session.turns) for session in sessions)}
    yield from wrong_counts(found, expected)
    yield from repeated("session ids", (session.session_id for session in sessions))
    if other := [session.session_id for session in sessions if session.subset != subset]:
        yield f"the subset is not {subset} in {queries(other)}"
    if torn := [
        session.session_id
        for session in sessions
        if [turn.turn for turn in session.turns] != [*range(1, session.num_turns + 1)]
    ]:
        yield f"turns are missing or out of order in {queries(torn)}"
    if silent := [
        each.session_id for each in sessions if not all(turn.relative_caption.strip() for turn in each.turns)
    ]:
        yield f"a caption is empty in {queries(silent)}"
    named = (
        name
        for each in sessions
        for name in (*each.ground_truth_ids, *(turn.reference_image_id for turn in each.turns))
    )
    if outside := [name for name in dict.fromkeys(map(_id, named)) if name not in inside]:
        yield f"images are not in the gallery: {some(outside)}"

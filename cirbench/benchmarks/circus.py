"""CIRCUS: which queries of CIRR, FashionIQ and CIRCO one side of the query answers (Attimonelli et al., 2605.14787).

Eleven retrievers ranked M-BEIR's galleries by image and text, by the text alone and by the image alone. A query for
which a unimodal ranking has the target among its first 10 is a shortcut. The others are published in two files, each
the labels of a kind:

- ``circus``: every query without a shortcut, ``composition_required`` where a ranking by both sides has the target
  among its first 10 and ``unresolved`` where none has. The queries that the file leaves out, ``not listed``, are
  shortcuts, or not in M-BEIR's copy, which leaves out some of CIRR's.
- ``circus-validated``: those of them that people found valid, with the same two labels; the others carry none.

The files have no ids of the benchmarks' own: rows are joined by reference and text, of which M-BEIR's copy changes
capitals and stops, and joins the two captions of FashionIQ by "and".
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cirbench.benchmarks.annotation_files import Expected, find, possible_places, refuse, repeated, wrong_counts
from cirbench.benchmarks.interface import GITHUB
from cirbench.errors import CorruptFile, MissingData, UsageError, some
from cirbench.support.console import typed
from cirbench.support.textfiles import csv_rows, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol

Labels = tuple[tuple[str, ...], ...]

ALL, VALIDATED = "circus", "circus-validated"
FILES = {ALL: "shortcut_free", VALIDATED: "validated"}
"""Per kind of labels, how its files end."""

REQUIRED, UNRESOLVED, NOT_LISTED = "composition_required", "unresolved", "not listed"
EXPECTED: Mapping[str, Mapping[str, int]] = {
    ALL: {"cirr": 685, "fashioniq": 4069, "circo": 56},
    VALIDATED: {"cirr": 303, "fashioniq": 586, "circo": 42},
}
"""Per kind and benchmark, how many rows the authors published."""

_TRACE = (
    "query_idx,query_id,aggregate_label,aggregate_detail_label,legacy_category,query_text,query_image_ref,"
    "primary_pos_cand_id,rank_multimodal,rank_text_only,rank_image_only,best_retriever_multimodal,"
    "best_retriever_text_only,best_retriever_image_only,support_multimodal,support_text_only,support_image_only,"
    "support_either_unimodal"
)
_CHECKED = (
    "dataset,hidden_category,validated,query_idx,query_text,full_text,query_image_ref,target_image_ref,aggregate_label,"
    "aggregate_detail_label,aggregate_legacy_category,best_retriever_multimodal,best_retriever_text_only,"
    "best_retriever_image_only,support_multimodal,support_text_only,support_image_only,support_either_unimodal,"
    "rank_multimodal,rank_text_only,rank_image_only,hit_multimodal,hit_text_only,hit_image_only,invalid_text_query,"
    "invalid_image_query,invalid_target_image,query_too_broad,note"
)
HEADERS = {ALL: _TRACE, VALIDATED: _CHECKED}
"""The columns of the published files; a file with others is not read."""

_URL = f"{GITHUB}/matteoattimonelli/CIRCUS/067e7277e67283105a683a8b3ad1297009908166/croissant/exports"


def circus_labels(
    protocol: EvaluationProtocol, kind: str, data_root: Path, rows: Mapping[str, int] | None = None
) -> Labels:
    """Return the labels of a kind that each query of a protocol carries.

    Args:
        protocol: One with the captions as annotated of CIRR's or CIRCO's validation split or FashionIQ's.
        kind: A key of `FILES`.
        data_root: The folder that holds ``cirr/circus/cirr_shortcut_free.csv`` and so on.
        rows: How many rows the file of each benchmark has; as published if not given.

    Raises:
        UsageError: CIRCUS has no labels for the protocol.
        MissingData: The file is absent; the hint says where it is published.
        CorruptFile: The file is not what was published; the message names the columns or rows.
    """
    name = protocol.id.partition("/")[0]
    expected = (EXPECTED[kind] if rows is None else rows).get(name)
    if expected is None or protocol.labels is None:
        raise UsageError(
            f"CIRCUS has no labels for {protocol.name}.",
            hint="It has some for the validation queries of cirr, fashioniq and circo.",
        )
    file = f"{name}/circus/{name}_{FILES[kind]}.csv"
    path = find(data_root, file)
    if path is None:
        place = possible_places(data_root, file)[0]
        raise MissingData(
            f"CIRCUS' labels are not in {place}.",
            hint=f"curl --create-dirs -o {typed(place)} {_URL}/{place.name}",
        )
    published = _read(path, kind)
    keys = [*map(_key, published)]
    places_of = _places(protocol)
    refuse(path, _broken(published, keys, places_of, {"rows": expected}))
    named: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row, key in zip(published, keys, strict=True):
        named[key].add(row["aggregate_label"])
    labels: list[tuple[str, ...]] = [(NOT_LISTED,) if kind == ALL else ()] * len(protocol.queries)
    for key, found in named.items():
        for at in places_of[key]:
            labels[at] = tuple(sorted(found))
    return tuple(labels)


def _read(path: Path, kind: str) -> list[dict[str, str]]:
    wanted = HEADERS[kind].split(",")

    def check_header(_: str, header: Sequence[str]) -> None:
        lost, new = ([name for name in one if name not in other] for one, other in ((wanted, header), (header, wanted)))
        if header != wanted:
            raise CorruptFile(
                f"{path} does not have the columns of CIRCUS' {FILES[kind]} files: {some(lost) or 'none'} missing, "
                f"{some(new) or 'none'} more.",
                hint=f"Only the release of May 2026 is read: {_URL}/{path.name}",
            )

    return [row for _, row in csv_rows(str(path), read_text(path), check_header)]


def _key(row: Mapping[str, str]) -> tuple[str, str]:
    """What a row is joined by: reference and text."""
    return _name(row["query_image_ref"]), _plain(row["query_text"])


def _places(protocol: EvaluationProtocol) -> Mapping[tuple[str, str], Sequence[int]]:
    """Where the queries of each key are: several may have one reference and one text, and are one query there."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, query in enumerate(protocol.queries):
        # Three queries of FashionIQ have an empty caption.
        for captions in {query.captions, tuple(filter(str.strip, query.captions))}:
            places[query.reference.id, _plain(" and ".join(captions))].append(place)
    return places


def _name(path: str) -> str:
    """The id in ``mbeir_images/cirr_images/dev/dev-1-0-img0.jpg``; COCO's files have zeros before it."""
    stem = PurePosixPath(path).stem
    return stem.lstrip("0") if stem.isdecimal() else stem


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _broken(
    rows: Sequence[Mapping[str, str]],
    keys: Sequence[tuple[str, str]],
    places_of: Mapping[tuple[str, str], Sequence[int]],
    expected: Expected,
) -> Iterator[str]:
    yield from wrong_counts({"rows": len(rows)}, expected)
    yield from repeated("queries", (row["query_idx"] for row in rows))
    if strange := sorted({row["aggregate_label"] for row in rows} - {REQUIRED, UNRESOLVED}):
        yield f"unknown labels: {some(strange)}"
    if doubted := [row["query_idx"] for row in rows if row.get("validated", "true") != "true"]:
        yield f"queries {some(doubted)} are not validated"
    if lost := [row["query_idx"] for row, key in zip(rows, keys, strict=True) if key not in places_of]:
        yield f"the benchmark has no query with the reference and text of query_idx {some(lost)}"

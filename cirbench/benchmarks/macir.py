"""MA-CIR: add, remove or replace, by kind of meaning, among hard negatives (Byun et al., ICCV 2025).

A query is an image, a text, one target, what is asked for (its condition) and the kind of meaning that has to be
understood (its composition). The reference is removed. The public evaluation has three levels:

- ``macir/full``: every image of the database; Recall@1 of each composition (its ``full``), of each condition, and of
  each pair of both (its ``full_splits``, which prints 0 for a pair without queries; here it is left out).
- ``macir/restricted-add``, ``-remove`` and ``-replace``: the queries and images of one condition. A query ranks only
  the images whose name begins like its reference's, up to ``_edit_`` or the first dot, and one with fewer than two
  candidates is left out.

The files were not available when this was written: it is after the loader of the public code, and checks what it reads
for consistency. How many queries and images there are is not compared with anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from cirbench.benchmarks.annotation_files import decode, locate, queries, refuse, repeated, unsuffixed
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import Benchmark, Collection, DatasetFiles, ImageSet, ProtocolEntry
from cirbench.errors import UnknownName, some
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LICENCE = "none stated"
MACIR = Collection("MA-CIR", ("macir/images", "macir"))
Composition = Literal[
    "left_right", "top_bottom", "spatial_reasoning", "size", "action", "color", "object_reasoning", "naive_object"
]
Condition = Literal["remove", "replace", "add"]
COMPOSITIONS: tuple[Composition, ...] = get_args(Composition)
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
TITLES = {
    "full": "MA-CIR, the whole database, reference removed",
    **{f"restricted-{each}": f"MA-CIR, {each}, variants of the reference alone" for each in CONDITIONS},
}
FOLDER = "macir/meta_data"
BY_HAND = (
    "Its authors link the data from https://github.com/jaeseokbyun/MACIR: put meta_data/ and images/ into macir/. "
    "No licence is stated."
)


class _Row(msgspec.Struct, frozen=True):
    reference_image: str
    target_image: str
    relative_caption: str
    condition_type: Condition
    composition_type: Composition


def macir_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load one of MA-CIR's protocols.

    Args:
        variant: A key of `TITLES`.
        data_root: The folder that holds ``macir/meta_data/macir_meta_full.json`` and so on.

    Raises:
        UnknownName: There is no such protocol.
        MissingData: A file is absent.
        CorruptFile: A file is not of the published form; the message names the rows or images.
    """
    if variant not in TITLES:
        raise UnknownName("protocol of macir", variant, TITLES)
    level, _, condition = variant.partition("-")
    path = locate(data_root, f"{FOLDER}/macir_meta_{condition or 'full'}.json", hint=BY_HAND)
    listed = locate(data_root, f"{FOLDER}/image_ids{condition and f'_{condition}'}.json", hint=BY_HAND)
    names = tuple(decode(listed, list[str]))
    refuse(listed, repeated("images", map(unsuffixed, names)))
    rows = list(enumerate(decode(path, list[_Row])))
    refuse(path, _broken([row for _, row in rows], frozenset(names), condition))
    pools: tuple[tuple[str, ...], ...] | None = None
    if level == "restricted":
        alike = {prefix: _beginning(prefix, names) for prefix in dict.fromkeys(_prefix(row) for _, row in rows)}
        rows = [(number, row) for number, row in rows if len({*alike[_prefix(row)]} - {row.reference_image}) > 1]
        refuse(path, _unreachable(rows, alike))
        pools = tuple(dict.fromkeys(alike[_prefix(row)] for _, row in rows))
    place_of = {} if pools is None else {pool: place for place, pool in enumerate(pools)}
    images = ImageFiles(MACIR, tuple(map(unsuffixed, names)), data_root, "cirbench data check macir")
    kinds = ("composition",) if level == "restricted" else ("composition", "condition", "pair")
    slices = {
        "composition": tuple((row.composition_type,) for _, row in rows),
        "condition": tuple((row.condition_type,) for _, row in rows),
        "pair": tuple((f"{row.composition_type}_{row.condition_type}",) for _, row in rows),
    }
    return EvaluationProtocol(
        id=f"macir/{variant}",
        version=1,
        title=TITLES[variant],
        queries=tuple(
            Query(
                str(number), Item(row.reference_image, images[unsuffixed(row.reference_image)]), (row.relative_caption,)
            )
            for number, row in rows
        ),
        gallery=Gallery(names, [images[unsuffixed(name)] for name in names]),
        labels=Labels(tuple((row.target_image,) for _, row in rows)),
        measures=(
            Measure("Recall", 1),
            *(Measure("Recall", 1, by=kind, macro=True, labels=_present(slices[kind])) for kind in kinds),
        ),
        exclude_reference=True,
        pools=pools,
        pool_of_query=None if pools is None else tuple(place_of[alike[_prefix(row)]] for _, row in rows),
        slices={kind: slices[kind] for kind in kinds},
        clusters=tuple(_prefix(row) for _, row in rows),
        captions="the caption as annotated",
        licence=LICENCE,
    )


def _prefix(row: _Row) -> str:
    """What the variants of a reference begin with, as the public evaluation finds them."""
    before, edited, _ = row.reference_image.partition("_edit_")
    return before if edited else row.reference_image.partition(".")[0]


def _beginning(prefix: str, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name.startswith(prefix))


def _present(labels: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The labels that occur, in the order of the public evaluation."""
    there = {label for row in labels for label in row}
    pairs = [f"{composition}_{condition}" for composition in COMPOSITIONS for condition in CONDITIONS]
    return tuple(label for label in (*COMPOSITIONS, *CONDITIONS, *pairs) if label in there)


def _broken(rows: Sequence[_Row], inside: frozenset[str], condition: str) -> Iterator[str]:
    if not rows:
        yield "it holds no queries"
    if silent := [place for place, row in enumerate(rows) if not row.relative_caption.strip()]:
        yield f"the caption is empty in {queries(silent)}"
    if trivial := [place for place, row in enumerate(rows) if row.reference_image == row.target_image]:
        yield f"the reference is the target of {queries(trivial)}"
    if other := [place for place, row in enumerate(rows) if condition and row.condition_type != condition]:
        yield f"the condition is not {condition} in {queries(other)}"
    if outside := [name for row in rows for name in (row.reference_image, row.target_image) if name not in inside]:
        yield f"images are not in the list of images: {some(outside)}"


def _unreachable(rows: Sequence[tuple[int, _Row]], alike: dict[str, tuple[str, ...]]) -> Iterator[str]:
    if not rows:
        yield "no query has two candidates"
    if lost := [number for number, row in rows if row.target_image not in alike[_prefix(row)]]:
        yield f"the target does not begin like the reference in {queries(lost)}"


BENCHMARK = Benchmark(
    name="macir",
    title="MA-CIR: add, remove or replace, by kind of meaning, among hard negatives",
    licence=LICENCE,
    citation="Byun et al., MACIR: A Multimodal Arithmetic Benchmark for Composed Image Retrieval, ICCV 2025",
    load=macir_protocol,
    protocols=tuple(ProtocolEntry(f"macir/{variant}", title, "all", None, None) for variant, title in TITLES.items()),
    needs="macir/meta_data/macir_meta_{full,add,remove,replace}.json, macir/meta_data/image_ids{,_add,...}.json",
    files=DatasetFiles(
        images=(ImageSet("MA-CIR", MACIR, None, LICENCE, "macir/images", by_hand="They come with the lists."),),
        by_hand=BY_HAND,
    ),
    columns=(
        "Recall@1",
        *(f"Recall@1[composition={each}]" for each in COMPOSITIONS),
        "Recall@1[mean over composition]",
        *(f"Recall@1[condition={each}]" for each in CONDITIONS),
    ),
    default_split="all",
)

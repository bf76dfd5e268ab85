"""FashionIQ: composed retrieval of dresses, shirts and tops, with two captions per query.

Wu et al., "Fashion IQ: A New Dataset Towards Retrieving Images by Natural Language Feedback", CVPR 2021. Each category
has a gallery of its own. Papers rank against different ones, with and without the reference image among the candidates,
and their numbers must not be compared with each other; docs/protocols.md says who uses which.

- ``fashioniq/val``: every image of the category's validation split.
- ``fashioniq/val-union``: only the references and targets of the category's queries.
- ``-drop-reference`` behind either: the reference is removed from the candidates of its own query.
- ``fashioniq/val-multi-target`` and ``-judged``: ``fashioniq/val`` with the targets that a model judged right
  (`cirbench.benchmarks.relabelled`); ``fashioniq/val-circled``: the turns of dialogues
  (`cirbench.benchmarks.circled`).
- ``fashioniq/val-pli``: what the public code of PLI evaluates. Each pair is asked twice, once per order of its two
  captions; four punctuation marks become words; the reference is removed; the gallery is the references and targets of
  a list of pairs from which about a twelfth of the official ones is missing. FashionIQ did not publish that list, so it
  is not fetched: put the three files where `PLI_FILE` says.

Queries are ``dress-0``, ``dress-1`` and so on, by category and place in the file.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from cirbench.benchmarks import circled, relabelled
from cirbench.benchmarks.annotation_files import (
    Expected,
    decode,
    locate,
    queries,
    read_lines,
    refuse,
    repeated,
    wrong_counts,
)
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import GITHUB, Benchmark, Collection, DatasetFiles, ImageSet, ProtocolEntry, listed
from cirbench.errors import UnknownName, some
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


CATEGORIES = ("dress", "shirt", "toptee")
LICENCE = "CDLA-Permissive"
PRODUCTS = Collection("fashioniq", ("fashioniq", "fashion-iq", "fashionIQ"))
CHECK = "cirbench data check fashioniq"


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes FashionIQ's protocols from each other.

    Attributes:
        title: One line for people.
        union: Whether galleries hold the references and targets of queries only, instead of the whole split.
        exclude_reference: Whether the reference is removed from the candidates.
    """

    title: str
    union: bool = False
    exclude_reference: bool = False


VARIANTS = {
    "val": Variant("FashionIQ val, split galleries 3817/6346/5373"),
    "val-drop-reference": Variant("FashionIQ val, split galleries, reference removed", exclude_reference=True),
    "val-union": Variant("FashionIQ val, union galleries 2628/3089/2902", union=True),
    "val-union-drop-reference": Variant(
        "FashionIQ val, union galleries, reference removed", union=True, exclude_reference=True
    ),
    **{variant: Variant(f"FashionIQ val, {targets}") for variant, targets in relabelled.READINGS.items()},
    circled.VARIANT: Variant(f"FashionIQ val, {circled.TITLE}"),
}

QUERIES, IMAGES, UNION = "queries", "images", "distinct references and targets"
EXPECTED: Mapping[str, Expected] = {
    "dress": {
        QUERIES: 2017,
        IMAGES: 3817,
        UNION: 2628,
        **relabelled.EXPECTED["dress"],
        **circled.EXPECTED["fashioniq_dress_val"],
    },
    "shirt": {
        QUERIES: 2038,
        IMAGES: 6346,
        UNION: 3089,
        **relabelled.EXPECTED["shirt"],
        **circled.EXPECTED["fashioniq_shirt_val"],
    },
    "toptee": {
        QUERIES: 1961,
        IMAGES: 5373,
        UNION: 2902,
        **relabelled.EXPECTED["toptee"],
        **circled.EXPECTED["fashioniq_toptee_val"],
    },
}
"""Counted in the published files."""

SPLIT_IMAGES, UNION_IMAGES = 15_415, 8582
"""Distinct images of all three galleries together; some are in two."""


class _Row(msgspec.Struct, frozen=True):
    candidate: str
    target: str
    captions: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Category:
    """The queries of one category and what they rank.

    Attributes:
        name: Its name.
        gallery: The ids that its queries rank.
        pairs: Per query, reference and target.
        captions: Per query, what reaches the method.
    """

    name: str
    gallery: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    captions: tuple[tuple[str, ...], ...]


def fashioniq_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load one of FashionIQ's protocols and check every count.

    Args:
        variant: A key of `VARIANTS`, or ``"val-pli"``.
        data_root: The folder that holds ``fashioniq/captions/cap.dress.val.json`` and so on.

    Raises:
        UnknownName: There is no such protocol.
        MissingData: A file is absent.
        CorruptFile: A file is not what was published; the message names the file and the queries or ids.
    """
    if variant == "val-pli":
        return pli_protocol(data_root)
    if variant not in VARIANTS:
        raise UnknownName("protocol of fashioniq", variant, (*VARIANTS, "val-pli"))
    return load(variant, data_root, EXPECTED)


def load(variant: str, data_root: Path, expected: Mapping[str, Expected]) -> EvaluationProtocol:
    """Load a protocol in FashionIQ's format whose counts are ``expected``; see `fashioniq_protocol`."""
    chosen = VARIANTS[variant]
    protocol = assemble(
        f"fashioniq/{variant}",
        chosen.title,
        [_read(category, chosen, data_root, expected[category]) for category in CATEGORIES],
        data_root,
        cutoffs=(10, 50),
        captions="both captions as annotated, in the order of the file; the method joins them",
        exclude_reference=chosen.exclude_reference,
    )
    if variant == circled.VARIANT:
        subsets: dict[str | None, str] = {category: f"fashioniq_{category}_val" for category in CATEGORIES}
        counts = {f"fashioniq_{category}_val": expected[category] for category in CATEGORIES}
        asked = (*protocol.measures, Measure("Recall", 10, by="turn"))
        return circled.of_turns(protocol, subsets, data_root, counts, asked)
    if variant not in relabelled.READINGS:
        return protocol
    judged: dict[str | None, tuple[Path, Expected]] = {
        category: (locate(data_root, relabelled.FILE.format(dataset="fashioniq", part=category)), expected[category])
        for category in CATEGORIES
    }
    united = [Measure(name, k) for name in ("Hit_rate", "Recall") for k in (10, 50)]
    measures = [*relabelled.PRECISIONS, *relabelled.GAINS, *(united if variant == relabelled.UNITED else ())]
    return relabelled.with_judged_targets(
        protocol,
        variant,
        judged,
        tuple(dataclasses.replace(each, by="category", macro=True, labels=CATEGORIES) for each in measures),
    )


def assemble(
    id: str,
    title: str,
    categories: Sequence[Category],
    data_root: Path,
    *,
    cutoffs: Sequence[int],
    captions: str,
    exclude_reference: bool = False,
) -> EvaluationProtocol:
    """Make a protocol of categories: one gallery of all their images, in which each query ranks its category's pool."""
    names = [category.name for category in categories]
    ids = tuple(dict.fromkeys(name for category in categories for name in category.gallery))
    images = ImageFiles(PRODUCTS, ids, data_root, CHECK)
    rows = [
        (place, f"{category.name}-{number}", pair, texts)
        for place, category in enumerate(categories)
        for number, (pair, texts) in enumerate(zip(category.pairs, category.captions, strict=True))
    ]
    return EvaluationProtocol(
        id=id,
        version=1,
        title=title,
        queries=tuple(
            Query(query, Item(reference, images[reference]), texts, category=names[place])
            for place, query, (reference, _), texts in rows
        ),
        gallery=Gallery(ids, [images[name] for name in ids]),
        labels=Labels(tuple((target,) for _, _, (_, target), _ in rows)),
        measures=tuple(Measure("Recall", k, by="category", macro=True, labels=tuple(names)) for k in cutoffs),
        exclude_reference=exclude_reference,
        pools=tuple(category.gallery for category in categories),
        pool_of_query=tuple(place for place, _, _, _ in rows),
        slices={"category": tuple((names[place],) for place, _, _, _ in rows)},
        clusters=tuple(f"{names[place]} {reference}" for place, _, (reference, _), _ in rows),
        captions=captions,
        licence=LICENCE,
    )


def _read(category: str, variant: Variant, data_root: Path, expected: Expected) -> Category:
    path = locate(data_root, f"fashioniq/captions/cap.{category}.val.json")
    rows = decode(path, list[_Row])
    union = tuple(dict.fromkeys(name for row in rows for name in (row.candidate, row.target)))
    split = None if variant.union else _split(category, data_root, expected)
    refuse(path, _broken(rows, union, split, expected))
    return Category(
        category,
        union if split is None else split,
        tuple((row.candidate, row.target) for row in rows),
        tuple(row.captions for row in rows),
    )


def _split(category: str, data_root: Path, expected: Expected) -> tuple[str, ...]:
    path = locate(data_root, f"fashioniq/image_splits/split.{category}.val.json")
    ids = tuple(decode(path, list[str]))
    refuse(path, [*wrong_counts({IMAGES: len(ids)}, expected), *repeated("images", ids)])
    return ids


def _broken(
    rows: Sequence[_Row], union: Sequence[str], split: Sequence[str] | None, expected: Expected
) -> Iterator[str]:
    yield from wrong_counts({QUERIES: len(rows), UNION: len(union)}, expected)
    # Three queries of the published files have one empty caption each; none has two.
    if silent := [place for place, row in enumerate(rows) if not "".join(row.captions).strip()]:
        yield f"both captions are empty in {queries(silent)}"
    if trivial := [place for place, row in enumerate(rows) if row.candidate == row.target]:
        yield f"the reference is the target of {queries(trivial)}"
    yield from repeated("targets", (row.target for row in rows))
    if split is not None:
        inside = set(split)
        outside = [
            f"{name} of query {place}"
            for place, row in enumerate(rows)
            for name in (row.candidate, row.target)
            if name not in inside
        ]
        if outside:
            yield f"images are not in the split's list: {', '.join(outside[:10])}"


PLI_TITLE = "FashionIQ val as PLI's code, pair list from your file"
PLI_FILE = "fashioniq/captions_pairs/fashion_iq-val-cap-{category}.txt"
"""Lines of ``dress/ID.jpg;dress/ID.jpg;caption``, where two neighbouring lines are the two captions of one pair."""

MARKS = str.maketrans({".": "dotmark", "?": "questionmark", "&": "andmark", "*": "starmark"})
"""What PLI's public code writes for a punctuation mark, on FashionIQ and CIRR."""

PLI_EXPECTED: Mapping[str, Expected] = {
    "dress": {QUERIES: 3738, IMAGES: 2454},
    "shirt": {QUERIES: 3888, IMAGES: 2962},
    "toptee": {QUERIES: 3754, IMAGES: 2808},
}
"""Counted in the lists that come with the public code of PLI."""


def pli_protocol(data_root: Path) -> EvaluationProtocol:
    """Load ``fashioniq/val-pli``.

    Raises:
        MissingData: A list of pairs is absent.
        CorruptFile: It is not the one that PLI's numbers were obtained with.
    """
    return load_pli(data_root, PLI_EXPECTED)


def load_pli(data_root: Path, expected: Mapping[str, Expected]) -> EvaluationProtocol:
    """Load lists of pairs whose counts are ``expected``; see `pli_protocol`."""
    return assemble(
        "fashioniq/val-pli",
        PLI_TITLE,
        [_read_pairs(category, data_root, expected[category]) for category in CATEGORIES],
        data_root,
        cutoffs=(10, 50, 1, 5),
        captions='each pair is two queries, its captions joined by " and " in either order; '
        "the marks . ? & * are written dotmark questionmark andmark starmark",
        exclude_reference=True,
    )


def _read_pairs(category: str, data_root: Path, expected: Expected) -> Category:
    path = locate(
        data_root,
        PLI_FILE.format(category=category),
        hint="FashionIQ did not publish this list; it comes with the public code of PLI. Copy its file there, "
        "or use the protocol fashioniq/val.",
    )
    lines = [line.split(";") for line in read_lines(path)]
    # A caption may hold a semicolon; the public code reads what follows the last one.
    rows = [(_image_id(line[0]), _image_id(line[1]), line[-1].strip()) for line in lines if len(line) > 2]
    refuse(path, _broken_pairs(lines, [row[:2] for row in rows]))
    gallery = tuple(dict.fromkeys(name for reference, target, _ in rows for name in (reference, target)))
    refuse(path, wrong_counts({QUERIES: len(rows), IMAGES: len(gallery)}, expected))
    captions = [caption for _, _, caption in rows]
    return Category(
        category,
        gallery,
        tuple((reference, target) for reference, target, _ in rows),
        tuple(
            (f"{caption} and {captions[place ^ 1]}".translate(MARKS),)  # its own line first, then its neighbour
            for place, caption in enumerate(captions)
        ),
    )


def _image_id(path: str) -> str:
    """Return the id in ``dress/B0084Y8XIU.jpg``."""
    return path.strip().rpartition("/")[2].partition(".")[0]


def _broken_pairs(lines: Sequence[Sequence[str]], pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    if odd := [number for number, line in enumerate(lines, start=1) if len(line) < 3]:
        yield f"not reference;target;caption in line {some(odd)}"
    elif len(pairs) % 2:
        yield f"its {len(pairs)} lines are not two to a pair"
    elif split := [place for place in range(0, len(pairs), 2) if pairs[place] != pairs[place + 1]]:
        yield f"neighbouring lines are not of one pair at {queries(split)}"
    elif nameless := [number for number, pair in enumerate(pairs, start=1) if not all(pair)]:
        yield f"no image id in line {some(nameless)}"


_ANNOTATIONS = listed(
    f"{GITHUB}/XiaoxiaoGuo/fashion-iq/f71b16c3b09ef03b02c0fed160fa072fb3b8aa16",
    "fashioniq",
    """
    5e5117d45695df9c3ca91fac3e0bc49e6422ae9c8b3793f0ac9b3ab83adb7de9    397427 captions/cap.dress.val.json *
    7b7ca3797b85dddfd83e74cdb4454cb63e3e7c09acef2590155efbacea6d7feb    398072 captions/cap.shirt.val.json *
    b4e09f428e6c255cc4b4ec46e77908305ab83075d82840c960be81af15cdc5eb    391897 captions/cap.toptee.val.json *
    21ff91d53c23859da91bfd49f3acc139b7f3a3dc944fc4e4a80194468cf14bab     68708 image_splits/split.dress.val.json *
    b82effbf7352a6f828b38c45eb32e53d726bd4d6fd81d6290c81eeb2c68e3234    114230 image_splits/split.shirt.val.json *
    ee42b2505275dd7a19b11ddb88c9264aab2d77f4e59b075fb1c7c3095d02f412     96716 image_splits/split.toptee.val.json *
    """,
)


def _total(expected: Mapping[str, Expected], what: str) -> int:
    return sum(counts[what] for counts in expected.values())


BENCHMARK = Benchmark(
    name="fashioniq",
    title="FashionIQ: dresses, shirts and tops, two captions per query",
    licence=LICENCE,
    citation="Wu et al., Fashion IQ: A New Dataset Towards Retrieving Images by Natural Language Feedback, CVPR 2021",
    load=fashioniq_protocol,
    protocols=(
        *(
            ProtocolEntry(
                f"fashioniq/{variant}",
                chosen.title,
                "val",
                _total(EXPECTED, circled.TURNS if variant == circled.VARIANT else QUERIES),
                UNION_IMAGES if chosen.union else SPLIT_IMAGES,
            )
            for variant, chosen in VARIANTS.items()
        ),
        ProtocolEntry("fashioniq/val-pli", PLI_TITLE, "val", _total(PLI_EXPECTED, QUERIES), None),
    ),
    needs="fashioniq/{captions,image_splits}/; for val-pli also the user's fashioniq/captions_pairs/",
    files=DatasetFiles(
        (*_ANNOTATIONS, *relabelled.FASHIONIQ_FILES),
        (
            ImageSet(
                "FashionIQ's product photographs",
                PRODUCTS,
                15_415,
                "the shops' own; the licence of FashionIQ covers the annotations only",
                "fashioniq/images",
                by_hand="The original URLs are listed at https://github.com/hongwang600/fashion-iq-metadata, and many "
                "are dead. Ask the authors of FashionIQ (https://github.com/XiaoxiaoGuo/fashion-iq), or a group "
                "that has the images. Any file names ID.jpg or ID.png in any folders will do.",
            ),
        ),
        by_hand="fashioniq/val-pli also needs PLI's pair lists, fashioniq/captions_pairs/fashion_iq-val-cap-*.txt, "
        "which come with the public code of PLI and may not be handed on here.",
    ),
    columns=tuple(
        f"{label}[{part}]"
        for part in (*(f"category={name}" for name in CATEGORIES), "mean over category")
        for label in ("Recall@10", "Recall@50", *(each.label for each in relabelled.PRECISIONS))
    ),
)

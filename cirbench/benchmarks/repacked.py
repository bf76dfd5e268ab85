"""CIR tasks as collections of embedding benchmarks re-pack them: M-BEIR's and MMEB's CIRR and FashionIQ.

Their numbers are not those of CIRR and FashionIQ, so that they are benchmarks of their own here.

- M-BEIR (Wei et al., "UniIR", ECCV 2024) joins each data set's splits into one pool of candidates, with the reference
  of every query in it. Its queries of CIRR are those of val, joined where image and text are the same. Right is every
  image with the soft label 1, in 37 queries the reference itself, and any of them counts as found. FashionIQ's
  categories are one, with both captions in one text.
- MMEB (Jiang et al., "VLM2Vec", ICLR 2025) takes 1,000 queries of each. A query has a list of candidates, the first of
  which is right, and ranks no others.

Texts come without the instructions that both collections put before them: how to ask is the method's affair.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec

from cirbench.benchmarks.annotation_files import (
    Expected,
    locate,
    not_as_published,
    possible_places,
    queries,
    refuse,
    repeated,
    unsuffixed,
    wrong_counts,
)
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import Benchmark, Collection, DatasetFiles, ImageSet, ProtocolEntry, RemoteFile
from cirbench.errors import UnknownName, excerpt, some
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from cirbench.support.needs import require
from cirbench.support.textfiles import numbered_lines, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

QUERIES, IMAGES = "queries", "images"
MBEIR_EXPECTED: Mapping[str, Expected] = {
    "cirr": {QUERIES: 4170, IMAGES: 21_551},
    "fashioniq": {QUERIES: 6003, IMAGES: 74_381},
}
"""As stated; the numbers of queries also follow from the annotations of CIRR and FashionIQ by the public code."""

MMEB_EXPECTED: Mapping[str, Expected] = {"cirr": {QUERIES: 1000}, "fashioniq": {QUERIES: 1000}}
"""As stated; no file was available to count in."""

MBEIR_CUTOFFS = {"cirr": (5, 1, 10, 50), "fashioniq": (10, 1, 5, 50)}
"""Its tables' own cut-off first."""

MMEB_CUTOFFS = (1, 5, 10)
MBEIR_IMAGES, MMEB_IMAGES = Collection("M-BEIR", ("mbeir",)), Collection("MMEB", ("mmeb",))
TITLES = {
    "mbeir": "M-BEIR's re-pack of {}, one pool for all splits, references kept",
    "mmeb": "MMEB's re-pack of {}, 1,000 queries, each with a list of candidates",
}
LICENCES = {
    "mbeir": "MIT (UniIR's repository); texts and images as CIRR and FashionIQ state",
    "mmeb": "Apache-2.0 (VLM2Vec's repository); texts and images as CIRR and FashionIQ state",
}
_NAMES = {"cirr": "CIRR", "fashioniq": "FashionIQ"}
_MBEIR_QUERIES = "query/test/mbeir_{}_task7_test.jsonl"
_MBEIR_POOL = "cand_pool/local/mbeir_{}_task7_cand_pool.jsonl"
_Path = Annotated[str, msgspec.Meta(min_length=1)]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A query in the form that both have in common.

    Attributes:
        id: Of the query.
        image: The path of the reference.
        text: Without an instruction.
        relevant: The paths of the right images.
    """

    id: str
    image: str
    text: str
    relevant: tuple[str, ...]


class _Candidate(msgspec.Struct, frozen=True):
    did: str
    img_path: _Path


class _Query(msgspec.Struct, frozen=True):
    qid: str
    query_txt: str
    query_img_path: _Path
    pos_cand_list: Annotated[list[str], msgspec.Meta(min_length=1)]


def mbeir_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load one of M-BEIR's tasks and check its counts.

    Args:
        variant: ``"cirr"`` or ``"fashioniq"``.
        data_root: The folder that holds ``mbeir/query/test/mbeir_cirr_task7_test.jsonl`` and so on.

    Raises:
        UnknownName: There is no such task.
        MissingData: A file is absent.
        CorruptFile: A file is not what was published; the message names the queries or the line.
    """
    if variant not in _NAMES:
        raise UnknownName("protocol of mbeir", variant, _NAMES)
    return load_mbeir(variant, data_root, MBEIR_EXPECTED[variant])


def mmeb_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load one of MMEB's tasks and check its counts.

    Args:
        variant: ``"cirr"`` or ``"fashioniq"``.
        data_root: The folder that holds ``mmeb/CIRR/test-00000-of-00001.parquet`` and so on.

    Raises:
        UnknownName: There is no such task.
        MissingData: A file is absent, or what reads Parquet is not installed.
        CorruptFile: A file is not what was published; the message names the queries.
    """
    if variant not in _NAMES:
        raise UnknownName("protocol of mmeb", variant, _NAMES)
    return load_mmeb(variant, data_root, MMEB_EXPECTED[variant])


def load_mbeir(task: str, data_root: Path, expected: Expected) -> EvaluationProtocol:
    """Load files in M-BEIR's format whose counts are ``expected``; see `mbeir_protocol`."""
    path = locate(data_root, f"mbeir/{_MBEIR_QUERIES.format(task)}")
    other = locate(data_root, f"mbeir/{_MBEIR_POOL.format(task)}")
    shown = _lines(other, _Candidate)
    refuse(other, _broken_pool(shown, expected))
    path_of = {each.did: each.img_path for each in shown}
    rows = _lines(path, _Query)
    refuse(path, _broken_queries(rows, path_of, expected))
    asked = [
        _Asked(row.qid, row.query_img_path, row.query_txt, tuple(path_of[did] for did in row.pos_cand_list))
        for row in rows
    ]
    measures = tuple(Measure("Hit_rate", k) for k in MBEIR_CUTOFFS[task])
    return _protocol(f"mbeir/{task}", asked, tuple(path_of.values()), MBEIR_IMAGES, data_root, measures)


def load_mmeb(task: str, data_root: Path, expected: Expected) -> EvaluationProtocol:
    """Load files in MMEB's format whose counts are ``expected``; see `mmeb_protocol`."""
    files = _parquet_files(task, data_root)
    rows = [row for path in files for row in _rows(path)]
    refuse(files[0], wrong_counts({QUERIES: len(rows)}, expected))
    asked = [_Asked(str(place), image, text, shown[:1]) for place, (image, text, shown) in enumerate(rows)]
    pools = tuple(tuple(dict.fromkeys(shown)) for *_, shown in rows)
    protocol = _protocol(
        f"mmeb/{task}",
        asked,
        tuple(dict.fromkeys(image for pool in pools for image in pool)),
        MMEB_IMAGES,
        data_root,
        tuple(Measure("Recall", k) for k in MMEB_CUTOFFS),
    )
    return dataclasses.replace(protocol, pools=pools, pool_of_query=tuple(range(len(pools))))


def _protocol(
    id: str,
    asked: Sequence[_Asked],
    gallery: Sequence[str],
    collection: Collection,
    data_root: Path,
    measures: tuple[Measure, ...],
) -> EvaluationProtocol:
    benchmark, _, task = id.partition("/")
    stems = {path: _stem(path) for path in (*gallery, *(each.image for each in asked))}
    files = ImageFiles(collection, tuple(dict.fromkeys(stems.values())), data_root, f"cirbench data check {benchmark}")
    return EvaluationProtocol(
        id=id,
        version=1,
        title=TITLES[benchmark].format(_NAMES[task]),
        queries=tuple(Query(each.id, Item(each.image, files[stems[each.image]]), (each.text,)) for each in asked),
        gallery=Gallery(tuple(gallery), [files[stems[path]] for path in gallery]),
        labels=Labels(tuple(each.relevant for each in asked)),
        measures=measures,
        clusters=tuple(each.image for each in asked),
        captions="the text as re-packed, without an instruction",
        licence=LICENCES[benchmark],
    )


def _stem(path: str) -> str:
    """What a file is found by: its path, below the collection's folder of images, without suffix."""
    return unsuffixed(path.removeprefix("mbeir_images/"))


def _lines(path: Path, type: type[T]) -> list[T]:
    """Decode a file with one JSON object in a line."""
    found = []
    for number, line in numbered_lines(read_text(path)):
        try:
            found.append(msgspec.json.decode(line, type=type))
        except (msgspec.DecodeError, RecursionError) as error:
            raise not_as_published(path, f"{excerpt(error)} in line {number}") from error
    return found


def _broken_pool(shown: Sequence[_Candidate], expected: Expected) -> Iterator[str]:
    yield from wrong_counts({IMAGES: len(shown)}, expected)
    yield from repeated("ids", (each.did for each in shown))
    yield from repeated("images", (each.img_path for each in shown))


def _broken_queries(rows: Sequence[_Query], pool: Mapping[str, str], expected: Expected) -> Iterator[str]:
    yield from wrong_counts({QUERIES: len(rows)}, expected)
    yield from repeated("queries", (row.qid for row in rows))
    if lost := [row.qid for row in rows if not all(did in pool for did in row.pos_cand_list)]:
        yield f"a ground truth is not in the pool for {queries(lost)}"


def _parquet_files(task: str, data_root: Path) -> list[Path]:
    """Find the parts of a task's table in their order, whatever their number is."""
    folder = f"mmeb/{_NAMES[task]}"
    names = [path.name for place in possible_places(data_root, folder) for path in sorted(place.glob("test*.parquet"))]
    return [locate(data_root, f"{folder}/{name}") for name in names or ["test-00000-of-00001.parquet"]]


def _rows(path: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """Read the image, the text and the candidates of each query."""
    parquet = require("pyarrow.parquet", extra="parquet", purpose="A Parquet file")
    arrow = require("pyarrow", extra="parquet", purpose="A Parquet file")
    try:
        table = parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise not_as_published(path, excerpt(error)) from error
    lacking = [
        name for name in ("qry_inst", "qry_text", "qry_img_path", "tgt_img_path") if name not in table.schema.names
    ]
    refuse(path, [f"it has no column {some(lacking)}; MMEB_Test_Instruct has them"] if lacking else [])
    try:
        return msgspec.convert(
            [*zip(*(table[name].to_pylist() for name in ("qry_img_path", "qry_text", "tgt_img_path")), strict=True)],
            list[tuple[_Path, str, Annotated[tuple[_Path, ...], msgspec.Meta(min_length=1)]]],
        )
    except msgspec.ValidationError as error:
        raise not_as_published(path, excerpt(error)) from error


_HUB = "https://huggingface.co/datasets/TIGER-Lab/M-BEIR"


def _benchmark(
    name: str,
    title: str,
    citation: str,
    load: Callable[[str, Path], EvaluationProtocol],
    expected: Mapping[str, Expected],
    needs: str,
    files: DatasetFiles,
    columns: tuple[str, ...],
) -> Benchmark:
    """Put together what is the same for both."""
    return Benchmark(
        name=name,
        title=title,
        licence=LICENCES[name],
        citation=citation,
        load=load,
        protocols=tuple(
            ProtocolEntry(
                f"{name}/{task}",
                TITLES[name].format(_NAMES[task]),
                "val",
                expected[task][QUERIES],
                expected[task].get(IMAGES),
            )
            for task in _NAMES
        ),
        needs=needs,
        files=files,
        columns=columns,
    )


MBEIR = _benchmark(
    "mbeir",
    "M-BEIR: CIRR and FashionIQ re-packed, one pool for all, references in it",
    "Wei et al., UniIR: Training and Benchmarking Universal Multimodal Information Retrievers, ECCV 2024",
    mbeir_protocol,
    MBEIR_EXPECTED,
    "mbeir/query/test/mbeir_{cirr,fashioniq}_task7_test.jsonl, mbeir/cand_pool/local/mbeir_*_task7_cand_pool.jsonl",
    DatasetFiles(
        tuple(
            RemoteFile(f"{_HUB}/resolve/main/{file}", f"mbeir/{file}", None, None, (task,))
            for task in _NAMES
            for file in (_MBEIR_QUERIES.format(task), _MBEIR_POOL.format(task))
        ),
        (
            ImageSet(
                "M-BEIR's images, the shorter side of which is 256 pixels",
                MBEIR_IMAGES,
                None,
                "those of CIRR and FashionIQ",
                "mbeir/mbeir_images",
                by_hand=f"Fetch the parts of the archive from {_HUB}, join and unpack them; cirr_images and "
                "fashioniq_images are enough.",
            ),
        ),
    ),
    tuple(f"Hit_rate@{k}" for k in (1, 5, 10, 50)),
)
MMEB = _benchmark(
    "mmeb",
    "MMEB: CIRR and FashionIQ re-packed, 1,000 queries of each, with a list of candidates for each",
    "Jiang et al., VLM2Vec: Training Vision-Language Models for Massive Multimodal Embedding Tasks, ICLR 2025",
    mmeb_protocol,
    MMEB_EXPECTED,
    "mmeb/{CIRR,FashionIQ}/test-00000-of-00001.parquet",
    DatasetFiles(
        images=(
            ImageSet(
                "MMEB's images",
                MMEB_IMAGES,
                None,
                "those of CIRR and FashionIQ",
                "mmeb",
                by_hand="Fetch the images of its image tasks from https://huggingface.co/datasets/TIGER-Lab/MMEB-V2: "
                "those of CIRR and FashionIQ.",
            ),
        ),
        by_hand="hf download ziyjiang/MMEB_Test_Instruct --repo-type dataset --include 'CIRR/*' 'FashionIQ/*' "
        "--local-dir DATA/mmeb, where DATA is the data root.",
    ),
    tuple(f"Recall@{k}" for k in MMEB_CUTOFFS),
)

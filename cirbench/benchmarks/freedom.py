"""Domain conversion as FREEDOM measures it: an image and the word of another domain ask for its class in that domain.

Efthymiadis et al., "Composed Image Retrieval for Training-Free Domain Conversion", WACV 2025. Each image of a domain is
asked once with the bare word of every other domain ("sculpture"), against one gallery of all domains. Relevant is every
image of the class in the asked domain. The number is the trapezoidal average precision of the whole ranking, averaged
over the queries of each source domain, and then over source domains.

A query without ground truths counts as 0, as in the public evaluation: of ImageNet-R's 67,932 queries 14,721 have none.
So the metric is `mAP_trapezoidal_all`, which never shares a column with `mAP_trapezoidal`, where such a query takes no
part.

The sets are MiniDomainNet, NICO++ and LTLL, here, and five domains of ImageNet-R, in `cirbench.benchmarks.imagenet_r`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING

from cirbench.benchmarks.annotation_files import Expected, locate, refuse, repeated, unsuffixed, wrong_counts
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import (
    GITHUB,
    Archive,
    Benchmark,
    Collection,
    DatasetFiles,
    ImageSet,
    ProtocolEntry,
    listed,
)
from cirbench.errors import UnknownName, some
from cirbench.metrics.table import NO_CUTOFF, Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from cirbench.support.textfiles import numbered_lines, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

VARIANT = "freedom"
METRIC = "mAP_trapezoidal_all"
LICENCE = "MIT"
CITATION = "Efthymiadis et al., Composed Image Retrieval for Training-Free Domain Conversion, WACV 2025"
IMAGES, CLASSES = "images", "classes"


def of_domain(word: str) -> str:
    """What the images of a domain are counted as."""
    return f"images of {word}"


def columns(words: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of the numbers that the paper prints: each source domain, and their mean."""
    return (*(f"{METRIC}[domain={word}]" for word in words), f"{METRIC}[mean over domain]")


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """An image of one class in one domain.

    Attributes:
        item: The image.
        domain: The word that asks for its domain.
        category: Its class.
    """

    item: Item
    domain: str
    category: str


def conversion_protocol(
    id: str, title: str, words: Sequence[str], asked: Sequence[Picture], shown: Sequence[Picture], licence: str
) -> EvaluationProtocol:
    """Ask for each image's class in every other domain.

    Args:
        id: Of the protocol.
        title: One line for people.
        words: The words of the domains.
        asked: The images that queries start from.
        shown: The gallery.
        licence: Of the annotations.
    """
    of: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for each in shown:
        of[each.domain, each.category].append(each.item.id)
    relevant = {key: tuple(names) for key, names in of.items()}
    pairs = [(source, target) for source in words for target in words if source != target]
    start = {word: [each for each in asked if each.domain == word] for word in words}
    rows = [(each, target) for source, target in pairs for each in start[source]]
    captions = {word: (word,) for word in words}
    labels = {pair: (f"{pair[0]} to {pair[1]}",) for pair in pairs}
    return EvaluationProtocol(
        id=id,
        version=1,
        title=title,
        queries=tuple(Query(f"{target}/{each.item.id}", each.item, captions[target]) for each, target in rows),
        gallery=Gallery(tuple(each.item.id for each in shown), [each.item.image for each in shown]),
        labels=Labels(tuple(relevant.get((target, each.category), ()) for each, target in rows)),
        measures=(Measure(METRIC, NO_CUTOFF, by="domain", macro=True, labels=tuple(words)),),
        slices={
            "domain": tuple(captions[each.domain] for each, _ in rows),
            "target": tuple(captions[target] for _, target in rows),
            "pair": tuple(labels[each.domain, target] for each, target in rows),
        },
        clusters=tuple(each.item.id for each, _ in rows),
        captions="the word of the asked domain, alone",
        licence=licence,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Lists:
    """One of the sets.

    Attributes:
        name: As users type it.
        title: Of its protocol.
        collection: Where its images are looked for.
        words: What asks for each domain, by the name of the domain in the lists.
        asked: The list of the images that queries start from, below each of the folders.
        shown: The list of the gallery; the same one where all images are both.
        folders: Where the lists may be.
        expected: Per list, the counts of the published file.
    """

    name: str
    title: str
    collection: Collection
    words: Mapping[str, str]
    asked: str
    shown: str
    folders: tuple[str, ...]
    expected: Mapping[str, Expected]

    def place(self, file: str, data_root: Path) -> Path:
        return locate(data_root, *(f"{folder}/{file}" for folder in self.folders))


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """A line of a list: the path of an image, its domain and its class."""

    image: str
    domain: str
    category: str

    @property
    def name(self) -> str:
        """What the file is found by: the path below the folder of the set, without suffix."""
        return unsuffixed(self.image.partition("/")[2])

    @property
    def in_place(self) -> bool:
        """Whether the path says the same, as it does in every published list."""
        return self.image.split("/")[1:2] == [self.domain] and self.image.split("/")[-2:-1] == [self.category]


def load(lists: _Lists, data_root: Path, expected: Mapping[str, Expected]) -> EvaluationProtocol:
    """Load lists in FREEDOM's format whose counts are ``expected``; see `freedom_protocol`."""
    asked = _read(lists, lists.asked, data_root, expected)
    shown = asked
    if lists.shown != lists.asked:
        shown = _read(lists, lists.shown, data_root, expected)
        both = sorted({row.image for row in asked} & {row.image for row in shown})
        refuse(
            lists.place(lists.shown, data_root),
            [f"images of queries are in the gallery too: {some(both)}"] * bool(both),
        )
    names = tuple(dict.fromkeys(row.name for row in (*shown, *asked)))
    files = ImageFiles(lists.collection, names, data_root, f"cirbench data check {lists.name}")
    pictures = {
        row.image: Picture(Item(row.image, files[row.name]), lists.words[row.domain], row.category)
        for row in (*shown, *asked)
    }
    return conversion_protocol(
        f"{lists.name}/{VARIANT}",
        lists.title,
        tuple(lists.words.values()),
        [pictures[row.image] for row in asked],
        [pictures[row.image] for row in shown],
        LICENCE,
    )


def freedom_protocol(lists: _Lists, variant: str, data_root: Path) -> EvaluationProtocol:
    """Load the protocol of a set and check its counts.

    Args:
        lists: The set.
        variant: ``"freedom"``.
        data_root: The folder that holds the lists, for instance ``ltll/full_files.csv``.

    Raises:
        UnknownName: There is no such variant.
        MissingData: A list is absent.
        CorruptFile: A list is not what was published; the message names the file and the lines.
    """
    if variant != VARIANT:
        raise UnknownName(f"protocol of {lists.name}", variant, (VARIANT,))
    return load(lists, data_root, lists.expected)


def _read(lists: _Lists, file: str, data_root: Path, expected: Mapping[str, Expected]) -> list[_Row]:
    path = lists.place(file, data_root)
    lines = [(number, line.rsplit(" ", 2)) for number, line in numbered_lines(read_text(path))]
    if odd := [number for number, fields in lines if len(fields) != len(dataclasses.fields(_Row))]:
        refuse(path, [f"not a path, a domain and a class in line {some(odd)}"])
    rows = [(number, _Row(*fields)) for number, fields in lines]
    refuse(path, _broken(rows, lists.words, expected.get(file, {})))
    return [row for _, row in rows]


def _broken(rows: Sequence[tuple[int, _Row]], words: Mapping[str, str], expected: Expected) -> Iterator[str]:
    if odd := [number for number, row in rows if row.domain not in words]:
        yield f"the domain is none of {', '.join(words)} in line {some(odd)}"
        return
    if odd := [number for number, row in rows if not row.in_place]:
        yield f"the path is of another domain or class in line {some(odd)}"
    domains = Counter(words[row.domain] for _, row in rows)
    found = {
        IMAGES: len(rows),
        CLASSES: len({row.category for _, row in rows}),
        **{of_domain(word): domains[word] for word in words.values()},
    }
    yield from wrong_counts(found, expected)
    yield from repeated("images", (row.image for _, row in rows))


def _counts(classes: int, **images: int) -> Expected:
    return {IMAGES: sum(images.values()), CLASSES: classes, **{of_domain(word): n for word, n in images.items()}}


_QUERIES, _DATABASE, _FULL = "query_files.csv", "database_files.csv", "full_files.csv"
MINIDOMAINNET_LISTS = _Lists(
    "minidomainnet",
    "FREEDOM's domain conversion on MiniDomainNet, every ordered pair of four domains",
    Collection("MiniDomainNet", ("minidomainnet", "minidn", "domainnet")),
    {"clipart": "clipart", "painting": "painting", "real": "photo", "sketch": "sketch"},
    _QUERIES,
    _DATABASE,
    ("minidomainnet", "minidn"),
    {_QUERIES: _counts(126, clipart=630, painting=630, photo=630, sketch=630)},  # the gallery's list was not available
)
NICO_LISTS = _Lists(
    "nico",
    "FREEDOM's domain conversion on NICO++, every ordered pair of six contexts",
    Collection("NICO++", ("nico", "NICO_DG")),
    {
        "autumn": "autumn",
        "dim": "dimlight",
        "grass": "grass",
        "outdoor": "outdoor",
        "rock": "rock",
        "water": "water",
    },
    _QUERIES,
    _DATABASE,
    ("nico",),
    {
        _QUERIES: _counts(60, autumn=883, dimlight=1221, grass=2006, outdoor=1637, rock=1079, water=1897),
        _DATABASE: _counts(60, autumn=8211, dimlight=11268, grass=18321, outdoor=15044, rock=9985, water=17305),
    },
)
LTLL_LISTS = _Lists(
    "ltll",
    "FREEDOM's domain conversion on LTLL, a place of today in archives and the reverse",
    Collection("LTLL", ("ltll",)),
    {"New": "Today", "Old": "Archive"},
    _FULL,
    _FULL,
    ("ltll",),
    {_FULL: _counts(25, Today=279, Archive=209)},
)

_LISTS_URL = f"{GITHUB}/NikosEfth/freedom/5df4bca6f53b365ee2bc06da7b070bcdfdf2b516/data"


def _benchmark(lists: _Lists, title: str, table: str, images: ImageSet) -> Benchmark:
    """Put together what is the same for each set; ``table`` as in `listed`, at the address of the lists."""
    asked, shown = (lists.expected.get(file, {}).get(IMAGES) for file in (lists.asked, lists.shown))
    assert asked is not None
    return Benchmark(
        name=lists.name,
        title=title,
        licence=LICENCE,
        citation=CITATION,
        load=partial(freedom_protocol, lists),
        protocols=(
            ProtocolEntry(f"{lists.name}/{VARIANT}", lists.title, "val", asked * (len(lists.words) - 1), shown),
        ),
        needs=", ".join(dict.fromkeys(f"{lists.name}/{file}" for file in (lists.asked, lists.shown))),
        files=DatasetFiles(listed(f"{_LISTS_URL}/{lists.folders[-1]}", lists.name, table), (images,)),
        columns=columns(tuple(lists.words.values())),
    )


MINIDOMAINNET = _benchmark(
    MINIDOMAINNET_LISTS,
    "MiniDomainNet domain conversion: an object as clipart, painting, photo or sketch",
    """
    4c6ee96b541d4f5ef6855019f206f746893462f7e4b5d9aa2500cabc5a8dc496    149889 query_files.csv *
    ?                                                                        ? database_files.csv *
    """,
    ImageSet(
        "DomainNet, four of its domains",
        MINIDOMAINNET_LISTS.collection,
        None,
        "DomainNet's fair use notice; the pictures are their owners'",
        "minidomainnet",
        tuple(
            Archive(
                f"https://csr.bu.edu/ftp/visda/2019/multi-source/{part}.zip",
                f"minidomainnet/{part.rpartition('/')[2]}.zip",
                None,
                None,
                into="minidomainnet",
                yields=f"minidomainnet/{part.rpartition('/')[2]}",
            )
            for part in ("groundtruth/clipart", "groundtruth/painting", "real", "sketch")
        ),
    ),
)
NICO = _benchmark(
    NICO_LISTS,
    "NICO++ domain conversion: an animal or thing in another context",
    """
    95301abc79823077ae96a01b5ead22c536eed95ff97409ba8ceb5d505b9a4191    420171 query_files.csv *
    76591323d4b5b638ac25a81e4542d6d60d4e5b455891da42a86998a525b14905   3860242 database_files.csv *
    """,
    ImageSet(
        "NICO++, its domain generalisation benchmark",
        NICO_LISTS.collection,
        88_857,
        "NICO++'s terms; the pictures are their owners'",
        "nico",
        by_hand="Fetch DG_Benchmark.zip from the Dropbox folder that https://github.com/NikosEfth/freedom links, and "
        "unpack it, and NICO_DG_Benchmark.zip in it. Folders may keep their blanks.",
    ),
)
LTLL = _benchmark(
    LTLL_LISTS,
    "LTLL domain conversion: a photograph of a place today, and in archives",
    "7deb04d632feb03412e30b9214ebfb088dacc08e7a3a2a2b4cdbdd69984a7f03     28323 full_files.csv *",
    ImageSet(
        "LTLL",
        LTLL_LISTS.collection,
        488,
        "not stated; the pictures are their owners'",
        "ltll",
        (
            Archive(
                "https://users.cecs.anu.edu.au/~basura/beeldcanon/LTLL.zip",
                "ltll/LTLL.zip",
                None,
                None,
                into="ltll",
                yields="ltll/New",
            ),
        ),
    ),
)

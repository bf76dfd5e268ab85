"""Domain conversion on ImageNet-R: given a photograph, find its class as a cartoon, origami, toy or sculpture.

Saito et al., "Pic2Word: Mapping Pictures to Words for Zero-Shot Composed Image Retrieval", CVPR 2023. Each of 10,000
photographs is asked once per domain against one gallery, which holds the photographs themselves too (never relevant,
never removed). Relevant is every image of the class in the asked domain; many queries have none and count as 0.

The literature reports two numbers on the same files, so there are two protocols: ``domain-conversion`` is the share of
the relevant images among the first K (Pic2Word's code), ``domain-conversion-hit`` whether any of them is there
(MagicLens' code). Neither can reach 100 %: `cirbench.metrics.measure`. ``freedom`` is another task on the same gallery:
see `cirbench.benchmarks.freedom`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from cirbench.benchmarks.annotation_files import Expected, locate, read_lines, refuse, repeated, wrong_counts
from cirbench.benchmarks.freedom import VARIANT as FREEDOM
from cirbench.benchmarks.freedom import Picture, columns, conversion_protocol
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
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DOMAINS = ("cartoon", "origami", "toy", "sculpture")
"""The requested domains; a label is 1000 times the place in this list, plus the class."""

PHOTOGRAPHS = 6
"""The place of the photographs in labels."""

CUTOFFS = (10, 50)
LICENCE = "Apache-2.0"
IMAGENET = Collection("imagenet-r", ("imagenet-r", "imgnet", "imagenet", "imagenet-val"))
METRICS = {"domain-conversion": "Recall_fractional", "domain-conversion-hit": "Hit_rate"}
TITLES = {
    "domain-conversion": "Domain conversion, share of the relevant images found",
    "domain-conversion-hit": "Domain conversion, any relevant image found",
    FREEDOM: "FREEDOM's domain conversion on ImageNet-R, every ordered pair of five domains",
}
FREEDOM_WORDS = {0: "cartoon", 1: "origami", PHOTOGRAPHS: "photo", 3: "sculpture", 2: "toy"}
"""What asks for each domain in FREEDOM's evaluation, by its place in labels, in the order of its tables."""

_FOLDERS = ("imagenet-r", "imagenet-r/data", "imgnet")


QUERIES, CLASSES, TARGETS = "queries in the list beside it", "classes among the queries", "targets"


def of_domain(place: int) -> str:
    """What the gallery images of a domain are counted as."""
    return f"images of domain {place}"


EXPECTED: Expected = {
    QUERIES: 10_000,
    CLASSES: 200,
    TARGETS: 16_983,
    **{of_domain(place): count for place, count in ((0, 3726), (1, 550), (2, 1511), (3, 1196), (PHOTOGRAPHS, 10_000))},
}
"""Counted in the published files."""


def imagenet_r_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load one of the protocols of domain conversion and check every count.

    Args:
        variant: ``"domain-conversion"``, ``"domain-conversion-hit"`` or ``"freedom"``.
        data_root: The folder that holds ``imagenet-r/imgnet_targets.txt`` and, but for ``"freedom"``,
            ``imagenet-r/imgnet_real_query.txt``.

    Raises:
        UnknownName: There is no such protocol.
        MissingData: A list is absent.
        CorruptFile: A list is not what was published; the message names the file and what differs.
    """
    if variant not in TITLES:
        raise UnknownName("protocol of imagenet-r", variant, TITLES)
    return load(variant, data_root, EXPECTED)


def load(variant: str, data_root: Path, expected: Expected) -> EvaluationProtocol:
    """Load lists in Pic2Word's format whose counts are ``expected``; see `imagenet_r_protocol`."""
    targets = _read("imgnet_targets.txt", data_root)
    photographs = None if variant == FREEDOM else _read("imgnet_real_query.txt", data_root)
    path = locate(data_root, *(f"{folder}/imgnet_targets.txt" for folder in _FOLDERS))
    refuse(path, _broken(photographs, targets, expected))
    files = [_file_name(name) for name, _ in targets]
    images = ImageFiles(IMAGENET, tuple(files), data_root, "cirbench data check imagenet-r")
    items = {name: Item(name, images[file]) for (name, _), file in zip(targets, files, strict=True)}
    if photographs is None:
        shown = [Picture(items[name], FREEDOM_WORDS[label // 1000], str(label % 1000)) for name, label in targets]
        return conversion_protocol(
            f"imagenet-r/{variant}", TITLES[variant], tuple(FREEDOM_WORDS.values()), shown, shown, LICENCE
        )
    of_class: defaultdict[int, list[str]] = defaultdict(list)
    for name, label in targets:
        of_class[label].append(name)
    relevant = {label: tuple(names) for label, names in of_class.items()}
    asked = [(domain, name) for domain in DOMAINS for name, _ in photographs]
    prompts = {domain: (f"a {domain} of",) for domain in DOMAINS}
    return EvaluationProtocol(
        id=f"imagenet-r/{variant}",
        version=1,
        title=TITLES[variant],
        queries=tuple(
            Query(f"{domain}/{_stem(name)}", items[name], prompts[domain], category=domain) for domain, name in asked
        ),
        gallery=Gallery(tuple(items), [item.image for item in items.values()]),
        labels=Labels(
            tuple(relevant.get(1000 * place + label, ()) for place in range(len(DOMAINS)) for _, label in photographs)
        ),
        measures=tuple(Measure(METRICS[variant], k, by="domain", macro=True, labels=DOMAINS) for k in CUTOFFS),
        slices={"domain": tuple((domain,) for domain, _ in asked)},
        clusters=tuple(name for _, name in asked),
        captions='"a {domain} of", Pic2Word\'s prompt without the pseudo-word; the domain is the category of the query',
        licence=LICENCE,
    )


def _read(name: str, data_root: Path) -> list[tuple[str, int]]:
    path = locate(data_root, *(f"{folder}/{name}" for folder in _FOLDERS))
    rows = [line.split() for line in read_lines(path)]
    if odd := [place for place, row in enumerate(rows, start=1) if len(row) != 2 or not row[1].isdecimal()]:
        refuse(path, [f"not a path and a number in line {some(odd)}"])
    return [(image, int(label)) for image, label in rows]


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _file_name(path: str) -> str:
    """What identifies the file: photographs by their name, ImageNet-R's images by folder and name."""
    folder, _, file = path.rpartition("/")
    stem = file.rpartition(".")[0]
    return stem if stem.startswith("ILSVRC2012_val_") else f"{folder.rpartition('/')[2]}/{stem}"


def _broken(
    photographs: Sequence[tuple[str, int]] | None, targets: Sequence[tuple[str, int]], expected: Expected
) -> Iterator[str]:
    domains = Counter(label // 1000 for _, label in targets)
    if odd := sorted(domains.keys() - FREEDOM_WORDS.keys()):
        yield f"it holds images of domain {some(odd)}, which is none"
    yield from wrong_counts(
        {TARGETS: len(targets), **{of_domain(place): domains[place] for place in sorted(FREEDOM_WORDS)}}, expected
    )
    yield from repeated("images", (name for name, _ in targets))
    if photographs is None:
        return
    classes = len({label for _, label in photographs})
    yield from wrong_counts({QUERIES: len(photographs), CLASSES: classes}, expected)
    real = {(name, label % 1000) for name, label in targets if label // 1000 == PHOTOGRAPHS}
    if odd_names := sorted({name for name, _ in real ^ set(photographs)}):
        yield f"the photographs of the gallery and the queries differ in {some(odd_names)}"


_ANNOTATIONS = listed(
    f"{GITHUB}/google-research/composed_image_retrieval/8c053297c2fae9cd17ddcded48445a4f47208dbd/data/imgnet",
    "imagenet-r",
    """
    cd19c2d76f7fee0c47afba6dfc182c3fd5dbf800c0a80149feca6e0547936d1e    558850 imgnet_real_query.txt domain-conversion*
    4cc6b22d493b783f2f7fce356276096c0d5ec38be95bd3a3349c8458b8a4a311    900843 imgnet_targets.txt *
    """,
)
_PICTURES = Archive(
    "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
    "imagenet-r/imagenet-r.tar",
    2_191_079_936,
    "18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
    into="imagenet-r",
    yields="imagenet-r/imagenet-r",
)
BENCHMARK = Benchmark(
    name="imagenet-r",
    title="ImageNet-R domain conversion: a photograph's class as a cartoon, origami, toy or sculpture",
    licence=LICENCE,
    citation="Saito et al., Pic2Word: Mapping Pictures to Words for Zero-Shot Composed Image Retrieval, CVPR 2023",
    load=imagenet_r_protocol,
    protocols=tuple(
        ProtocolEntry(
            f"imagenet-r/{variant}",
            title,
            "val",
            (len(FREEDOM_WORDS) - 1) * EXPECTED[TARGETS] if variant == FREEDOM else len(DOMAINS) * EXPECTED[QUERIES],
            EXPECTED[TARGETS],
        )
        for variant, title in TITLES.items()
    ),
    needs="imagenet-r/imgnet_real_query.txt, imagenet-r/imgnet_targets.txt",
    files=DatasetFiles(
        _ANNOTATIONS,
        (
            ImageSet(
                "ImageNet-R",
                IMAGENET,
                6983,
                "MIT (the collection); the pictures are their owners'",
                "imagenet-r/imagenet-r",
                (_PICTURES,),
                names="n*",
            ),
            ImageSet(
                "ILSVRC 2012 validation",
                IMAGENET,
                10_000,
                "the terms of access of ImageNet",
                "imagenet-r/real",
                by_hand="Register at https://image-net.org and fetch ILSVRC2012_img_val.tar; unpack it in any folders.",
                names="*ILSVRC2012_val_*",
            ),
        ),
    ),
    columns=(
        *(
            f"{metric}@{k}[{part}]"
            for metric in METRICS.values()
            for part in (*(f"domain={name}" for name in DOMAINS), "mean over domain")
            for k in CUTOFFS
        ),
        *columns(tuple(FREEDOM_WORDS.values())),
    ),
)

"""The protocols ``scenes/val`` and ``scenes/tiny``."""

from __future__ import annotations

import dataclasses
import functools

from cirbench.datasets.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from cirbench.datasets.scenes.benchmark import Benchmark, make_benchmark
from cirbench.datasets.scenes.image import SceneImage
from cirbench.errors import UnknownName
from cirbench.metrics.table import Measure

VERSION = 1
"""Raised whenever an annotation or a pixel changes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """What fixes a split.

    Attributes:
        title: One line for people.
        families: How many references there are; each has two queries.
        gallery_size: How many images are ranked.
        pixels: Sha256 over the pixels of the whole gallery in order, as every machine must render them.
    """

    title: str
    families: int
    gallery_size: int
    pixels: str


SPLITS = {
    "val": Split(
        "Scenes, validation: complete ground truth",
        500,
        10_000,
        "9129ca41b56c4a5e870d5f66bf51509ff7d9546a93dc273510ac580e42b54d89",
    ),
    "tiny": Split(
        "Scenes, a small part that runs in seconds",
        30,
        600,
        "72990899cbb8145c21704b663dc4307c9eb7fec2ead41e16132a03ebaaa41bb0",
    ),
}

MEASURES = (
    *(Measure("mAP", k) for k in (5, 10, 25, 50)),
    *(Measure("Recall", k) for k in (1, 5, 10, 50)),
    *(Measure("Recall_subset", k) for k in (1, 2, 3)),
    Measure("mAP", 10, by="aspect"),
)


@functools.cache
def scenes_benchmark(split: str) -> Benchmark:
    """Build the annotations of a split.

    Raises:
        UnknownName: There is no such split.
    """
    if split not in SPLITS:
        raise UnknownName("split of scenes", split, SPLITS)
    size = SPLITS[split]
    return make_benchmark(split, families=size.families, gallery_size=size.gallery_size)


@functools.cache
def scenes_protocol(split: str) -> EvaluationProtocol:
    """Build the protocol of a split, ``"val"`` or ``"tiny"``.

    Raises:
        UnknownName: There is no such split.
    """
    benchmark = scenes_benchmark(split)
    images = [SceneImage(scene) for scene in benchmark.gallery]
    ids = tuple(f"{place:05d}" for place in range(len(images)))
    return EvaluationProtocol(
        id=f"scenes/{split}",
        version=VERSION,
        title=SPLITS[split].title,
        queries=tuple(
            Query(
                id=str(number),
                reference=Item(ids[query.reference], images[query.reference]),
                captions=(query.blueprint.caption,),
                shared_concept=query.blueprint.shared_concept,
            )
            for number, query in enumerate(benchmark.queries)
        ),
        gallery=Gallery(ids, images),
        labels=Labels(tuple(tuple(ids[place] for place in query.relevant) for query in benchmark.queries)),
        measures=MEASURES,
        exclude_reference=True,
        groups=tuple(tuple(ids[place] for place in query.group) for query in benchmark.queries),
        slices={"aspect": tuple(query.blueprint.aspects for query in benchmark.queries)},
        clusters=tuple(str(query.family) for query in benchmark.queries),
        captions="as generated",
        licence="MIT",
        data_digests={"annotations": benchmark.digest, "pixels": SPLITS[split].pixels},
    )

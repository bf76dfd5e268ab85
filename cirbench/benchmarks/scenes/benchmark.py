"""The benchmark as data: its gallery, its queries with every relevant scene, its protocols, and training data.

Relevance is a predicate, evaluated on every gallery scene: the facts of the shared concept and those of the relative
caption. An index by the shapes and colours in a scene spares most of the pairs; the tests do without it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

from cirbench.benchmarks import interface
from cirbench.benchmarks.scenes.language import caption, sentence
from cirbench.benchmarks.scenes.queries import (
    QUERIES_PER_FAMILY,
    Blueprint,
    Family,
    evaluation_scene,
    make_family,
)
from cirbench.benchmarks.scenes.world import Count, Dice, random_scene
from cirbench.errors import UnknownName
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, ImageTextPair, Item, Labels, Query, Triplet
from cirbench.support.files import digest

if TYPE_CHECKING:
    from PIL import Image

    from cirbench.benchmarks.scenes.world import Scene

GROUP = 6
"""How many similar images a query's group has, the reference and the target among them (CIRR)."""

_THINGS = ((2, 3), (3, 7))


@dataclasses.dataclass(frozen=True, slots=True)
class SceneImage:
    """An image that is rendered when it is opened."""

    scene: Scene

    @property
    def content(self) -> str:
        """Sha256 of the scene's description and of the renderer's version."""
        from cirbench.benchmarks.scenes.draw import RENDERER, SIZE

        return hashlib.sha256(f"scenes renderer {RENDERER} at {SIZE}: {self.scene.digest}".encode()).hexdigest()

    def open(self) -> Image.Image:
        """Render the scene, 64 x 64 RGB."""
        from PIL import Image

        from cirbench.benchmarks.scenes.draw import render

        return Image.fromarray(render(self.scene))

    def __str__(self) -> str:
        return f"scene {self.scene.digest[:12]} ({self.scene.structure})"


@dataclasses.dataclass(frozen=True, slots=True)
class ScenesQuery:
    """A query, its images given as positions in the gallery.

    Attributes:
        blueprint: The caption, its aspects, and the facts that decide what is relevant.
        family: The number of the family; queries of one family share a reference.
        reference: The image to start from.
        relevant: Every image that satisfies the facts, the target first and the others in gallery order.
        group: Six similar images: the reference, the target, and four that are not relevant.
    """

    blueprint: Blueprint
    family: int
    reference: int
    relevant: tuple[int, ...]
    group: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A gallery of distinct scenes and the queries on it."""

    gallery: tuple[Scene, ...]
    queries: tuple[ScenesQuery, ...]

    @property
    def digest(self) -> str:
        """Sha256 over all annotations: scenes, captions, aspects, relevance and groups."""
        queries = [
            [
                q.blueprint.caption,
                q.blueprint.shared_concept,
                q.blueprint.aspects,
                q.family,
                q.reference,
                q.relevant,
                q.group,
            ]
            for q in self.queries
        ]
        return digest([[scene.description for scene in self.gallery], queries])


def make_benchmark(seed: str, *, families: int, gallery_size: int) -> Benchmark:
    """Draw families, fill the gallery up with unrelated scenes, and find every relevant scene of every query."""
    dice = Dice("scenes", seed)
    made = [make_family(Dice("scenes", seed, "family", number)) for number in range(families)]
    scenes = {scene.digest: scene for family in made for scene in family.scenes}
    while len(scenes) < gallery_size:
        scene = evaluation_scene(dice, things=dice.weighted(_THINGS))
        scenes[scene.digest] = scene
    gallery = tuple(dice.shuffled(list(scenes.values())))
    position = {scene.digest: place for place, scene in enumerate(gallery)}
    index = _Index(gallery)
    queries = [
        _query(number, family, blueprint, index, position, dice)
        for number, family in enumerate(made)
        for blueprint in family.blueprints
    ]
    return Benchmark(gallery, tuple(queries))


def _query(
    number: int, family: Family, blueprint: Blueprint, index: _Index, position: dict[str, int], dice: Dice
) -> ScenesQuery:
    reference, target = position[family.reference.digest], position[blueprint.planted[0].digest]
    relevant = index.relevant(blueprint)
    near = [position[scene.digest] for scene in dice.shuffled(family.scenes)]
    others = list(dict.fromkeys(place for place in near if place != reference and place not in relevant))
    group = dice.shuffled([reference, target, *others[: GROUP - 2]])
    rest = (place for place in relevant if place != target)
    return ScenesQuery(blueprint, number, reference, (target, *rest), tuple(group))


class _Index:
    """Which scenes hold a kind of thing, by shape and by shape and colour."""

    def __init__(self, gallery: Sequence[Scene]) -> None:
        self._gallery = gallery
        self._places: dict[tuple[str | None, str | None], set[int]] = {}
        for place, scene in enumerate(gallery):
            for thing in scene.things:
                for colour in (None, thing.colour):
                    self._places.setdefault((thing.shape, colour), set()).add(place)

    def relevant(self, blueprint: Blueprint) -> list[int]:
        """Find every scene that a query accepts, in gallery order."""
        kinds = [fact.kind for fact in blueprint.concept if isinstance(fact, Count)]
        candidates = set.intersection(*(self._places[kind.shape, kind.colour] for kind in kinds))
        return [place for place in sorted(candidates) if blueprint.accepts(self._gallery[place])]


LICENCE = "MIT"
VERSION = 1
"""Raised whenever an annotation or a pixel changes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """What fixes a split.

    Attributes:
        title: One line for people.
        families: How many references there are; each has `QUERIES_PER_FAMILY` queries.
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
        licence=LICENCE,
        data_digests={"annotations": benchmark.digest, "pixels": SPLITS[split].pixels},
    )


_TRAINING_THINGS = ((1, 1), (2, 5), (3, 5), (4, 1))


T_co = TypeVar("T_co", covariant=True)


class Endless(Sequence[T_co]):
    """The start of an endless stream of samples, each made when it is asked for; the length changes none of them."""

    def __init__(self, make: Callable[[int], T_co], count: int) -> None:
        self._make = make
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> list[T_co]: ...
    def __getitem__(self, index: int | slice) -> T_co | list[T_co]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"There are {self._count} training samples, so {index} is out of range.")
        return self._make(index % self._count)


def training_pairs(count: int = 60_000) -> Endless[ImageTextPair]:
    """Return the first ``count`` training pairs of the endless stream of them."""
    return Endless(functools.partial(_pair, "training"), count)


def training_sentences(count: int = 300_000) -> Endless[ImageTextPair]:
    """Return the first ``count`` pairs of a second stream: every other text is a sentence in place of a caption."""
    return Endless(functools.partial(_pair, "sentences"), count)


def _pair(stream: str, index: int) -> ImageTextPair:
    dice = Dice("scenes", stream, index)
    while not (scene := random_scene(dice, things=dice.weighted(_TRAINING_THINGS))).is_for_training:
        pass
    describe = sentence if stream == "sentences" and index % 2 else caption
    return ImageTextPair(SceneImage(scene), describe(scene, dice))


def training_triplets(count: int = 10_000) -> Endless[Triplet]:
    """Return the first ``count`` training triplets of the endless stream of them.

    They are made like the queries of the evaluation splits, from training scenes alone and from a seed of their own:
    two share each reference, and their negatives lack the change, a half of it, or the concept.
    """
    return Endless(_triplet, count)


@functools.lru_cache(maxsize=16_384)  # about 100 MB; an epoch visits them in random order
def _triplet(index: int) -> Triplet:
    number, which = divmod(index, QUERIES_PER_FAMILY)
    family = _training_family(number)
    blueprint = family.blueprints[which]
    wrong = [scene for scene in (*blueprint.decoys, *family.neighbours) if not blueprint.accepts(scene)]
    return Triplet(
        reference=_item(family.reference),
        captions=(blueprint.caption,),
        target=_item(blueprint.planted[0]),
        negatives=tuple(map(_item, wrong)),
    )


@functools.lru_cache(maxsize=4)
def _training_family(number: int) -> Family:
    return make_family(Dice("scenes", "triplets", number), for_training=True)


def _item(scene: Scene) -> Item:
    return Item(scene.digest, SceneImage(scene))


BENCHMARK = interface.Benchmark(
    name="scenes",
    title="Rendered scenes with complete ground truth; ships with cirbench",
    licence=LICENCE,
    citation="cirbench, docs/scenes.md",
    load=lambda variant, _: scenes_protocol(variant),
    protocols=tuple(
        interface.ProtocolEntry(
            f"scenes/{split}", size.title, split, QUERIES_PER_FAMILY * size.families, size.gallery_size
        )
        for split, size in SPLITS.items()
    ),
    columns=("mAP@5", "mAP@10", "mAP@25", "mAP@50", "Recall@1", "Recall@5", "Recall@10", "Recall@50"),
    default_backbone="scenes-vit",
)

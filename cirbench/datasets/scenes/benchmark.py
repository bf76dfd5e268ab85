"""The benchmark as data: a gallery of scenes, queries on it, and every relevant scene of each query.

Relevance is a predicate, evaluated on every gallery scene: the facts of the shared concept and those of the relative
caption. An index by the shapes and colours in a scene spares most of the pairs; the tests do without it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.datasets.scenes.dice import Dice
from cirbench.datasets.scenes.facts import Count
from cirbench.datasets.scenes.families import Blueprint, Family, evaluation_scene, make_family
from cirbench.files import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.datasets.scenes.world import Scene

GROUP = 6
"""How many similar images a query's group has, the reference and the target among them (CIRR)."""

_THINGS = ((2, 3), (3, 7))


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

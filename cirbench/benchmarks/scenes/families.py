"""Families: a reference, its queries, and the gallery images that are made around them.

What fills the gallery is a matter of taste, and is calibrated; what is relevant is not: see `benchmark`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeAlias

from cirbench.benchmarks.scenes.changes import Change, change, joined
from cirbench.benchmarks.scenes.language import GROUND_WORDS
from cirbench.benchmarks.scenes.sampling import drifted, is_sound, random_scene, settled, swapped
from cirbench.benchmarks.scenes.world import Count, Fact, Kind, Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from cirbench.benchmarks.scenes.sampling import Dice
    from cirbench.benchmarks.scenes.world import Scene

QUERIES_PER_FAMILY = 2

# How the gallery is filled around a family. Calibrated on the untrained baselines; docs/scenes.md has the figures.
_GROUND_TRUTHS = ((1, 2), (2, 3), (3, 3), (4, 2), (5, 1), (6, 1))
_DRIFT_OF_GROUND_TRUTHS = ((0, 1), (1, 1))
_UNCHANGED = 2
_DRIFT_OF_UNCHANGED = ((1, 2), (2, 1))
_OTHER_CONCEPTS = 2
_HALF_CHANGED = 1
_CONJUNCTIONS = 0.5
_ATTEMPTS = 60


@dataclasses.dataclass(frozen=True)
class Blueprint:
    """A query before the gallery is known.

    Attributes:
        change: What the relative caption asks for.
        caption: The relative caption.
        aspects: The semantic aspects of the caption.
        concept: What must be kept of the reference.
        shared_concept: The same in words.
        planted: Scenes that were made to be relevant; the first one becomes the target.
        decoys: Scenes that were made to be confused with them.
    """

    change: Change
    caption: str
    aspects: tuple[str, ...]
    concept: tuple[Fact, ...]
    shared_concept: str
    planted: tuple[Scene, ...]
    decoys: tuple[Scene, ...]

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Everything that must hold of a relevant scene."""
        return (*self.concept, *self.change.facts)

    def accepts(self, scene: Scene) -> bool:
        """Say whether a scene is relevant: the one definition of relevance."""
        return all(fact.holds(scene) for fact in self.facts)


Wanted: TypeAlias = "Callable[[Scene], bool]"


@dataclasses.dataclass(frozen=True)
class Family:
    """A reference with its queries.

    Attributes:
        reference: The scene that all queries of the family start from.
        blueprints: The queries.
        neighbours: Scenes near the reference that were made without any of the changes in mind.
    """

    reference: Scene
    blueprints: tuple[Blueprint, ...]
    neighbours: tuple[Scene, ...]

    @property
    def scenes(self) -> list[Scene]:
        """Every scene of the family, the reference first."""
        made = [scene for blueprint in self.blueprints for scene in (*blueprint.planted, *blueprint.decoys)]
        return [self.reference, *made, *self.neighbours]


def make_family(dice: Dice, *, for_training: bool = False) -> Family:
    """Draw a reference, queries on it and the scenes around it, all of the evaluation splits or all for training."""

    def belongs(scene: Scene) -> bool:
        return scene.is_for_training == for_training

    while True:
        reference = drawn_scene(dice, things=dice.weighted(((2, 3), (3, 7))), belongs=belongs)
        blueprints: list[Blueprint] = []
        used: frozenset[str] = frozenset()
        while len(blueprints) < QUERIES_PER_FAMILY:
            asked = change(reference, dice, unlike=used)
            used |= asked.topics
            parts = [asked]
            if dice.chance(_CONJUNCTIONS):
                parts.append(change(reference, dice, unlike=asked.topics))
            if (blueprint := _blueprint(reference, parts, dice, belongs)) is None:
                break
            blueprints.append(blueprint)
        else:
            return Family(reference, tuple(blueprints), _neighbours(reference, dice, belongs))


def evaluation_scene(dice: Dice, *, things: int) -> Scene:
    """Draw a scene of the evaluation splits."""
    return drawn_scene(dice, things=things, belongs=lambda scene: not scene.is_for_training)


def drawn_scene(dice: Dice, *, things: int, belongs: Wanted) -> Scene:
    """Draw scenes until one belongs."""
    while not belongs(scene := random_scene(dice, things=things)):
        pass
    return scene


def _blueprint(reference: Scene, parts: list[Change], dice: Dice, belongs: Wanted) -> Blueprint | None:
    """Word a query and plant its ground truths; ``None`` where none can be made."""
    whole = parts[0] if len(parts) == 1 else joined(*parts)
    orders = dice.chance(0.5)
    caption = dice.pick(whole.orders if orders else whole.statements)
    aspects = (*whole.aspects, "direct_addressing") if orders else whole.aspects
    concept, shared = _concept(reference, whole)
    blueprint = Blueprint(whole, caption, aspects, concept, shared, (), ())

    def changed(edit: Change) -> Callable[[], Scene]:
        def make() -> Scene:
            steps = dice.weighted(_DRIFT_OF_GROUND_TRUTHS)
            return edit.edit(drifted(reference, dice, steps=steps, fixed={*whole.topics, "ground"}), dice)

        return make

    def relevant(scene: Scene) -> bool:
        return belongs(scene) and blueprint.accepts(scene)

    def confusing(scene: Scene) -> bool:
        return belongs(scene) and not blueprint.accepts(scene)

    planted = [_made(changed(whole), dice, relevant) for _ in range(dice.weighted(_GROUND_TRUTHS))]
    kept = tuple(scene for scene in planted if scene is not None)
    if not kept:
        return None

    def another_place() -> Scene:
        return swapped(changed(whole)(), dice)

    decoys = [_made(another_place, dice, confusing) for _ in range(_OTHER_CONCEPTS)]
    if len(parts) > 1:
        decoys += [_made(changed(part), dice, confusing) for part in parts for _ in range(_HALF_CHANGED)]
    return dataclasses.replace(blueprint, planted=kept, decoys=tuple(scene for scene in decoys if scene is not None))


def _concept(reference: Scene, asked: Change) -> tuple[tuple[Fact, ...], str]:
    """Say what is kept, as facts and in words: main thing, companion and ground, less what the change is about."""
    main, companion = reference.things[:2]
    kinds = Kind(main.shape, None if asked.loosens_colour else main.colour), Kind(companion.shape, companion.colour)
    words = " and ".join(f"{kind.colour or ''} {kind.shape}".strip() for kind in kinds)
    things = tuple(Count(kind) for kind in kinds)
    if "ground" in asked.topics:
        return things, words
    return (*things, Setting("ground", reference.ground)), f"{words} {GROUND_WORDS[reference.ground][0]}"


def _neighbours(reference: Scene, dice: Dice, belongs: Wanted) -> tuple[Scene, ...]:
    def near() -> Scene:
        return drifted(reference, dice, steps=dice.weighted(_DRIFT_OF_UNCHANGED))

    made = [_made(near, dice, belongs) for _ in range(_UNCHANGED)]
    return tuple(scene for scene in made if scene is not None)


def _made(make: Callable[[], Scene], dice: Dice, wanted: Wanted) -> Scene | None:
    """Make scenes until one is sound and wanted; ``None`` after many attempts."""
    for _ in range(_ATTEMPTS):
        scene = make()
        if is_sound(scene):
            scene = settled(scene, dice)
            if wanted(scene):
                return scene
    return None

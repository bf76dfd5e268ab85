"""What a scene is, what can be said about one that is either true or false, and seeded draws and edits of scenes.

A scene is a description; `draw` turns it into pixels and `language` into words. Relevance is a conjunction of facts:
those of the shared concept and those of the relative caption.

Draws are the same under every Python version and on every machine: only ``random.Random(int).random()`` is used, whose
stream Python guarantees, and everything else is arithmetic on it. NumPy promises no such thing for its generators.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Collection
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence


SHAPES = ("ball", "box", "cross", "diamond", "fish", "heart", "house", "moon", "pyramid", "ring", "star", "tree")
COLOURS = ("black", "blue", "green", "orange", "pink", "purple", "red", "white", "yellow")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
GROUNDS = ("beach", "desert", "floor", "lake", "meadow", "rocks", "snow", "street")
VIEWPOINTS = ("front", "above", "afar")
STYLES = ("painting", "drawing")

GRID = 3
"""The canvas has GRID x GRID cells; no two objects share one."""

MOST_OF_A_KIND = 4
MOST_OBJECTS = 8


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where one object is.

    Attributes:
        column: 0 is left.
        row: 0 is the top.
        dx: How far from the middle of the cell, in 64ths of the canvas.
        dy: The same, downward.
    """

    column: int
    row: int
    dx: int = 0
    dy: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Thing:
    """One or several objects that differ only in where they are."""

    shape: str
    colour: str
    size: str
    texture: str
    places: tuple[Place, ...]

    @property
    def count(self) -> int:
        """How many objects there are."""
        return len(self.places)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Things in a setting. No two things of a scene share a shape or a colour.

    Attributes:
        things: One to four; the order carries no meaning in the picture.
        ground: One of `GROUNDS`.
        viewpoint: One of `VIEWPOINTS`.
        style: One of `STYLES`.
    """

    things: tuple[Thing, ...]
    ground: str
    viewpoint: str
    style: str

    @property
    def description(self) -> list[Any]:
        """Everything that shows in the picture, as plain values in a canonical order."""
        things = sorted(
            [t.shape, t.colour, t.size, t.texture, sorted([p.column, p.row, p.dx, p.dy] for p in t.places)]
            for t in self.things
        )
        return [things, self.ground, self.viewpoint, self.style]

    @property
    def structure(self) -> str:
        """What is in the picture regardless of where it is; no two splits share a structure."""
        things = sorted(f"{t.count} {t.size} {t.colour} {t.texture} {t.shape}" for t in self.things)
        return "; ".join([*things, self.ground, self.viewpoint, self.style])

    @cached_property
    def digest(self) -> str:
        """Sha256 of the description."""
        return hashlib.sha256(json.dumps(self.description, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def is_for_training(self) -> bool:
        """Whether the scene belongs to the training split: a parity of its structure.

        So the splits are disjoint by construction, however many scenes are drawn from either.
        """
        return hashlib.sha256(self.structure.encode()).digest()[0] % 2 == 0


Side = Literal["left", "right", "above", "below"]


class Fact(Protocol):
    """Something that is true or false of a scene."""

    def holds(self, scene: Scene) -> bool:
        """Say whether it is true of ``scene``."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object; ``None`` leaves a property open."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    texture: str | None = None

    def matches(self, thing: Thing) -> bool:
        """Say whether the objects of ``thing`` are of this kind."""
        return (
            self.shape in (None, thing.shape)
            and self.colour in (None, thing.colour)
            and self.size in (None, thing.size)
            and self.texture in (None, thing.texture)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """There are at least ``least`` and at most ``most`` objects of a kind."""

    kind: Kind
    least: int = 1
    most: int = MOST_OBJECTS

    def holds(self, scene: Scene) -> bool:
        """Count the objects of the kind."""
        return self.least <= sum(thing.count for thing in scene.things if self.kind.matches(thing)) <= self.most


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """The ground, viewpoint or style is (or, negated, is not) a certain one."""

    part: Literal["ground", "viewpoint", "style"]
    value: str
    negated: bool = False

    def holds(self, scene: Scene) -> bool:
        """Compare the part of the scene with the value."""
        part: str = getattr(scene, self.part)
        return (part == self.value) != self.negated


@dataclasses.dataclass(frozen=True, slots=True)
class Beside:
    """Both kinds are there, and every object of one is in cells wholly to one side of all objects of the other."""

    kind: Kind
    side: Side
    other: Kind

    def holds(self, scene: Scene) -> bool:
        """Compare the outermost columns or rows of the two kinds."""
        across = self.side in ("left", "right")
        ours = self._lines(scene, self.kind, across)
        theirs = self._lines(scene, self.other, across)
        if not ours or not theirs:
            return False
        return max(ours) < min(theirs) if self.side in ("left", "above") else min(ours) > max(theirs)

    @staticmethod
    def _lines(scene: Scene, kind: Kind, across: bool) -> list[int]:
        things = (thing for thing in scene.things if kind.matches(thing))
        return [place.column if across else place.row for thing in things for place in thing.places]


T = TypeVar("T")


class Dice:
    """Throws that depend on the seed alone.

    Args:
        seed: Names and numbers that together name the stream, for instance ``("scenes/val", "family", 12)``.
    """

    def __init__(self, *seed: str | int) -> None:
        key = hashlib.sha256("\x1f".join(map(str, seed)).encode()).digest()
        self._random = random.Random(int.from_bytes(key[:8], "big")).random

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._random() < probability

    def below(self, bound: int) -> int:
        """Return one of 0 .. bound - 1."""
        return int(self._random() * bound)

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def pick_other(self, options: Sequence[T], taken: Sequence[T]) -> T:
        """Return one of the options that is not taken."""
        return self.pick([option for option in options if option not in taken])

    def weighted(self, options: Sequence[tuple[T, int]]) -> T:
        """Return one of the options, each as likely as its integer weight says."""
        throw = self.below(sum(weight for _, weight in options))
        for option, weight in options:
            throw -= weight
            if throw < 0:
                return option
        raise AssertionError("the weights sum to more than every throw")

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return the options in a random order."""
        rest = list(options)
        for last in range(len(rest) - 1, 0, -1):
            other = self.below(last + 1)
            rest[last], rest[other] = rest[other], rest[last]
        return rest


_COUNTS = ((1, 10), (2, 5), (3, 3), (4, 2))
_TEXTURES = ((TEXTURES[0], 2), (TEXTURES[1], 1), (TEXTURES[2], 1))
_VIEWPOINTS = ((VIEWPOINTS[0], 3), (VIEWPOINTS[1], 1), (VIEWPOINTS[2], 1))
_STYLES = ((STYLES[0], 3), (STYLES[1], 1))
_JITTER = 2

UNPLACED = Place(-1, -1)
"""Where an object is that still has to be placed."""


def random_scene(dice: Dice, *, things: int) -> Scene:
    """Draw a scene with the given number of things, fewer where they would not fit."""
    chosen: tuple[Thing, ...] = ()
    for _ in range(things):
        if (thing := new_thing(dice, chosen)) is not None:
            chosen = (*chosen, thing)
    setting = Scene(chosen, dice.pick(GROUNDS), dice.weighted(_VIEWPOINTS), dice.weighted(_STYLES))
    return arranged(setting, dice)


def new_thing(dice: Dice, beside: tuple[Thing, ...]) -> Thing | None:
    """Draw a thing with its own shape and colour that fits beside others, or ``None`` where the canvas is full."""
    room = MOST_OBJECTS - sum(thing.count for thing in beside)
    if room < 1:
        return None
    shape = dice.pick_other(SHAPES, [thing.shape for thing in beside])
    colour = dice.pick_other(COLOURS, [thing.colour for thing in beside])
    count = min(room, dice.weighted(_COUNTS))
    return Thing(shape, colour, dice.pick(SIZES), dice.weighted(_TEXTURES), (UNPLACED,) * count)


def recounted(thing: Thing, count: int) -> Thing:
    """Return ``thing`` with another number of objects; those that are new are not placed yet."""
    missing = max(0, count - thing.count)
    return dataclasses.replace(thing, places=thing.places[:count] + (UNPLACED,) * missing)


def is_sound(scene: Scene) -> bool:
    """Say whether a scene keeps the rules of `Scene` and fits on the canvas."""
    counts = [thing.count for thing in scene.things]
    distinct = len({t.shape for t in scene.things}) == len({t.colour for t in scene.things}) == len(counts)
    return distinct and sum(counts) <= MOST_OBJECTS and all(1 <= count <= MOST_OF_A_KIND for count in counts)


def arranged(scene: Scene, dice: Dice) -> Scene:
    """Place every object again: a cell of its own, a little off its middle. What is not sound stays as it is."""
    if not is_sound(scene):
        return scene
    cells = iter(dice.shuffled(range(GRID * GRID)))
    things = tuple(
        dataclasses.replace(thing, places=tuple(_place(dice, next(cells)) for _ in thing.places))
        for thing in scene.things
    )
    return dataclasses.replace(scene, things=things)


def settled(scene: Scene, dice: Dice) -> Scene:
    """Keep placed objects in their cells, find free cells for the others, and move everything a little."""
    taken = {place.row * GRID + place.column for thing in scene.things for place in thing.places if place != UNPLACED}
    free = iter(dice.shuffled([cell for cell in range(GRID * GRID) if cell not in taken]))
    things = tuple(
        dataclasses.replace(
            thing,
            places=tuple(
                _place(dice, next(free) if place == UNPLACED else place.row * GRID + place.column)
                for place in thing.places
            ),
        )
        for thing in scene.things
    )
    return dataclasses.replace(scene, things=things)


def _place(dice: Dice, cell: int) -> Place:
    dx, dy = dice.below(2 * _JITTER + 1) - _JITTER, dice.below(2 * _JITTER + 1) - _JITTER
    return Place(cell % GRID, cell // GRID, dx, dy)


Edit = Callable[[Scene, Dice], Scene]
"""Fills the gallery: it carries out a change, or lets the context drift.

It may return a scene that breaks the rules (two blue things, ten objects); whoever calls it looks and throws again. No
edit decides what is relevant.
"""

_ARRANGEMENTS = 60


def set_main(*, colour: str | None = None, size: str | None = None, texture: str | None = None) -> Edit:
    """Give the main thing other attributes."""

    def edit(scene: Scene, dice: Dice) -> Scene:
        main = scene.things[0]
        return _with_thing(
            scene,
            0,
            dataclasses.replace(
                main, colour=colour or main.colour, size=size or main.size, texture=texture or main.texture
            ),
        )

    return edit


def set_main_count(count: int) -> Edit:
    """Give the main thing another number of objects."""
    return lambda scene, dice: _with_thing(scene, 0, recounted(scene.things[0], count))


def set_setting(*, ground: str | None = None, viewpoint: str | None = None, style: str | None = None) -> Edit:
    """Change where things are, or how they are seen."""
    return lambda scene, dice: dataclasses.replace(
        scene, ground=ground or scene.ground, viewpoint=viewpoint or scene.viewpoint, style=style or scene.style
    )


def add_thing(thing: Thing) -> Edit:
    """Add a thing."""
    return lambda scene, dice: dataclasses.replace(scene, things=(*scene.things, thing))


def drop_thing(shape: str) -> Edit:
    """Leave out what has a certain shape."""
    return lambda scene, dice: dataclasses.replace(
        scene, things=tuple(thing for thing in scene.things if thing.shape != shape)
    )


def rearrange_until(fact: Fact) -> Edit:
    """Throw the places of all objects again until a fact holds, or give up."""

    def edit(scene: Scene, dice: Dice) -> Scene:
        for _ in range(_ARRANGEMENTS):
            scene = arranged(scene, dice)
            if fact.holds(scene):
                break
        return scene

    return edit


def drifted(scene: Scene, dice: Dice, *, steps: int, fixed: Collection[str] = ()) -> Scene:
    """Change that many parts of the context at random, none of the topics in ``fixed``, and never the concept."""
    parts = dice.shuffled([part for part in _DRIFTS if part not in fixed])
    for part in parts[:steps]:
        scene = _DRIFTS[part](scene, dice)
    return scene


def swapped(scene: Scene, dice: Dice) -> Scene:
    """Lose the concept: another ground, or another shape or colour of the main thing or of its companion."""
    part = dice.below(3)
    if part == 2:
        return set_setting(ground=dice.pick_other(GROUNDS, [scene.ground]))(scene, dice)
    old = scene.things[part]
    if dice.chance(0.5):
        shape = dice.pick_other(SHAPES, [other.shape for other in scene.things])
        return _with_thing(scene, part, dataclasses.replace(old, shape=shape))
    colour = dice.pick_other(COLOURS, [other.colour for other in scene.things])
    return _with_thing(scene, part, dataclasses.replace(old, colour=colour))


def _with_thing(scene: Scene, position: int, thing: Thing) -> Scene:
    return dataclasses.replace(scene, things=(*scene.things[:position], thing, *scene.things[position + 1 :]))


def _drift_extra(scene: Scene, dice: Dice) -> Scene:
    """Take away what is neither main thing nor companion, if there is something; and put another thing there."""
    kept = scene.things[:2]
    if len(scene.things) > 2 and dice.chance(0.4):
        return dataclasses.replace(scene, things=kept)
    extra = new_thing(dice, kept)
    return dataclasses.replace(scene, things=kept if extra is None else (*kept, extra))


def _drift_companion(scene: Scene, dice: Dice) -> Scene:
    """Change the number, size or texture of the companion."""
    companion = scene.things[1]
    attribute = dice.below(3)
    if attribute == 0:
        companion = recounted(companion, dice.pick_other(range(1, MOST_OF_A_KIND + 1), [companion.count]))
    elif attribute == 1:
        companion = dataclasses.replace(companion, size=dice.pick_other(SIZES, [companion.size]))
    else:
        companion = dataclasses.replace(companion, texture=dice.pick_other(TEXTURES, [companion.texture]))
    return _with_thing(scene, 1, companion)


_DRIFTS: dict[str, Edit] = {
    "ground": lambda scene, dice: set_setting(ground=dice.pick_other(GROUNDS, [scene.ground]))(scene, dice),
    "viewpoint": lambda scene, dice: set_setting(viewpoint=dice.pick_other(VIEWPOINTS, [scene.viewpoint]))(scene, dice),
    "style": lambda scene, dice: set_setting(style=dice.pick_other(STYLES, [scene.style]))(scene, dice),
    "extra": _drift_extra,
    "companion": _drift_companion,
    "count": lambda scene, dice: set_main_count(dice.pick_other(range(1, MOST_OF_A_KIND + 1), [scene.things[0].count]))(
        scene, dice
    ),
    "size": lambda scene, dice: set_main(size=dice.pick_other(SIZES, [scene.things[0].size]))(scene, dice),
    "texture": lambda scene, dice: set_main(texture=dice.pick_other(TEXTURES, [scene.things[0].texture]))(scene, dice),
    "places": arranged,
}
"""By topic, the parts of a scene that may differ between the reference and a ground truth."""

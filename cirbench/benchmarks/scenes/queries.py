"""Queries: changes that one can ask for, and families of queries on one reference, with the scenes made around them.

A change has its wordings, the facts that it demands, and an edit. The edit only helps to fill the gallery: what fills
it is a matter of taste, and is calibrated; what is relevant is decided by the facts alone, on every gallery image.

The main thing is named by its shape, which no other thing of a scene has; its colour is the shared concept's business.

Aspects are those of CIRCO (Baldrati et al., ICCV 2023), with attribute change and removal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from cirbench.benchmarks.scenes.language import (
    GROUND_WORDS,
    NUMBERS,
    SIDE_WORDS,
    SIZE_WORDS,
    STYLE_WORDS,
    TEXTURE_WORDS,
    VIEWPOINT_WORDS,
    noun,
    phrase,
    the,
)
from cirbench.benchmarks.scenes.world import (
    COLOURS,
    GROUNDS,
    MOST_OF_A_KIND,
    STYLES,
    TEXTURES,
    VIEWPOINTS,
    Beside,
    Count,
    Kind,
    Setting,
    Side,
    add_thing,
    drifted,
    drop_thing,
    is_sound,
    new_thing,
    random_scene,
    rearrange_until,
    set_main,
    set_main_count,
    set_setting,
    settled,
    swapped,
)

if TYPE_CHECKING:
    from cirbench.benchmarks.scenes.world import Dice, Edit, Fact, Scene, Thing


ASPECTS = (
    "cardinality",
    "addition",
    "negation",
    "direct_addressing",
    "compare_change",
    "comparative_statement",
    "statement_with_conjunction",
    "spatial_relations_background",
    "viewpoint",
    "attribute",
    "removal",
)
"""The nine semantic aspects of CIRCO in its order, and two of our own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One modification of a reference.

    Attributes:
        topics: The parts of the scene it is about; two changes with a topic in common never go together.
        aspects: The semantic aspects of the wording.
        statements: Ways to say what the target shows: ``"there are three stars"``.
        orders: Ways to ask for it: ``"show three stars"``; an order carries the aspect ``direct_addressing``.
        facts: What must hold of a relevant scene.
        edit: Makes a scene satisfy the facts where that is possible.
        loosens_colour: Whether the shared concept keeps only the shape of the main thing, because the change is about
            its colour.
    """

    topics: frozenset[str]
    aspects: tuple[str, ...]
    statements: tuple[str, ...]
    orders: tuple[str, ...]
    facts: tuple[Fact, ...]
    edit: Edit
    loosens_colour: bool = False


Maker: TypeAlias = Callable[["Scene", "Dice"], "Change | None"]
"""Makes a change that does not yet hold of the reference, or ``None`` where the reference does not lend itself."""


def joined(first: Change, second: Change) -> Change:
    """Ask for two changes at once."""

    def edit(scene: Scene, dice: Dice) -> Scene:
        return second.edit(first.edit(scene, dice), dice)

    aspects = {*first.aspects, *second.aspects, "statement_with_conjunction"}
    return Change(
        first.topics | second.topics,
        tuple(aspect for aspect in ASPECTS if aspect in aspects),
        tuple(f"{a} and {b}" for a in first.statements for b in second.statements),
        tuple(f"{a} and {b}" for a in first.orders for b in second.orders),
        (*first.facts, *second.facts),
        edit,
        first.loosens_colour or second.loosens_colour,
    )


def cardinality(reference: Scene, dice: Dice) -> Change | None:
    """Ask for another number of the main thing."""
    main = reference.things[0]
    count = dice.pick_other(range(1, MOST_OF_A_KIND + 1), [main.count])
    number, shapes = NUMBERS[count], noun(main.shape, count)
    there = "is" if count == 1 else "are"
    return Change(
        frozenset({"count"}),
        ("cardinality",),
        (f"there {there} {number} {shapes}", f"there {there} {number} {shapes} instead of {NUMBERS[main.count]}"),
        (f"show {number} {shapes}", f"show me {number} {shapes}"),
        (Count(Kind(main.shape), count, count),),
        set_main_count(count),
    )


def more_or_fewer(reference: Scene, dice: Dice) -> Change | None:
    """Ask for more or fewer of the main thing."""
    main = reference.things[0]
    more = dice.chance(0.5) if 1 < main.count < MOST_OF_A_KIND else main.count == 1
    word, fact = (
        ("more", Count(Kind(main.shape), main.count + 1))
        if more
        else ("fewer", Count(Kind(main.shape), 1, main.count - 1))
    )
    counts = range(main.count + 1, MOST_OF_A_KIND + 1) if more else range(1, main.count)
    plural = noun(main.shape, 2)
    return Change(
        frozenset({"count"}),
        ("comparative_statement", "cardinality"),
        (f"there are {word} {plural}", f"there are {word} {plural} than before"),
        (f"show {word} {plural}", f"show me {word} {plural}"),
        (fact,),
        set_main_count(dice.pick(counts)),
    )


def resizing(reference: Scene, dice: Dice) -> Change | None:
    """Ask for the main thing in the other size."""
    main = reference.things[0]
    size, word = ("large", "larger") if main.size == "small" else ("small", "smaller")
    them, are = the(main)
    return Change(
        frozenset({"size"}),
        ("comparative_statement", "attribute"),
        (f"{them} {are} {word}", f"{them} {are} {dice.pick(SIZE_WORDS[size])}, {word} than before"),
        (f"make {them} {word}", f"show {_some(main, size)}"),
        (Count(Kind(main.shape, size=size)),),
        set_main(size=size),
    )


def addition(reference: Scene, dice: Dice) -> Change | None:
    """Ask for one more thing."""
    thing = new_thing(dice, reference.things)
    if thing is None:
        return None
    thing = dataclasses.replace(thing, places=thing.places[:1])
    new = phrase(1, (thing.colour,), thing.shape)
    return Change(
        frozenset({"extra"}),
        ("addition",),
        (f"there is also {new}", f"{new} is there as well"),
        (f"add {new}", f"put {new} next to {the(reference.things[0])[0]}"),
        (Count(Kind(thing.shape, thing.colour)),),
        add_thing(thing),
    )


def absence(reference: Scene, dice: Dice) -> Change | None:
    """Say that a thing is not there."""
    if len(reference.things) < 3:
        return None
    extra = dice.pick(reference.things[2:])
    plural = noun(extra.shape, 2)
    return Change(
        frozenset({"extra"}),
        ("negation",),
        (f"there is no {extra.shape}", f"there are no {plural}", f"it has no {plural}"),
        (f"show it without any {plural}", f"show no {extra.shape}"),
        (Count(Kind(extra.shape), 0, 0),),
        drop_thing(extra.shape),
    )


def removal(reference: Scene, dice: Dice) -> Change | None:
    """Ask to take a thing away."""
    if len(reference.things) < 3:
        return None
    extra = dice.pick(reference.things[2:])
    them, are = the(extra)
    has = "has" if extra.count == 1 else "have"
    return Change(
        frozenset({"extra"}),
        ("removal",),
        (f"{them} {are} gone", f"{them} {has} been taken away"),
        (f"remove {them}", f"take {them} away"),
        (Count(Kind(extra.shape), 0, 0),),
        drop_thing(extra.shape),
    )


def recolouring(reference: Scene, dice: Dice) -> Change | None:
    """Ask for another colour of the main thing."""
    main = reference.things[0]
    colour = dice.pick_other(COLOURS, [thing.colour for thing in reference.things])
    them, are = the(main)
    return Change(
        frozenset({"colour"}),
        ("compare_change",),
        (f"{them} {are} {colour} instead of {main.colour}", f"{them} {are} not {main.colour} but {colour}"),
        (f"make {them} {colour} instead of {main.colour}", f"change {them} from {main.colour} to {colour}"),
        (Count(Kind(main.shape, colour)),),
        set_main(colour=colour),
        loosens_colour=True,
    )


def retexturing(reference: Scene, dice: Dice) -> Change | None:
    """Ask for another texture of the main thing."""
    main = reference.things[0]
    texture = dice.pick_other(TEXTURES, [main.texture])
    old, new = dice.pick(TEXTURE_WORDS[main.texture]), dice.pick(TEXTURE_WORDS[texture])
    them, are = the(main)
    compared = dice.chance(0.4)
    tail = f"{new} instead of {old}" if compared else new
    return Change(
        frozenset({"texture"}),
        ("attribute", "compare_change") if compared else ("attribute",),
        (f"{them} {are} {tail}",),
        (f"make {them} {tail}", f"show {_some(main, new)}") if not compared else (f"make {them} {tail}",),
        (Count(Kind(main.shape, texture=texture)),),
        set_main(texture=texture),
    )


def untexturing(reference: Scene, dice: Dice) -> Change | None:
    """Say that the main thing lacks its stripes or dots."""
    main = reference.things[0]
    if main.texture == "plain":
        return None
    mark = {"striped": "stripes", "dotted": "dots"}[main.texture]
    them, _ = the(main)
    has = "has" if main.count == 1 else "have"
    return Change(
        frozenset({"texture"}),
        ("negation", "attribute"),
        (f"{them} {has} no {mark}", f"{them} {'is' if main.count == 1 else 'are'} not {main.texture}"),
        (f"show {them} without {mark}",),
        (Count(Kind(main.shape, texture=main.texture), 0, 0),),
        set_main(texture=dice.pick_other(TEXTURES, [main.texture])),
    )


def _some(thing: Thing, adjective: str) -> str:
    """Speak of a thing as if it were not known yet: ``"a striped star"``, ``"striped stars"``."""
    return phrase(1, (adjective,), thing.shape) if thing.count == 1 else f"{adjective} {noun(thing.shape, 2)}"


def other_ground(reference: Scene, dice: Dice) -> Change | None:
    """Ask for another ground."""
    ground = dice.pick_other(GROUNDS, [reference.ground])
    old, new = dice.pick(GROUND_WORDS[reference.ground]), dice.pick(GROUND_WORDS[ground])
    them, are = the(reference.things[0])
    compared = dice.chance(0.35)
    tail = f"{new} instead of {old}" if compared else new
    return Change(
        frozenset({"ground"}),
        ("spatial_relations_background", "compare_change") if compared else ("spatial_relations_background",),
        (f"{them} {are} {tail}", f"it is {tail}"),
        (f"put {them} {tail}", f"show {them} {tail}"),
        (Setting("ground", ground),),
        set_setting(ground=ground),
    )


def not_this_ground(reference: Scene, dice: Dice) -> Change | None:
    """Ask for any ground but this one."""
    old = dice.pick(GROUND_WORDS[reference.ground])
    them, are = the(reference.things[0])
    return Change(
        frozenset({"ground"}),
        ("negation", "spatial_relations_background"),
        (f"{them} {are} not {old}", f"it is not {old}"),
        (f"show {them} somewhere else, not {old}",),
        (Setting("ground", reference.ground, negated=True),),
        set_setting(ground=dice.pick_other(GROUNDS, [reference.ground])),
    )


def other_side(reference: Scene, dice: Dice) -> Change | None:
    """Ask for the main thing on a certain side of its companion."""
    main, companion = reference.things[:2]
    if main.count + companion.count > 4:
        return None
    sides: tuple[Side, ...] = ("left", "right", "above", "below")
    fact = Beside(Kind(main.shape), dice.pick(sides), Kind(companion.shape))
    if fact.holds(reference):
        return None
    where = f"{dice.pick(SIDE_WORDS[fact.side])} {the(companion)[0]}"
    them, are = the(main)
    return Change(
        frozenset({"count", "places"}),
        ("spatial_relations_background",),
        (f"{them} {are} {where}",),
        (f"move {them} so that {'it is' if main.count == 1 else 'they are'} {where}", f"put {them} {where}"),
        (fact,),
        rearrange_until(fact),
    )


def other_viewpoint(reference: Scene, dice: Dice) -> Change | None:
    """Ask for another viewpoint."""
    viewpoint = dice.pick_other(VIEWPOINTS, [reference.viewpoint])
    words = dice.pick(VIEWPOINT_WORDS[viewpoint])
    return Change(
        frozenset({"viewpoint"}),
        ("viewpoint",),
        (f"it is {words}", f"it is {words} now") if words.startswith("seen") else (f"it is seen {words}",),
        (f"show it {words}", f"make it look {words}") if words.startswith("seen") else (f"show it {words}",),
        (Setting("viewpoint", viewpoint),),
        set_setting(viewpoint=viewpoint),
    )


def other_distance(reference: Scene, dice: Dice) -> Change | None:
    """Ask for more or less distance."""
    far = reference.viewpoint != "afar"
    word = "further away" if far else "closer"
    viewpoint = "afar" if far else dice.pick(("front", "above"))
    return Change(
        frozenset({"viewpoint"}),
        ("viewpoint", "comparative_statement"),
        (f"it is seen from {word}" if far else "it is seen from closer up",),
        (f"show it from {word}" if far else "show it from closer up",),
        (Setting("viewpoint", "afar", negated=not far),),
        set_setting(viewpoint=viewpoint),
    )


def other_style(reference: Scene, dice: Dice) -> Change | None:
    """Ask for another style."""
    style = dice.pick_other(STYLES, [reference.style])
    words = dice.pick(STYLE_WORDS[style])
    compared = dice.chance(0.3)
    tail = f"{words} instead of {STYLE_WORDS[reference.style][0]}" if compared else words
    return Change(
        frozenset({"style"}),
        ("viewpoint", "compare_change") if compared else ("viewpoint",),
        (f"it is {tail}",),
        (f"show it as {tail}", f"turn it into {words}"),
        (Setting("style", style),),
        set_setting(style=style),
    )


MAKERS: tuple[tuple[Maker, int], ...] = (
    (cardinality, 5),
    (more_or_fewer, 2),
    (resizing, 2),
    (addition, 5),
    (absence, 3),
    (removal, 4),
    (recolouring, 3),
    (retexturing, 3),
    (untexturing, 3),
    (other_ground, 5),
    (not_this_ground, 1),
    (other_side, 3),
    (other_viewpoint, 3),
    (other_distance, 2),
    (other_style, 3),
)
"""Every kind of change and how often it is tried."""


def change(reference: Scene, dice: Dice, *, unlike: frozenset[str] = frozenset()) -> Change:
    """Draw a change that does not hold of the reference and shares no topic with ``unlike``."""
    for _ in range(200):
        made = dice.weighted(MAKERS)(reference, dice)
        if made is None or made.topics & unlike or any(fact.holds(reference) for fact in made.facts):
            continue
        if is_sound(made.edit(reference, dice)):
            return made
    raise AssertionError(f"no change was found for {reference.structure}")


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


_Wanted: TypeAlias = Callable[["Scene"], bool]


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
        reference = _drawn_scene(dice, things=dice.weighted(((2, 3), (3, 7))), belongs=belongs)
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
    return _drawn_scene(dice, things=things, belongs=lambda scene: not scene.is_for_training)


def _drawn_scene(dice: Dice, *, things: int, belongs: _Wanted) -> Scene:
    """Draw scenes until one belongs."""
    while not belongs(scene := random_scene(dice, things=things)):
        pass
    return scene


def _blueprint(reference: Scene, parts: list[Change], dice: Dice, belongs: _Wanted) -> Blueprint | None:
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


def _neighbours(reference: Scene, dice: Dice, belongs: _Wanted) -> tuple[Scene, ...]:
    def near() -> Scene:
        return drifted(reference, dice, steps=dice.weighted(_DRIFT_OF_UNCHANGED))

    made = [_made(near, dice, belongs) for _ in range(_UNCHANGED)]
    return tuple(scene for scene in made if scene is not None)


def _made(make: Callable[[], Scene], dice: Dice, wanted: _Wanted) -> Scene | None:
    """Make scenes until one is sound and wanted; ``None`` after many attempts."""
    for _ in range(_ATTEMPTS):
        scene = make()
        if is_sound(scene):
            scene = settled(scene, dice)
            if wanted(scene):
                return scene
    return None

"""Changes of the things in a scene: how many, how they look, what is added and what is gone.

The main thing is named by its shape, which no other thing of a scene has; its colour is the shared concept's business.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.datasets.scenes.change import Change
from cirbench.datasets.scenes.edits import add_thing, drop_thing, set_main, set_main_count
from cirbench.datasets.scenes.facts import Count, Kind
from cirbench.datasets.scenes.language import NUMBERS, SIZE_WORDS, TEXTURE_WORDS, noun, phrase, the
from cirbench.datasets.scenes.sampling import new_thing
from cirbench.datasets.scenes.world import COLOURS, MOST_OF_A_KIND, TEXTURES

if TYPE_CHECKING:
    from cirbench.datasets.scenes.dice import Dice
    from cirbench.datasets.scenes.world import Scene, Thing


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

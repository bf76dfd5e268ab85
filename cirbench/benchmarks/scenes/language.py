"""Captions of scenes: a small grammar with the variation of natural captions, which rarely say everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.benchmarks.scenes.world import SHAPES, Beside, Kind, Scene, Side, Thing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.benchmarks.scenes.world import Dice


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
PLURAL = {shape: f"{shape}s" for shape in SHAPES} | {"box": "boxes", "cross": "crosses", "fish": "fish"}

SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
TEXTURE_WORDS = {"plain": ("plain",), "striped": ("striped",), "dotted": ("dotted", "spotted")}
GROUND_WORDS = {
    "beach": ("on a beach", "on the sand of a beach"),
    "desert": ("in the desert", "in a desert"),
    "floor": ("on a wooden floor", "indoors on a wooden floor"),
    "lake": ("on a lake", "on the water of a lake"),
    "meadow": ("in a meadow", "on the grass of a meadow"),
    "rocks": ("on rocks at night", "on rocks under the stars"),
    "snow": ("in the snow", "on snow"),
    "street": ("on a street", "on a paved street"),
}
VIEWPOINT_WORDS = {
    "front": ("seen from the front", "at eye level"),
    "above": ("seen from above", "from above"),
    "afar": ("seen from far away", "from a distance"),
}
STYLE_WORDS = {"painting": ("a painting", "a colourful painting"), "drawing": ("a drawing", "a pencil drawing")}
SIDE_WORDS: dict[Side, tuple[str, ...]] = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
# How much a caption says: of everything, of all things but one, or a hint at one thing.
_DETAIL = (("full", 9), ("some", 4), ("hint", 7))
_SAID = {"full": 0.95, "some": 0.8, "hint": 0.35}
_GROUND_SAID = {"full": 0.85, "some": 0.6, "hint": 0.4}

SIDES: tuple[Side, ...] = ("left", "right", "above", "below")


def noun(shape: str, count: int) -> str:
    """Name a shape in the number that ``count`` asks for."""
    return shape if count == 1 else PLURAL[shape]


def phrase(count: int, adjectives: Sequence[str], shape: str, *, article: bool = True) -> str:
    """Put a count, adjectives and a noun together: ``"a small red star"``, ``"two fish"``."""
    words = [*adjectives, noun(shape, count)]
    if count == 1 and article:
        return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])
    return " ".join([NUMBERS[count], *words])


def the(thing: Thing) -> tuple[str, str]:
    """Refer to a thing that is known already, and give the verb that goes with it: ``("the stars", "are")``."""
    return f"the {noun(thing.shape, thing.count)}", "is" if thing.count == 1 else "are"


def listed(parts: Sequence[str]) -> str:
    """Join parts as a sentence does: ``"a, b and c"``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def caption(scene: Scene, dice: Dice) -> str:
    """Describe a scene in one sentence; what is left unsaid and how the rest is said differ from throw to throw."""
    detail = dice.weighted(_DETAIL)
    things = dice.shuffled(scene.things)[: 1 if detail == "hint" else len(scene.things)]
    if detail == "some":
        things = things[: max(1, len(things) - 1)]
    sides = detail != "hint" and dice.chance(0.35)
    parts = [described(thing, dice, "full" if sides else detail) for thing in things]
    text = listed(beside(parts, side_words(scene, things, dice) if sides else None))
    if dice.chance(_GROUND_SAID[detail]):
        text = f"{text} {dice.pick(GROUND_WORDS[scene.ground])}"
    text = opened(text, things[0].count, scene, dice)
    if not dice.chance(0.1 if scene.viewpoint == "front" else 0.8):
        return text
    words = dice.pick(VIEWPOINT_WORDS[scene.viewpoint])
    return f"{text}, {words}" if dice.chance(0.7) else f"{words}, {text}"


def sentence(scene: Scene, dice: Dice) -> str:
    """Describe a scene by one of its things and what is true of it: ``"a photo of two red fish that are on a lake"``.

    Methods that write a word for an image into a sentence put a caption behind it in this way.
    """
    main, *others = dice.shuffled(scene.things)
    style = "a photo" if dice.chance(0.5) else dice.pick(STYLE_WORDS[scene.style])
    head = f"{style} of {described(main, dice, 'hint' if dice.chance(0.5) else 'some')}"
    has, are = ("has", "is") if main.count == 1 else ("have", "are")
    clauses = [_aside(main, has, are, other, scene, dice) for other in others if dice.chance(0.75)]
    if dice.chance(0.75):
        clauses.append((are, dice.pick(GROUND_WORDS[scene.ground])))
    if dice.chance(0.1 if scene.viewpoint == "front" else 0.7):
        clauses.append((are, dice.pick(VIEWPOINT_WORDS[scene.viewpoint])))
    for words in ((main.colour,), SIZE_WORDS[main.size], TEXTURE_WORDS[main.texture]):
        if not any(word in head.split() for word in words) and dice.chance(0.3):
            clauses.append((are, dice.pick(words)))
    clauses = dice.shuffled(clauses)[:3]
    if not clauses:
        return head
    if dice.chance(0.5):
        return f"{head} that {listed([f'{verb} {rest}' for verb, rest in clauses])}"
    sentences = [_sentence_of(verb, rest, main) for verb, rest in clauses]
    return f"{head}, {listed(sentences)}" if dice.chance(0.7) else f"{head} and {listed(sentences)}"


def _aside(main: Thing, has: str, are: str, other: Thing, scene: Scene, dice: Dice) -> tuple[str, str]:
    """Say of the main thing that it has another one, or on which side of it it is."""
    named = described(other, dice, "some")
    ours, theirs = Kind(main.shape, main.colour), Kind(other.shape, other.colour)
    sides = [side for side in SIDES if Beside(ours, side, theirs).holds(scene)]
    if sides and dice.chance(0.5):
        return are, f"{dice.pick(SIDE_WORDS[dice.pick(sides)])} {named}"
    return has, named


def _sentence_of(verb: str, rest: str, main: Thing) -> str:
    """Turn what is true of the main thing into a sentence of its own."""
    if verb in ("has", "have"):
        one = rest.split()[0] in ("a", "an", "one")
        return f"there {'is' if one else 'are'} {rest}"
    return f"{'it' if main.count == 1 else 'they'} {verb} {rest}"


def described(thing: Thing, dice: Dice, detail: str = "full") -> str:
    """Describe a thing by some of what is true of it."""
    said = _SAID[detail]
    adjectives = []
    if dice.chance(said * 0.6):
        adjectives.append(dice.pick(SIZE_WORDS[thing.size]))
    if dice.chance(said):
        adjectives.append(thing.colour)
    if dice.chance(said * (0.1 if thing.texture == "plain" else 0.85)):
        adjectives.append(dice.pick(TEXTURE_WORDS[thing.texture]))
    return phrase(thing.count, adjectives, thing.shape, article=not dice.chance(0.2))


def side_words(scene: Scene, things: Sequence[Thing], dice: Dice, sides: Sequence[Side] = SIDES) -> str | None:
    """Say on which of these sides of the second thing the first one is; ``None`` where it is on none of them."""
    if len(things) < 2:
        return None
    ours, theirs = (Kind(thing.shape, thing.colour) for thing in things[:2])
    true = [side for side in sides if Beside(ours, side, theirs).holds(scene)]
    return dice.pick(SIDE_WORDS[dice.pick(true)]) if true else None


def beside(parts: Sequence[str], side: str | None) -> list[str]:
    """Join the first two parts by the words for a side, if there are any."""
    return [*parts] if side is None else [f"{parts[0]} {side} {parts[1]}", *parts[2:]]


def opened(text: str, count: int, scene: Scene, dice: Dice, *, styled: bool = False) -> str:
    """Begin the caption: with the style if it is worth saying, with ``there is``, or with nothing."""
    if dice.chance(0.2 if scene.style == "painting" else 0.8) or styled:
        return f"{dice.pick(STYLE_WORDS[scene.style])} of {text}"
    opening = dice.below(8)
    if opening == 0:
        return f"there {'is' if count == 1 else 'are'} {text}"
    return f"a picture of {text}" if opening == 1 else text

"""Scenes in words: a small grammar with the variation of natural captions, and an oracle that speaks it.

The oracle stands in for a captioner and a language model: it says what perfect ones would say of a query, for
it reads how the query was made. So it is not a method, and nothing that a method may be compared with: it gives an
upper bound with complete ground truth, which shows what a result owes to the texts and what to their use. It knows
neither the gallery nor what is relevant in it. Noise makes it err as models do, at a known rate: the captioner sees one
part of the reference wrongly, and the editor forgets the change.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.benchmarks.scenes.world import (
    SHAPES,
    Beside,
    Dice,
    Kind,
    Scene,
    Side,
    Thing,
    drifted,
    is_sound,
    settled,
    swapped,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.benchmarks.scenes.benchmark import Benchmark
    from cirbench.benchmarks.scenes.queries import Change


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


ORACLE_VERSION = 1
"""Raised whenever a text of the oracle changes."""

SAMPLES = 15
"""Captions of a reference, and as many edited ones, as LDRE asks for."""

_ATTEMPTS = 60

_Seed = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class OracleTexts:
    """What the oracle says of a query, several times over; a text of one sample belongs to that of the others.

    Attributes:
        captions: The reference in words.
        edited: The same with the change carried out: a target in words.
    """

    captions: tuple[str, ...]
    edited: tuple[str, ...]


def oracle_texts(
    benchmark: Benchmark, name: str, number: int, *, samples: int = SAMPLES, noise: float = 0.0
) -> OracleTexts:
    """Write the texts of a query.

    Args:
        benchmark: Has the query.
        name: Of the split; with ``number`` it seeds the throws.
        number: The query's place, which is its id.
        samples: Texts of each kind; the first ones do not depend on how many there are.
        noise: The chance that a sample's captioner errs, and again that its editor does; 0 to 1.
    """
    query = benchmark.queries[number]
    reference, asked = benchmark.gallery[query.reference], query.blueprint.change
    said = [_sample(reference, asked, noise, ("scenes", "oracle", name, number, sample)) for sample in range(samples)]
    captions, edited = zip(*said, strict=True)
    return OracleTexts(captions, edited)


def _sample(reference: Scene, asked: Change, noise: float, seed: _Seed) -> tuple[str, str]:
    dice = Dice(*seed)
    misread, forgets = dice.chance(noise), dice.chance(noise)
    seen = _misread(reference, dice) if misread else reference
    target = _carried_out(seen, asked, dice)
    before, after = (_same_words(scene, seen, target, asked, seed) for scene in (seen, target))
    return before, before if forgets else after


def _same_words(scene: Scene, seen: Scene, target: Scene, asked: Change, seed: _Seed) -> str:
    """Describe one of two scenes in the words of the grammar, so that all that the change is about is said of it.

    What is said of one part does not hang on another, so that the two captions differ by the change alone.
    """

    def says(part: str, chance: float) -> bool:
        return getattr(seen, part) != getattr(target, part) or Dice(*seed, part).chance(chance)

    parts = [described(thing, _dice_for(thing, seen, target, seed)) for thing in scene.things]
    sides = [fact.side for fact in asked.facts if isinstance(fact, Beside)]
    side = side_words(scene, scene.things, Dice(*seed, "side"), (sides if scene is target else ()) or SIDES)
    text = listed(beside(parts, side if sides or Dice(*seed, "sides").chance(0.35) else None))
    if says("ground", 0.85):
        text = f"{text} {Dice(*seed, 'ground words').pick(GROUND_WORDS[scene.ground])}"
    text = opened(text, scene.things[0].count, scene, Dice(*seed, "opening"), styled=says("style", 0))
    if says("viewpoint", 0.1 if scene.viewpoint == "front" else 0.8):
        text = f"{text}, {Dice(*seed, 'viewpoint words').pick(VIEWPOINT_WORDS[scene.viewpoint])}"
    return text


def _dice_for(thing: Thing, seen: Scene, target: Scene, seed: _Seed) -> Dice:
    """Throws for the words of a thing: such that, where it was changed, it is described in other words than before."""
    versions = [each for scene in (seen, target) for each in scene.things if each.shape == thing.shape]
    for attempt in range(_ATTEMPTS):
        throws = (*seed, thing.shape, attempt)
        words = {described(version, Dice(*throws)) for version in versions}
        if len(words) == len(set(map(_kind, versions))):
            break
    return Dice(*throws)


def _carried_out(scene: Scene, asked: Change, dice: Dice) -> Scene:
    """Edit a scene as asked; as it is, where what was misread leaves no room for the edit."""
    for _ in range(_ATTEMPTS):
        edited = asked.edit(scene, dice)
        if is_sound(edited):
            edited = settled(edited, dice)
            if all(fact.holds(edited) for fact in asked.facts):
                return edited
    return scene


def _misread(scene: Scene, dice: Dice) -> Scene:
    """Change one part of a scene: of the context, or as often the ground, a shape or a colour of what is to be kept."""
    while True:
        other = swapped(scene, dice) if dice.chance(0.5) else drifted(scene, dice, steps=1)
        if is_sound(other):
            return settled(other, dice)


def _kind(thing: Thing) -> Sequence[str | int]:
    return thing.shape, thing.colour, thing.size, thing.texture, thing.count

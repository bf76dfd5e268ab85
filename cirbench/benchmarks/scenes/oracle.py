"""An oracle in place of a captioner and of a language model: what perfect ones would say of a query of scenes.

It reads how the query was made: the scene that the reference shows, and the change that the relative caption means. So
it is not a method, and nothing that a method may be compared with: it gives an upper bound with complete ground truth,
which shows what a result owes to the texts and what to their use. It knows neither the gallery nor what is relevant in
it.

Noise makes it err as models do, at a known rate: the captioner sees one part of the reference wrongly, and the editor
forgets the change.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.benchmarks.scenes.language import (
    GROUND_WORDS,
    SIDES,
    VIEWPOINT_WORDS,
    beside,
    described,
    listed,
    opened,
    side_words,
)
from cirbench.benchmarks.scenes.world import Beside, Dice, drifted, is_sound, settled, swapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.benchmarks.scenes.benchmark import Benchmark
    from cirbench.benchmarks.scenes.queries import Change
    from cirbench.benchmarks.scenes.world import Scene, Thing

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

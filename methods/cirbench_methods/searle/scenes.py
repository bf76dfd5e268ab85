"""Concepts and phrases in the language of scenes, so that SEARLE runs on the embedded benchmark without any file."""

from __future__ import annotations

import itertools

from cirbench.benchmarks.scenes.language import GROUND_WORDS, STYLE_WORDS, VIEWPOINT_WORDS, phrase
from cirbench.benchmarks.scenes.sampling import Dice
from cirbench.benchmarks.scenes.world import COLOURS, SHAPES

PER_CONCEPT = 16


def phrases() -> dict[str, tuple[str, ...]]:
    """Map each shape, alone and in each colour, to phrases about it; always the same ones, drawn from no scene."""
    concepts = [*SHAPES, *(f"{colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES))]
    return {
        concept: tuple(_phrase(concept, Dice("searle", concept, number)) for number in range(PER_CONCEPT))
        for concept in concepts
    }


def _phrase(concept: str, dice: Dice) -> str:
    """Say at most one of the things that a caption of scenes could say beside the concept."""
    text = phrase(1, (), concept)
    words = {"ground": GROUND_WORDS, "style": STYLE_WORDS, "viewpoint": VIEWPOINT_WORDS}
    beside = dice.pick(("nothing", "company", *words))
    if beside == "nothing":
        return text
    if beside == "company":
        return f"{text} and {phrase(1, (dice.pick(COLOURS),), dice.pick(SHAPES))}"
    said, *_ = dice.pick([*words[beside].values()])  # the shorter of two ways to say it
    return {"ground": f"{text} {said}", "style": f"{said} of {text}", "viewpoint": f"{text}, {said}"}[beside]

"""Concepts and phrases in the language of scenes, so that SEARLE runs on the embedded benchmark without any file."""

from __future__ import annotations

import itertools

from cirbench.datasets.scenes.dice import Dice
from cirbench.datasets.scenes.language import GROUND_WORDS, STYLE_WORDS, VIEWPOINT_WORDS, phrase
from cirbench.datasets.scenes.world import COLOURS, SHAPES

PER_CONCEPT = 16


def phrases() -> dict[str, tuple[str, ...]]:
    """Map each shape, alone and in each colour, to phrases about it; always the same ones, drawn from no scene."""
    concepts = [*SHAPES, *(f"{colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES))]
    return {
        concept: tuple(_phrase(concept, Dice("searle", concept, number)) for number in range(PER_CONCEPT))
        for concept in concepts
    }


def _phrase(concept: str, dice: Dice) -> str:
    """Say up to two of the things that a caption of scenes could say beside the concept."""
    text = phrase(1, (), concept)
    said = dice.shuffled(("company", "ground", "style", "viewpoint"))[: dice.below(3)]
    if "company" in said:
        text = f"{text} and {phrase(1 + dice.below(4), (dice.pick(COLOURS),), dice.pick(SHAPES))}"
    if "ground" in said:
        text = f"{text} {dice.pick(dice.pick(list(GROUND_WORDS.values())))}"
    if "style" in said:
        text = f"{dice.pick(dice.pick(list(STYLE_WORDS.values())))} of {text}"
    if "viewpoint" in said:
        text = f"{text}, {dice.pick(dice.pick(list(VIEWPOINT_WORDS.values())))}"
    return text

"""Captions say what is true of the scene."""

from __future__ import annotations

import re

import pytest

from cirbench.benchmarks.scenes.benchmark import SceneImage, scenes_benchmark, training_pairs, training_sentences
from cirbench.benchmarks.scenes.language import (
    GROUND_WORDS,
    NUMBERS,
    PLURAL,
    SIZE_WORDS,
    STYLE_WORDS,
    TEXTURE_WORDS,
    VIEWPOINT_WORDS,
    listed,
    phrase,
)
from cirbench.benchmarks.scenes.world import COLOURS, SHAPES, Dice

PAIRS = [*training_pairs(200)[:], *training_sentences(400)[:]]
COUNT = {"a": 1, "an": 1} | {word: count for count, word in enumerate(NUMBERS[1:5], start=1)}
ADJECTIVES = [*COLOURS, *(word for words in (SIZE_WORDS, TEXTURE_WORDS) for ways in words.values() for word in ways)]
NOUN = {word: shape for shape in SHAPES for word in (shape, PLURAL[shape])}


def test_a_text_is_true_of_its_scene() -> None:
    """Read back every count, adjective and noun, the ground, the viewpoint and the style."""
    for pair in PAIRS:
        assert isinstance(pair.image, SceneImage)
        text, scene = pair.caption, pair.image.scene
        things = {thing.shape: thing for thing in scene.things}
        read = re.findall(rf"\b({'|'.join(COUNT)}) ((?:(?:{'|'.join(ADJECTIVES)}) )*)({'|'.join(NOUN)})\b", text)
        assert read, text
        for number, adjectives, word in read:
            thing = things[NOUN[word]]
            assert thing.count == COUNT[number], text
            true = {thing.colour, *SIZE_WORDS[thing.size], *TEXTURE_WORDS[thing.texture]}
            assert set(adjectives.split()) <= true, text
        settings = ((GROUND_WORDS, scene.ground), (VIEWPOINT_WORDS, scene.viewpoint), (STYLE_WORDS, scene.style))
        for words, value in settings:
            said = [key for key, ways in words.items() if any(re.search(rf"\b{way}\b", text) for way in ways)]
            assert said in ([], [value]), text


def test_a_clause_of_a_sentence_is_true_of_the_thing_it_speaks_of() -> None:
    """Read back every clause that names a colour, a size or a texture: ``is blue``, ``are spotted``."""
    clauses = 0
    for pair in training_sentences(2_000)[1::2]:
        assert isinstance(pair.image, SceneImage)
        main = NOUN[next(word for word in re.findall(r"\w+", pair.caption) if word in NOUN)]
        thing = next(thing for thing in pair.image.scene.things if thing.shape == main)
        true = {thing.colour, *SIZE_WORDS[thing.size], *TEXTURE_WORDS[thing.texture]}
        said = re.findall(rf"\b(?:is|are) ({'|'.join(ADJECTIVES)})\b(?=,| and|$)", pair.caption)
        clauses += len(said)
        assert set(said) <= true, pair.caption
    assert clauses > 200


def test_captions_vary() -> None:
    assert len({pair.caption for pair in PAIRS}) > 0.9 * len(PAIRS)


def test_every_other_text_of_the_sentences_speaks_of_one_thing_and_what_is_true_of_it() -> None:
    pairs = training_sentences(400)[:]
    assert sum(" that " in pair.caption for pair in pairs[1::2]) > 50
    assert not any(" that " in pair.caption for pair in pairs[::2])


def test_a_noun_takes_the_right_article_and_number() -> None:
    assert phrase(1, ("orange",), "box") == "an orange box"
    assert phrase(1, (), "fish") == "a fish"
    assert phrase(3, ("small", "red"), "box") == "three small red boxes"
    assert phrase(1, (), "star", article=False) == "one star"
    assert listed(["a", "b", "c"]) == "a, b and c"


@pytest.mark.slow
def test_relative_captions_are_clean_sentences() -> None:
    for query in scenes_benchmark("val").queries:
        text = query.blueprint.caption
        assert text == text.strip() and "  " not in text and "None" not in text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text


def test_the_dice_choose_among_all_options() -> None:
    dice = Dice("options")
    assert {dice.pick("abc") for _ in range(100)} == set("abc")
    assert {dice.weighted((("a", 1), ("b", 3))) for _ in range(100)} == {"a", "b"}
    assert sorted(dice.shuffled(range(9))) == list(range(9))
    assert {dice.pick_other("abc", ["a"]) for _ in range(50)} == {"b", "c"}

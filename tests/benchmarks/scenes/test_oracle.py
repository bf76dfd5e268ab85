"""The oracle says what is true of a query, in the words of the grammar, and errs as often as it is asked to."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from cirbench.benchmarks.scenes.benchmark import scenes_benchmark
from cirbench.benchmarks.scenes.oracle import ORACLE_VERSION, SAMPLES, OracleTexts, oracle_texts

NUMBERS = range(60)


def tiny_texts(number: int, **how: Any) -> OracleTexts:
    return oracle_texts(scenes_benchmark("tiny"), "tiny", number, **how)


def test_a_perfect_captioner_and_editor_put_every_change_into_words() -> None:
    for number in NUMBERS:
        texts = tiny_texts(number)
        assert len(texts.captions) == len(texts.edited) == SAMPLES
        assert not any(before == after for before, after in zip(texts.captions, texts.edited, strict=True))


def test_captions_name_every_shape_of_the_reference_and_edited_ones_every_shape_that_is_asked_for() -> None:
    benchmark = scenes_benchmark("tiny")
    for number, query in enumerate(benchmark.queries):
        reference = benchmark.gallery[query.reference]
        target = benchmark.gallery[query.relevant[0]]
        kept = {thing.shape for thing in reference.things[:2]} & {thing.shape for thing in target.things}
        texts = tiny_texts(number, samples=2)
        for caption in texts.captions:
            assert all(thing.shape in caption for thing in reference.things)
        for edited in texts.edited:
            assert all(shape in edited for shape in kept)


def test_a_removed_thing_is_not_in_the_edited_caption() -> None:
    benchmark = scenes_benchmark("tiny")
    removals = [n for n, query in enumerate(benchmark.queries) if "removal" in query.blueprint.aspects]
    assert removals
    for number in removals:
        query = benchmark.queries[number]
        others = benchmark.gallery[query.reference].things[2:]
        lost = [thing.shape for thing in others if thing.shape in query.blueprint.caption]
        assert lost
        texts = tiny_texts(number, samples=3)
        assert not any(shape in edited for edited in texts.edited for shape in lost)
        assert all(shape in caption for caption in texts.captions for shape in lost)


def test_the_first_samples_do_not_depend_on_how_many_there_are() -> None:
    few, many = (tiny_texts(7, samples=samples, noise=0.4) for samples in (3, 15))
    assert few.captions == many.captions[:3]
    assert few.edited == many.edited[:3]


@pytest.mark.slow
def test_with_noise_the_editor_forgets_and_the_captioner_errs_about_as_often_as_asked() -> None:
    exact = [tiny_texts(number) for number in NUMBERS]
    noisy = [tiny_texts(number, noise=0.3) for number in NUMBERS]
    pairs = [(a, b) for each in noisy for a, b in zip(each.captions, each.edited, strict=True)]
    forgotten = sum(a == b for a, b in pairs) / len(pairs)
    assert 0.25 < forgotten < 0.35
    others = [
        a != b for one, two in zip(exact, noisy, strict=True) for a, b in zip(one.captions, two.captions, strict=True)
    ]
    assert 0.2 < sum(others) / len(others) < 0.35  # an error about what is not said does not show
    lost = tiny_texts(5, noise=1)
    assert lost.captions == lost.edited


def test_its_texts_are_the_same_on_every_machine() -> None:
    said = "\n".join(
        text
        for number in NUMBERS
        for texts in (tiny_texts(number, samples=2, noise=0.25),)
        for text in (*texts.captions, *texts.edited)
    )
    assert (ORACLE_VERSION, hashlib.sha256(said.encode()).hexdigest()[:16]) == (1, "d776b73d18fa6943")

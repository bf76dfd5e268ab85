"""The oracle says what is true of a query, in the words of the grammar, and errs as often as it is asked to."""

from __future__ import annotations

import hashlib

import pytest

from cirbench.benchmarks.scenes.benchmark import scenes_benchmark
from cirbench.benchmarks.scenes.oracle import SAMPLES, VERSION, oracle_texts
from cirbench.errors import UnknownName

NUMBERS = range(60)


def test_a_perfect_captioner_and_editor_put_every_change_into_words() -> None:
    for number in NUMBERS:
        texts = oracle_texts("tiny", number)
        assert len(texts.captions) == len(texts.edited) == len(texts.removed) == SAMPLES
        for before, after, removed in zip(texts.captions, texts.edited, texts.removed, strict=True):
            assert before != after
            assert removed


def test_captions_name_every_shape_of_the_reference_and_edited_ones_every_shape_that_is_asked_for() -> None:
    benchmark = scenes_benchmark("tiny")
    for number, query in enumerate(benchmark.queries):
        reference = benchmark.gallery[query.reference]
        target = benchmark.gallery[query.relevant[0]]
        kept = {thing.shape for thing in reference.things[:2]} & {thing.shape for thing in target.things}
        texts = oracle_texts("tiny", number, samples=2)
        for caption in texts.captions:
            assert all(thing.shape in caption for thing in reference.things)
        for edited in texts.edited:
            assert all(shape in edited for shape in kept)


def test_a_removed_thing_is_named_as_removed_and_not_in_the_edited_caption() -> None:
    benchmark = scenes_benchmark("tiny")
    removals = [n for n, query in enumerate(benchmark.queries) if "removal" in query.blueprint.aspects]
    assert removals
    for number in removals:
        query = benchmark.queries[number]
        lost = [
            thing.shape
            for thing in benchmark.gallery[query.reference].things[2:]
            if thing.shape in query.blueprint.caption
        ]
        texts = oracle_texts("tiny", number, samples=3)
        for shape in lost:
            assert all(shape in removed for removed in texts.removed)
            assert not any(shape in edited for edited in texts.edited)


def test_the_first_samples_do_not_depend_on_how_many_there_are() -> None:
    few, many = (oracle_texts("tiny", 7, samples=samples, noise=0.4) for samples in (3, 15))
    assert few.captions == many.captions[:3]
    assert few.edited == many.edited[:3]


def test_with_noise_the_editor_forgets_and_the_captioner_errs_about_as_often_as_asked() -> None:
    exact = [oracle_texts("tiny", number) for number in NUMBERS]
    noisy = [oracle_texts("tiny", number, noise=0.3) for number in NUMBERS]
    pairs = [(a, b) for each in noisy for a, b in zip(each.captions, each.edited, strict=True)]
    forgotten = sum(a == b for a, b in pairs) / len(pairs)
    assert 0.25 < forgotten < 0.35
    others = [
        a != b for one, two in zip(exact, noisy, strict=True) for a, b in zip(one.captions, two.captions, strict=True)
    ]
    assert 0.2 < sum(others) / len(others) < 0.35  # an error about what is not said does not show
    lost = oracle_texts("tiny", 5, noise=1)
    assert lost.captions == lost.edited


def test_its_texts_are_the_same_on_every_machine() -> None:
    said = "\n".join(
        text
        for number in NUMBERS
        for texts in (oracle_texts("tiny", number, samples=2, noise=0.25),)
        for text in (*texts.captions, *texts.edited, *texts.removed)
    )
    assert (VERSION, hashlib.sha256(said.encode()).hexdigest()[:16]) == (1, "f48ea52727d7b45d")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UnknownName, match="split of scenes"):
        oracle_texts("test", 0)

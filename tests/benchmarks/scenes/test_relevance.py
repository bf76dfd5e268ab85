"""Relevance is a predicate, and the ground truth is complete."""

from __future__ import annotations

import collections
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.benchmarks.scenes.benchmark import GROUP, Benchmark, scenes_benchmark
from cirbench.benchmarks.scenes.queries import ASPECTS
from tests.benchmarks.scenes.oracle import Table

if TYPE_CHECKING:
    from cirbench.benchmarks.scenes.world import Scene


@pytest.fixture(scope="module", params=["tiny", pytest.param("val", marks=pytest.mark.slow)])
def benchmark_data(request: pytest.FixtureRequest) -> Benchmark:
    return scenes_benchmark(request.param)


def test_every_pair_of_query_and_gallery_image_is_labelled_as_a_second_implementation_says(
    benchmark_data: Benchmark,
) -> None:
    """All queries x all images, by brute force, on a table of objects that shares no code with the benchmark."""
    table = Table(benchmark_data.gallery)
    for query in benchmark_data.queries:
        expected = np.ones(len(benchmark_data.gallery), dtype=bool)
        for fact in (*query.blueprint.concept, *query.blueprint.change.facts):
            expected &= table.holds(fact)
        assert set(query.relevant) == set(np.flatnonzero(expected).tolist()), query.blueprint.caption


def test_the_predicate_itself_agrees_on_every_pair_of_the_small_split() -> None:
    data = scenes_benchmark("tiny")
    for query, (place, scene) in itertools.product(data.queries, enumerate(data.gallery)):
        assert query.blueprint.accepts(scene) == (place in query.relevant)


def test_the_reference_keeps_the_concept_and_is_never_a_ground_truth(benchmark_data: Benchmark) -> None:
    for query in benchmark_data.queries:
        reference = benchmark_data.gallery[query.reference]
        assert all(fact.holds(reference) for fact in query.blueprint.concept)
        assert query.reference not in query.relevant


def test_each_part_of_a_caption_asks_for_something_that_the_reference_lacks(benchmark_data: Benchmark) -> None:
    for query in benchmark_data.queries:
        reference = benchmark_data.gallery[query.reference]
        lacking = [fact for fact in query.blueprint.change.facts if not fact.holds(reference)]
        assert len(lacking) >= query.blueprint.caption.count(" and ") + 1


def test_every_query_has_ground_truths_and_the_first_is_the_one_made_for_it(benchmark_data: Benchmark) -> None:
    for query in benchmark_data.queries:
        assert len(set(query.relevant)) == len(query.relevant) >= 1
        assert benchmark_data.gallery[query.relevant[0]] == query.blueprint.planted[0]


def test_a_group_is_six_images_with_the_reference_and_one_relevant_image_the_target(
    benchmark_data: Benchmark,
) -> None:
    for query in benchmark_data.queries:
        assert len(query.group) == len(set(query.group)) == GROUP
        assert query.reference in query.group
        assert set(query.group) & set(query.relevant) == {query.relevant[0]}


def test_the_images_of_a_group_are_similar(benchmark_data: Benchmark) -> None:
    """They share more shapes and colours with the reference than other images do."""

    def shared(one: Scene, other: Scene) -> int:
        return len(kinds(one) & kinds(other))

    def kinds(scene: Scene) -> set[tuple[str, str]]:
        return {(thing.shape, thing.colour) for thing in scene.things}

    gallery = benchmark_data.gallery
    inside = [shared(gallery[q.reference], gallery[place]) for q in benchmark_data.queries for place in q.group]
    outside = [shared(gallery[q.reference], scene) for q in benchmark_data.queries for scene in gallery[:20]]
    assert np.mean(inside) > 10 * np.mean(outside)


def test_no_scene_is_in_the_gallery_twice(benchmark_data: Benchmark) -> None:
    digests = collections.Counter(scene.digest for scene in benchmark_data.gallery)
    assert len(digests) == len(benchmark_data.gallery)


@pytest.mark.slow
def test_every_aspect_has_enough_queries_to_say_something_about_it() -> None:
    queries = scenes_benchmark("val").queries
    counts = collections.Counter(aspect for query in queries for aspect in query.blueprint.aspects)
    assert counts.keys() == set(ASPECTS)
    assert min(counts.values()) >= 60


def test_queries_of_one_family_share_their_reference_and_differ_in_their_captions(benchmark_data: Benchmark) -> None:
    families = collections.defaultdict(list)
    for query in benchmark_data.queries:
        families[query.family].append(query)
    for queries in families.values():
        assert len({query.reference for query in queries}) == 1
        assert len({query.blueprint.caption for query in queries}) == len(queries)

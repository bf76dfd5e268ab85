"""What is trained on is never evaluated on."""

from __future__ import annotations

import itertools

import pytest

from cirbench.benchmarks.scenes.benchmark import (
    SceneImage,
    scenes_benchmark,
    training_pairs,
    training_sentences,
    training_triplets,
)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["val", "tiny"])
def test_training_shares_neither_images_nor_structures_with_an_evaluation_split(split: str) -> None:
    """By content digest, and by what is in the picture regardless of where it stands."""
    evaluated = scenes_benchmark(split).gallery
    structures = {scene.structure for scene in evaluated}
    contents = {SceneImage(scene).content for scene in evaluated}
    for pair in training_pairs(20_000):
        assert isinstance(pair.image, SceneImage)
        assert pair.image.scene.structure not in structures
        assert pair.image.content not in contents


def test_every_scene_of_training_and_none_of_evaluation_has_the_parity_that_tells_the_splits_apart() -> None:
    """So the splits are disjoint whatever their sizes: the parity depends on the structure alone."""
    assert not any(scene.is_for_training for split in ("val", "tiny") for scene in scenes_benchmark(split).gallery)
    trained = (pair.image for pairs in (training_pairs(2_000), training_sentences(2_000)) for pair in pairs)
    assert all(isinstance(image, SceneImage) and image.scene.is_for_training for image in trained)


@pytest.mark.slow
def test_training_triplets_show_training_scenes_alone_so_none_of_them_is_ever_evaluated() -> None:
    evaluated = {scene.structure for split in ("val", "tiny") for scene in scenes_benchmark(split).gallery}
    for triplet in training_triplets(600):
        for item in (triplet.reference, triplet.target, *triplet.negatives):
            assert isinstance(item.image, SceneImage)
            assert item.image.scene.is_for_training
            assert item.image.scene.structure not in evaluated


def test_training_triplets_are_queries_with_a_right_answer_and_wrong_ones() -> None:
    triplets = training_triplets(200)[:]
    for number, triplet in enumerate(triplets):
        assert triplet.reference == triplets[number - number % 2].reference  # two queries start from each reference
        ids = [triplet.reference.id, triplet.target.id, *(item.id for item in triplet.negatives)]
        assert triplet.target.id not in (triplet.reference.id, *ids[2:])
        assert len(triplet.captions) == 1
    assert sum(bool(triplet.negatives) for triplet in triplets) > 190
    assert training_triplets(3)[2] == triplets[2]


def test_the_two_evaluation_splits_are_drawn_from_different_streams() -> None:
    val, tiny = ({scene.digest for scene in scenes_benchmark(split).gallery} for split in ("val", "tiny"))
    assert not val & tiny


def test_a_pair_does_not_depend_on_how_many_are_asked_for() -> None:
    few, many = training_pairs(5), training_pairs(50)
    assert few[:] == many[:5]
    assert few[-1] == many[4]
    assert len(few) == 5
    assert [pair.caption for pair in itertools.islice(many, 5)] == [pair.caption for pair in few]


def test_asking_for_a_pair_beyond_the_last_is_an_error_that_says_how_many_there_are() -> None:
    with pytest.raises(IndexError, match="There are 5 training samples, so 5 is out of range"):
        training_pairs(5)[5]

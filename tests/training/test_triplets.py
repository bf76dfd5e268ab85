"""What a training sees of triplets: drawn by declared rules, from the seed, the step and the place in the batch."""

from __future__ import annotations

import collections
import dataclasses
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from cirbench.errors import MissingData, UsageError
from cirbench.protocol import Item, Triplet
from cirbench.training.contrastive import composition_loss, target_loss
from cirbench.training.data import Batches, Source, open_source
from cirbench.training.data.triplets import caption_variants, draw, open_images
from cirbench.training.interface import TripletImageTraining, TripletTraining
from tests.tiny_clip import some_pairs, some_triplets, tiny_backbone
from tests.training.plain_samples import Square

if TYPE_CHECKING:
    from collections.abc import Sequence

TWO = ("is red.", "Has Long sleeves")


def square(grey: int, broken: bool = False) -> Item:
    return Item(str(grey), Square(grey, broken))


def triplet(reference: int, target: int, *captions: str, wrong: Sequence[int] = (), weight: float = 1.0) -> Triplet:
    negatives = tuple(square(grey) for grey in wrong)
    return Triplet(square(reference), captions or ("brighter",), square(target), negatives, weight=weight)


def source(*triplets: Triplet) -> Source:
    return Source("triplets", triplets, "0" * 64)


def batches(
    of: Source, size: int, view: TripletTraining | None = None, rank: int = 0, world_size: int = 1, skip_broken: int = 0
) -> Batches:
    return Batches(
        of,
        tiny_backbone(),
        size,
        0,
        "triplets",
        rank=rank,
        world_size=world_size,
        skip_broken=skip_broken,
        view=view or TripletImageTraining(),
    )


def test_the_four_ways_of_fashioniq_are_both_orders_and_each_caption_alone_equally_often() -> None:
    texts = collections.Counter(caption_variants(TWO, "four-ways", "sentence"))
    assert texts == dict.fromkeys(
        ["Is red and Has Long sleeves", "Has long sleeves and is red", "Is red", "Has long sleeves"], 2
    )


@pytest.mark.parametrize(
    ("policy", "texts"),
    [
        ("joined", {"is red. and Has Long sleeves"}),
        ("shuffled", {"is red. and Has Long sleeves", "Has Long sleeves and is red."}),
        ("one", {"is red.", "Has Long sleeves"}),
    ],
)
def test_the_other_ways_take_captions_as_annotated(policy: str, texts: set[str]) -> None:
    assert set(caption_variants(TWO, policy)) == texts  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["joined", "shuffled", "one", "four-ways"])
def test_an_empty_caption_is_left_out_before_anything_is_drawn(policy: str) -> None:
    assert set(caption_variants(("", "is red"), policy)) == {"is red"}  # type: ignore[arg-type]
    assert set(caption_variants((" ?", "is red."), policy, "sentence")) == {"Is red"}  # type: ignore[arg-type]
    with pytest.raises(MissingData, match="all its captions are empty"):
        caption_variants(("", " "), policy)  # type: ignore[arg-type]


def test_a_caption_that_is_annotated_alone_stays_as_it_is() -> None:
    assert caption_variants(("Show THREE dogs.",), "four-ways", "sentence") == ["Show THREE dogs."]


def test_a_batch_has_references_texts_and_targets_of_one_place_each() -> None:
    batch = batches(some_triplets(), 8)[2]
    assert batch.target_pixels_B3SS is not None
    for row, position in enumerate(batch.positions_B):
        sample = some_triplets().samples[int(position)]
        assert isinstance(sample, Triplet)
        assert batch.captions[row] == sample.captions[0]
        for pixels_B3SS, item in ((batch.pixels_B3SS, sample.reference), (batch.target_pixels_B3SS, sample.target)):
            assert torch.equal(pixels_B3SS[row], tiny_backbone().preprocess(item.image.open()))


@pytest.mark.slow
def test_two_processes_and_two_workers_see_what_one_process_sees() -> None:
    samples = [triplet(grey, grey + 40, *TWO, wrong=(200, 210, 220)) for grey in range(0, 32, 2)]
    view = TripletImageTraining(captions="four-ways", negatives=2, augment_reference=("crop", "flip"))
    whole = batches(source(*samples), 8, view)
    shards = [batches(source(*samples), 8, view, rank=rank, world_size=2) for rank in range(2)]
    for step in range(4):
        halves = [shard[step] for shard in shards]
        assert whole[step].captions == halves[0].captions + halves[1].captions
        assert whole[step].triplets == halves[0].triplets + halves[1].triplets
        assert torch.equal(whole[step].pixels_B3SS, torch.cat([half.pixels_B3SS for half in halves]))
    with whole.stream(0, 4, workers=2) as stream:
        for step, batch in enumerate(stream):
            assert batch.captions == whole[step].captions
            assert torch.equal(batch.pixels_B3SS, whole[step].pixels_B3SS)
    assert len({text for step in range(8) for text in whole[step].captions}) == 4


def test_negatives_are_drawn_anew_in_each_step_and_too_few_of_them_are_named() -> None:
    samples = source(*(triplet(0, 10, wrong=(1, 2, 3, 4)) for _ in range(4)))
    order = batches(samples, 4, TripletImageTraining(negatives=2))
    drawn = [tuple(item.id for item in each.negatives) for step in range(4) for each in order[step].triplets]
    assert {len(set(pair)) for pair in drawn} == {2}
    assert len(set(drawn)) > 4
    assert order[0].negative_pixels_BK3SS is not None
    assert order[0].negative_pixels_BK3SS.shape == (4, 2, 3, 32, 32)
    with pytest.raises(MissingData, match="Sample 1 of triplets cannot be used: it has 0 negatives, and 2 are to be"):
        batches(source(triplet(0, 1)), 1, TripletImageTraining(negatives=2))[0]


def test_a_triplet_with_a_broken_image_is_named_or_skipped() -> None:
    broken = dataclasses.replace(triplet(0, 10), target=square(3, broken=True))
    samples = source(broken, triplet(5, 15))
    with pytest.raises(MissingData, match="Sample 1 of triplets cannot be used: square 3 is torn"):
        batches(samples, 2)[0]
    batch = batches(samples, 2, skip_broken=1)[0]
    assert [each.target.id for each in batch.triplets] == ["15", "15"]


def test_where_an_epoch_asks_for_each_target_once_no_batch_has_one_twice() -> None:
    samples = source(*(triplet(grey, 100 + grey % 4) for grey in range(16)))
    order = batches(samples, 4, TripletImageTraining(duplicates="once"))
    assert order.per_epoch == 1
    epochs = [order[step].triplets for step in range(8)]
    assert all({each.target.id for each in epoch} == {"100", "101", "102", "103"} for epoch in epochs)
    assert len({each.reference.id for epoch in epochs for each in epoch}) > 8  # by another triplet in each epoch
    with pytest.raises(UsageError, match="holds 4 distinct targets, fewer than one batch of 5"):
        batches(samples, 5, TripletImageTraining(duplicates="once"))


def test_nothing_is_flipped_or_cropped_unless_it_is_asked_for() -> None:
    sample = some_triplets().samples[0]
    assert isinstance(sample, Triplet)
    plain = open_images(sample, TripletImageTraining(), np.random.default_rng(0))
    assert [image.tobytes() for image in plain[:2]] == [
        item.image.open().tobytes() for item in (sample.reference, sample.target)
    ]
    view = TripletImageTraining(augment_reference=("crop",), augment_target=("flip",), crop_scale=0.5)
    draws = [open_images(sample, view, np.random.default_rng(seed)) for seed in range(20)]
    areas = {image.size[0] * image.size[1] / 64**2 for image, *_ in draws}
    assert len(areas) > 10
    assert 0.45 < min(areas) <= max(areas) <= 1
    original = sample.target.image.open()
    mirrored = original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert {target.tobytes() for _, target, *_ in draws} == {original.tobytes(), mirrored.tobytes()}


def test_the_draw_of_one_triplet_follows_its_generator() -> None:
    sample, view = triplet(0, 1, *TWO), TripletTraining(captions="one")
    drawn = [draw(sample, view, np.random.default_rng([0, step, 3])).captions[0] for step in range(16)]
    assert drawn == [draw(sample, view, np.random.default_rng([0, step, 3])).captions[0] for step in range(16)]
    assert set(drawn) == set(TWO)


def test_a_method_of_pairs_refuses_triplets_and_the_other_way_round() -> None:
    with pytest.raises(
        UsageError, match="pli is trained on images with captions, and scenes:triplets:48 holds triplet"
    ):
        some_triplets().require("pairs", owner="pli")
    with pytest.raises(UsageError, match="clip4cir is trained on triplets, and scenes:48 holds no triplets"):
        some_pairs().require("triplets", owner="clip4cir")


@pytest.mark.parametrize("name", ["scenes:triplet", "scenes:triplets:many", "scenes:-4"])
def test_a_misspelt_part_of_scenes_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(UsageError, match="is not training data") as caught:
        open_source(name)
    assert "--data scenes:triplets" in str(caught.value.hint)


def test_the_digest_of_triplets_follows_their_content() -> None:
    assert some_triplets().digest == open_source("scenes:triplets:48").digest
    assert some_triplets().digest != open_source("scenes:triplets:49").digest != open_source("scenes:49").digest


def test_the_loss_is_the_cross_entropy_of_scaled_cosines() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, targets = (torch.randn(6, 5, generator=generator) for _ in range(2))
    batch = batches(source(*(triplet(grey, 100 + grey) for grey in range(6))), 6)[0]
    loss = composition_loss(queries, targets, 7.0, batch, TripletImageTraining())
    unit = [side / side.norm(dim=1, keepdim=True) for side in (queries, targets)]
    logits = 7 * unit[0] @ unit[1].T
    assert loss.item() == pytest.approx((logits.logsumexp(1) - logits.diag()).mean().item(), abs=1e-6)


def test_another_occurrence_of_a_target_is_a_wrong_answer_only_where_that_is_asked_for() -> None:
    batch = batches(source(triplet(0, 100), triplet(1, 100), triplet(2, 102)), 3)[0]
    logits = torch.zeros(3, 3)
    kept = target_loss(logits, batch, TripletImageTraining(duplicates="keep"))
    masked = target_loss(logits, batch, TripletImageTraining(duplicates="mask"))
    assert kept.item() == pytest.approx(np.log(3))
    assert masked.item() == pytest.approx((np.log(2) + np.log(2) + np.log(3)) / 3)


def test_negatives_and_weights_take_part_in_the_loss() -> None:
    samples = source(triplet(0, 100, weight=3.0), triplet(1, 101, weight=1.0))
    batch = batches(samples, 2)[0]
    first = [each.weight for each in batch.triplets].index(3.0)
    queries = targets = torch.eye(2)
    losses = torch.full((2,), np.log(1 + np.exp(-1.0)))
    plain = composition_loss(queries, targets, 1.0, batch, TripletImageTraining())
    assert plain.item() == pytest.approx(losses.mean().item())
    negatives = torch.zeros(2, 1, 2)
    negatives[first, 0, first] = 1.0  # as good as the target of the heavier one
    negatives[1 - first, 0, first] = 1.0
    loss = composition_loss(queries, targets, 1.0, batch, TripletImageTraining(), negatives)
    heavy, light = np.log(2 + np.exp(-1.0)), np.log(1 + 2 * np.exp(-1.0))
    assert loss.item() == pytest.approx((3 * heavy + light) / 4)


def test_a_step_that_opens_no_images_needs_no_memory_for_them() -> None:
    tracemalloc.start()
    batch = Batches(some_triplets(), tiny_backbone(), 48, 0, "triplet-features", view=TripletTraining())[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 * 2 * 3 * 32 * 32 * 4  # float32 pixels of references and targets
    assert (len(batch.captions), len(batch.triplets)) == (48, 48)
    assert batch.pixels_B3SS.shape == (0, 3, 32, 32)

"""Pairs come from scenes or from files, in an order that depends on nothing but the seed."""

from __future__ import annotations

import csv
import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.protocol import ImageTextPair
from cirbench.training.data import Batches, Source, open_source
from tests.tiny_clip import some_pairs, tiny_backbone

if TYPE_CHECKING:
    from pathlib import Path


def write_images(folder: Path, count: int) -> list[str]:
    names = [f"{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        Image.new("RGB", (40, 32), (number * 20, 0, 0)).save(folder / name)
    return names


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])


def batches(source: Source, size: int, seed: int = 0) -> Batches:
    return Batches(source, tiny_backbone(), size, seed)


def test_an_epoch_visits_every_pair_once_and_the_next_in_another_order() -> None:
    order = batches(some_pairs(48), 8)
    first = np.concatenate([order.positions(step) for step in range(6)])
    second = np.concatenate([order.positions(step) for step in range(6, 12)])
    assert sorted(first) == sorted(second) == list(range(48))
    assert not np.array_equal(first, second)


def test_an_incomplete_last_batch_is_left_out() -> None:
    order = batches(some_pairs(48), 7)
    assert order.per_epoch == 6
    assert len(set(np.concatenate([order.positions(step) for step in range(6)]))) == 42


def test_a_batch_depends_on_its_number_and_the_seed_only() -> None:
    one, other = batches(some_pairs(), 8), batches(some_pairs(), 8)
    assert other[4].captions == one[4].captions
    assert bool((other[4].pixels_B3SS == one[4].pixels_B3SS).all())
    assert batches(some_pairs(), 8, seed=1)[4].captions != one[4].captions


def test_csv_and_json_lines_give_the_same_pairs(tmp_path: Path) -> None:
    names = write_images(tmp_path, 3)
    write_csv(tmp_path / "pairs.csv", [(name, f'a "{name}", red') for name in names])
    lines = [json.dumps({"image": name, "caption": f'a "{name}", red', "more": 1}) for name in names]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    both = [open_source(str(tmp_path / file)) for file in ("pairs.csv", "pairs.jsonl")]
    assert both[0].samples == both[1].samples
    assert both[0].pairs[1].caption == 'a "1.png", red'
    image = both[0].pairs[1].image
    assert image is not None
    assert image.open().size == (40, 32)


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    names = write_images(tmp_path, 2)
    path = tmp_path / "pairs.csv"
    write_csv(path, [(name, "red") for name in names])
    before = open_source(str(path)).digest
    assert open_source(str(path)).digest == before
    Image.new("RGB", (40, 32), "blue").save(tmp_path / names[0])
    assert open_source(str(path)).digest != before
    assert some_pairs(40).digest != some_pairs(48).digest


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("pairs.csv", "file,words\n0.png,red\n", CorruptFile, "line 1: there is no column image, caption or text"),
        ("pairs.csv", "image,caption\n0.png,red\n,blue\n", CorruptFile, "line 3: the image is missing"),
        ("pairs.csv", "image,caption\n0.png\n", CorruptFile, "line 2: it has 1 cells, and the header has 2"),
        ("pairs.csv", "image,caption\n", UsageError, "holds no samples"),
        ("pairs.jsonl", '{"image": "0.png", "caption": "red"}\n{"image": 3}\n', CorruptFile, "line 2: Expected `str "),
        (
            "pairs.jsonl",
            '{"text": "red"}\n{"image": "0.png"}\n',
            CorruptFile,
            "line 2: it has image, and line 1 has none",
        ),
        ("pairs.jsonl", '{"words": "red"}\n', CorruptFile, "line 1: it has no image, caption or text"),
        ("pairs.xml", "0.png red\n", UsageError, "is not training data"),
    ],
)
def test_a_broken_list_is_an_error_that_names_the_line(
    tmp_path: Path, name: str, content: str, error: type[CirbenchError], message: str
) -> None:
    write_images(tmp_path, 1)
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        open_source(str(tmp_path / name))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"absent.csv does not exist"):
        open_source(str(tmp_path / "absent.csv"))
    with pytest.raises(UsageError, match="'scenes:many' is not training data"):
        open_source("scenes:many")


def test_a_broken_image_is_an_error_that_names_it_and_its_sample(tmp_path: Path) -> None:
    names = write_images(tmp_path, 3)
    path = tmp_path / "pairs.csv"
    write_csv(path, [(name, "red") for name in names])
    source = open_source(str(path))
    (tmp_path / names[1]).write_bytes((tmp_path / names[1]).read_bytes()[:50])
    with pytest.raises(CorruptFile, match=r"Sample 2 of .*csv cannot be used: The image .*1.png cannot be decoded"):
        batches(source, 3)[0]


def test_fewer_pairs_than_one_batch_are_refused() -> None:
    with pytest.raises(UsageError, match="scenes:48 holds 48 samples, fewer than one batch of 64") as caught:
        batches(some_pairs(48), 64)
    assert caught.value.hint == "For instance: --set batch_size=48"


def test_images_alone_come_without_captions_and_texts_without_images() -> None:
    images = Batches(some_pairs(8), tiny_backbone(), 8, 0, "images")[0]
    texts = Batches(some_pairs(8), tiny_backbone(), 8, 0, "texts")[0]
    assert (len(images.pixels_B3SS), images.captions) == (8, ())
    assert (len(texts.pixels_B3SS), len(texts.captions)) == (0, 8)


def test_a_part_of_a_batch_takes_its_own_rows_of_what_is_drawn_for_the_whole() -> None:
    whole = batches(some_pairs(8), 8)[0]
    part = dataclasses.replace(whole, positions_B=whole.positions_B[2:5], first=2)
    assert part.local_shard(torch.arange(8)).tolist() == [2, 3, 4]


def test_the_parts_of_all_processes_and_micro_batches_make_up_the_batch() -> None:
    whole = batches(some_pairs(), 8)
    cut = [
        Batches(some_pairs(), tiny_backbone(), 8, 0, rank=rank, world_size=2, grad_accum_steps=2) for rank in range(2)
    ]
    parts = [cut[rank].part(3, micro) for micro in range(2) for rank in range(2)]
    assert np.concatenate([part.positions_B for part in parts]).tolist() == whole.positions(3).tolist()
    assert torch.equal(torch.cat([part.pixels_B3SS for part in parts]), whole[3].pixels_B3SS)
    assert [(part.first, part.total) for part in parts] == [(0, 4), (2, 4), (0, 4), (2, 4)]


def test_a_batch_that_cannot_be_cut_into_equal_parts_is_refused() -> None:
    with pytest.raises(UsageError, match="A batch of 8 cannot be split into equal parts for 3 processes") as caught:
        Batches(some_pairs(), tiny_backbone(), 8, 0, world_size=3)
    assert caught.value.hint == "For instance: --set batch_size=6"


def test_a_stream_gives_every_micro_batch_of_the_steps_in_order() -> None:
    order = Batches(some_pairs(), tiny_backbone(), 8, 0, grad_accum_steps=2)
    with order.stream(2, 4) as stream:
        streamed = [batch.captions for batch in stream]
    assert streamed == [order.part(step, micro).captions for step in (2, 3) for micro in (0, 1)]


def test_a_source_without_what_a_method_is_trained_on_is_refused() -> None:
    source = Source("texts.txt", [ImageTextPair(None, "red")], "0" * 64)  # type: ignore[arg-type]
    source.require("texts", owner="lincir")
    with pytest.raises(UsageError, match=r"pic2word is trained on images, and texts\.txt holds no images"):
        source.require("images", owner="pic2word")

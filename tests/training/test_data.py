"""Pairs come from scenes or from files, in an order that depends on nothing but the seed."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.training.data import Batches, PairSource, open_pairs
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


def batches(source: PairSource, size: int, seed: int = 0) -> Batches:
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
    both = [open_pairs(str(tmp_path / file)) for file in ("pairs.csv", "pairs.jsonl")]
    assert both[0].pairs == both[1].pairs
    assert both[0].pairs[1].caption == 'a "1.png", red'
    assert both[0].pairs[1].image.open().size == (40, 32)


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    names = write_images(tmp_path, 2)
    path = tmp_path / "pairs.csv"
    write_csv(path, [(name, "red") for name in names])
    before = open_pairs(str(path)).digest
    assert open_pairs(str(path)).digest == before
    Image.new("RGB", (40, 32), "blue").save(tmp_path / names[0])
    assert open_pairs(str(path)).digest != before
    assert some_pairs(40).digest != some_pairs(48).digest


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("pairs.csv", "image,text\n0.png,red\n", CorruptFile, "has no column 'caption'"),
        ("pairs.csv", "image,caption\n0.png,red\n,blue\n", CorruptFile, "line 3: the image or the caption is missing"),
        ("pairs.csv", "image,caption\n0.png\n", CorruptFile, "line 2: the image or the caption is missing"),
        ("pairs.csv", "image,caption\n", UsageError, "holds no pairs"),
        ("pairs.jsonl", '{"image": "0.png", "caption": "red"}\n{"image": 3}\n', CorruptFile, "line 2: Expected `str`"),
        ("pairs.jsonl", '{"image": "0.png"}\n', CorruptFile, "line 1: .*missing required field `caption`"),
        ("pairs.txt", "0.png red\n", UsageError, "is no training data"),
    ],
)
def test_a_broken_list_is_an_error_that_names_the_line(
    tmp_path: Path, name: str, content: str, error: type[CirbenchError], message: str
) -> None:
    write_images(tmp_path, 1)
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        open_pairs(str(tmp_path / name))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"absent.csv does not exist"):
        open_pairs(str(tmp_path / "absent.csv"))
    with pytest.raises(UsageError, match="'scenes:many' is no training data"):
        open_pairs("scenes:many")


def test_a_broken_image_is_an_error_that_names_it_and_its_pair(tmp_path: Path) -> None:
    names = write_images(tmp_path, 3)
    path = tmp_path / "pairs.csv"
    write_csv(path, [(name, "red") for name in names])
    source = open_pairs(str(path))
    (tmp_path / names[1]).write_bytes((tmp_path / names[1]).read_bytes()[:50])
    with pytest.raises(CorruptFile, match=r"Pair 2 of .*pairs.csv cannot be used: The image .*1.png cannot be decoded"):
        batches(source, 3)[0]


def test_fewer_pairs_than_one_batch_are_refused() -> None:
    with pytest.raises(UsageError, match="scenes:48 holds 48 pairs, fewer than one batch of 64") as caught:
        batches(some_pairs(48), 64)
    assert caught.value.hint == "For instance: --set batch_size=48"

"""Training data by name: found below the data root, fetched by one command, and missed in one message."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from cirbench import cli
from cirbench.errors import MissingData, UnknownName, UsageError
from cirbench.training.data import named_sources, open_source
from cirbench.training.data.named import sources_called
from tests.benchmarks.files.server import serving
from tests.training.named_files import jpegs, serve_coco

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmarks.files.server import Server

IDS = (9, 25, 581_921)


@pytest.fixture
def coco(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that has COCO's train2017 with three images."""
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)
    with serving() as server:
        serve_coco(server, monkeypatch, IDS)
        yield server


def get(root: Path, *options: str) -> int:
    return cli.execute(["data", "get", "coco-captions", "--split", "train2017", "--data-root", str(root), *options])


def test_the_captions_of_coco_go_from_nothing_to_pairs(coco: Server, tmp_path: Path) -> None:
    assert get(tmp_path) == 0
    source = open_source("coco:train2017", data_root=tmp_path)
    assert len(source.samples) == 6
    assert [sample.caption for sample in source.pairs[:2]] == ["red left of green", "green is on the right of red. "]
    assert [path for path, _ in coco.requests] == ["/annotations/annotations_trainval2017.zip", "/zips/train2017.zip"]
    assert get(tmp_path) == 0
    assert len(coco.requests) == 2


def test_images_alone_are_each_there_once_and_texts_need_no_images(coco: Server, tmp_path: Path) -> None:
    assert get(tmp_path) == 0
    images = open_source("coco:train2017", data_root=tmp_path, kind="images")
    assert [str(sample.image).rpartition("/")[2] for sample in images.pairs] == [f"{number:012d}.jpg" for number in IDS]
    shutil.rmtree(tmp_path / "coco" / "train2017")
    texts = open_source("coco:train2017", data_root=tmp_path, kind="texts")
    assert len(texts.samples) == 6
    assert texts.pairs[0].image is None
    assert len({images.digest, texts.digest}) == 2


def test_a_root_named_by_the_environment_will_do(coco: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(tmp_path) == 0
    (tmp_path / "coco").rename(tmp_path / "COCO")  # the folder may be written otherwise, as for benchmarks
    monkeypatch.setenv("CIRBENCH_DATA", str(tmp_path))
    assert len(open_source("coco:train2017").samples) == 6


def test_missing_captions_and_missing_images_are_one_message_with_the_command(coco: Server, tmp_path: Path) -> None:
    command = f"cirbench data get coco:train2017 --data-root {tmp_path}"
    with pytest.raises(
        MissingData, match=r"captions of coco:train2017 are missing; tried .*captions_train2017\.json"
    ) as caught:
        open_source("coco:train2017", data_root=tmp_path)
    assert caught.value.hint == command
    assert get(tmp_path) == 0
    (tmp_path / "coco" / "train2017" / f"{25:012d}.jpg").unlink()
    with pytest.raises(MissingData, match=r"1 of 3 images of coco:train2017 are missing: 000000000025\.") as caught:
        open_source("coco:train2017", data_root=tmp_path)
    assert caught.value.hint == command


def test_a_plan_says_sizes_and_what_is_there(coco: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["data", "plan", "coco-captions", "--split", "train2017"]) == 0
    out = capsys.readouterr().out
    assert "coco/annotations_trainval2017.zip" in out
    assert "COCO 2017 train: 3 images; licence: the photographers' own" in out
    assert out.endswith("next: cirbench data get coco:train2017 --data-root DIR\n")
    get(tmp_path)
    capsys.readouterr()
    assert cli.execute(["data", "plan", "coco:train2017", "--data-root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "3 images, 3 of them there" in out
    assert "to fetch: 0 B in 0 files" in out


def test_annotations_alone_can_be_got(coco: Server, tmp_path: Path) -> None:
    assert get(tmp_path, "--annotations-only") == 0
    assert [path for path, _ in coco.requests] == ["/annotations/annotations_trainval2017.zip"]
    assert not (tmp_path / "coco" / "train2017").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cc3m", "img2dataset --url_list Train_GCC-training.tsv --input_format tsv"),
        ("cc12m", "curl -LO https://storage.googleapis.com/conceptual_12m/cc12m.tsv"),
        ("imagenet:test", "Register at https://image-net.org, fetch ILSVRC2012_img_test_v10102019.tar"),
    ],
)
def test_a_corpus_that_cirbench_does_not_fetch_says_how(
    name: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingData) as caught:
        open_source(name, data_root=tmp_path)
    assert told in str(caught.value)
    assert cli.execute(["data", "get", name, "--data-root", str(tmp_path)]) == 3
    assert told in capsys.readouterr().err


def test_imagenet_is_its_images_and_a_table_as_the_captioner_writes_it(tmp_path: Path) -> None:
    folder = tmp_path / "imagenet"
    for name, content in jpegs((1, 2), "test").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert len(open_source("imagenet:test", data_root=tmp_path, kind="images").samples) == 2
    with pytest.raises(MissingData, match="captions are missing") as caught:
        open_source("imagenet:test", data_root=tmp_path, kind="pairs")
    assert str(caught.value.hint).startswith(f"cirbench caption --images {folder}/test --model ")
    rows = [{"image": f"test/{number:012d}.jpg", "caption": f"number {number}"} for number in (1, 2)]
    (folder / "captions_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = open_source("imagenet:test", data_root=tmp_path, kind="pairs")
    assert [sample.caption for sample in pairs.pairs] == ["number 1", "number 2"]
    assert pairs.pairs[0].image is not None
    pairs.pairs[0].image.open()


def test_without_a_data_root_the_message_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)
    with pytest.raises(MissingData, match="Nothing says where the data sets are") as caught:
        open_source("cc3m")
    assert "--data-root DIR" in str(caught.value.hint)


def test_a_misspelt_part_of_a_corpus_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="'coco:train2014' is not training data") as caught:
        open_source("coco:train2014")
    assert caught.value.hint == "For instance: --data coco:train2017, or --data coco:val2017"
    with pytest.raises(UnknownName, match="no split of coco-captions called 'test'"):
        sources_called("coco-captions", "test")


def test_every_named_source_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["list", "sources", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(named_sources())


def test_training_data_are_described_and_checked_by_name(
    coco: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get(tmp_path) == 0
    capsys.readouterr()
    root = ["--data-root", str(tmp_path)]
    assert cli.execute(["data", "describe", "coco:train2017", *root]) == 0
    assert capsys.readouterr().out == (
        "coco:train2017\n"
        "  samples            6\n"
        "  images             3 different ones\n"
        "  captions           6\n"
        "  words              33 in all, mean 5.500, median 5.5, 4 to 7 per caption\n"
        "  repeated captions  0\n"
    )
    assert cli.execute(["data", "check", "coco:train2017", *root]) == 0
    assert capsys.readouterr().out == "coco:train2017: 3 of 3 images are there and whole\n"
    broken = tmp_path / "coco" / "train2017" / f"{25:012d}.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    assert cli.execute(["data", "check", "coco:train2017", *root]) == 3
    out = capsys.readouterr().out
    assert "2 of 3 images are there and whole" in out
    assert str(broken) in out


def test_a_table_of_ones_own_is_described_and_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.csv").write_text("image,caption\nnone.png,a red thing\n")
    with pytest.raises(MissingData, match=r"none\.png"):
        open_source(str(tmp_path / "pairs.csv"))
    (tmp_path / "texts.txt").write_text("a red thing\na red thing\n")
    assert cli.execute(["data", "describe", str(tmp_path / "texts.txt")]) == 0
    out = capsys.readouterr().out
    assert "samples            2" in out
    assert "repeated captions  1" in out
    assert cli.execute(["data", "check", str(tmp_path / "texts.txt")]) == 2
    assert "holds no images to check" in capsys.readouterr().err


def test_a_folder_that_is_called_like_a_source_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)
    for name, content in jpegs((1, 2), "cc3m").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MissingData) as caught:
        open_source("cc3m")
    assert str(caught.value.hint).endswith("cc3m is a name; for the folder here, type ./cc3m")
    assert len(open_source("./cc3m").samples) == 2


def test_conceptual_captions_are_what_img2dataset_left_below_the_data_root(tmp_path: Path) -> None:
    images = jpegs((1, 2), "00000")
    texts = {name.replace(".jpg", ".txt"): b"words" for name in images}
    for name, content in {**images, **texts, "00000_stats.json": b"{}"}.items():
        (tmp_path / "cc12m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cc12m" / name).write_bytes(content)
    source = open_source("cc12m", data_root=tmp_path)
    assert source.name == "cc12m"
    assert [sample.caption for sample in source.pairs] == ["words", "words"]

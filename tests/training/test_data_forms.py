"""The forms in which others keep images with captions are recognised by what lies there, and damage is named."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.training.data import Pair, Source, open_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def picture(grey: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (grey,) * 3).save(file, kind)
    return file.getvalue()


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def grey(sample: Pair) -> int | None:
    return None if sample.image is None else int(np.asarray(sample.image.open())[0, 0, 0])


def held(source: Source) -> list[tuple[int | None, str | None]]:
    return [(grey(sample), sample.caption) for sample in source.pairs]


def parquet(path: Path, columns: Mapping[str, Any], types: Mapping[str, Any] | None = None) -> Path:
    schema = None if types is None else pa.schema([*types.items()])
    pq.write_table(pa.table(dict(columns), schema=schema), path)
    return path


TWO = {"a.png": picture(1), "sub/b.png": picture(2)}
PAIRS = [(1, "one"), (2, "two")]
HF_IMAGE = [{"bytes": picture(1), "path": "a.png"}, {"bytes": picture(2), "path": None}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", "file_name,text\na.png,one\nsub/b.png,two\n"),
        ("metadata.jsonl", '{"file_name": "a.png", "caption": "one"}\n{"file_name": "sub/b.png", "caption": "two"}\n'),
    ],
)
def test_an_image_folder_is_what_its_metadata_say(name: str, content: str, tmp_path: Path) -> None:
    said: list[str] = []
    folder = write(tmp_path, {**TWO, "third.png": picture(3), name: content})
    assert held(open_source(str(folder), say=said.append)) == PAIRS
    assert said == [f"{folder / name}: 1 images of {folder} have no row, and are not used: third.png."]


def test_metadata_without_captions_are_images_and_their_columns_are_named(tmp_path: Path) -> None:
    said: list[str] = []
    folder = write(tmp_path, {**TWO, "metadata.csv": "file_name,label\na.png,3\nsub/b.png,4\n"})
    assert held(open_source(str(folder), say=said.append)) == [(1, None), (2, None)]
    assert said == [f"{folder / 'metadata.csv'}: not used: the column label."]


def test_a_table_with_tabs_is_a_tsv(tmp_path: Path) -> None:
    write(tmp_path, {**TWO, "pairs.tsv": "filepath\ttitle\na.png\tone\nsub/b.png\ttwo\n"})
    assert held(open_source(f"{tmp_path}/pairs.tsv")) == PAIRS


def test_img2dataset_in_each_of_its_layouts_is_the_same_pairs(tmp_path: Path) -> None:
    from tests.training.test_data_sources import tar_of

    rows = {"000000000": picture(1), "000000001": picture(2)}
    words = dict(zip(rows, ("one", "two"), strict=True))
    members: dict[str, bytes | str] = {}
    for key, content in rows.items():
        members |= {f"{key}.png": content, f"{key}.txt": words[key], f"{key}.json": json.dumps({"key": key})}
    beside: dict[str, bytes | str] = {"00000_stats.json": "{}", "00000.parquet": b"PAR1 of metadata, which is not read"}
    write(tmp_path / "web", {"00000.tar": tar_of(members), **beside})
    write(tmp_path / "files", {**{f"00000/{name}": content for name, content in members.items()}, **beside})
    (tmp_path / "parquet").mkdir()
    columns = {
        "key": [*rows, "000000002"],
        "caption": ["one", "two", "gone"],
        "status": ["success", "success", "failed_to_download"],
        "jpg": [*rows.values(), None],
    }
    parquet(tmp_path / "parquet" / "00000.parquet", columns)
    write(tmp_path / "parquet", {"00000_stats.json": "{}"})
    said: list[str] = []
    for layout in ("web", "files", "parquet"):
        assert held(open_source(f"{tmp_path}/{layout}", say=said.append)) == PAIRS, layout
    assert not [line for line in said if "neither an image" in line]
    assert said[-1].endswith("1 rows have no image, since it could not be downloaded, and are not used.")


def test_parquet_holds_paths_or_bytes_or_the_images_of_datasets(tmp_path: Path) -> None:
    write(tmp_path, TWO)
    words = ["one", "two"]
    paths = parquet(tmp_path / "paths.parquet", {"image": ["a.png", "sub/b.png"], "caption": words, "more": [1, 2]})
    content = parquet(tmp_path / "bytes.parquet", {"image": [picture(1), picture(2, "JPEG")], "text": words})
    images = parquet(tmp_path / "images.parquet", {"image": HF_IMAGE, "text": words})
    said: list[str] = []
    for path in (paths, content, images):
        assert held(open_source(str(path), say=said.append)) == PAIRS
    assert f"{paths}: not used: the column more." in said
    assert any(line.startswith(f"Unpacking the images of {content} into ") for line in said)
    again: list[str] = []
    digests = {open_source(str(content), say=again.append).digest for _ in range(2)}
    assert len(digests) == 1
    assert again == []


def test_texts_in_parquet_need_no_images(tmp_path: Path) -> None:
    path = parquet(tmp_path / "pairs.parquet", {"image": [picture(1), b"not an image"], "text": ["one", "two"]})
    assert held(open_source(str(path), kind="texts")) == [(None, "one"), (None, "two")]


def test_a_folder_of_parquet_files_is_one_source(tmp_path: Path) -> None:
    types = {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "text": pa.string()}
    for number, image in enumerate(HF_IMAGE):
        path = tmp_path / f"train-0000{number}-of-00002.parquet"
        parquet(path, {"image": [image], "text": [("one", "two")[number]]}, types)
    assert held(open_source(str(tmp_path))) == PAIRS


def test_a_data_set_that_datasets_saved_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    rows = datasets.Dataset.from_dict({"image": HF_IMAGE, "caption": ["one", "two"]}, features=features)
    rows.save_to_disk(str(tmp_path / "one"))
    assert held(open_source(str(tmp_path / "one"))) == PAIRS
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(UsageError, match="holds 2 splits of a data set: test, train") as caught:
        open_source(str(tmp_path / "splits"))
    assert caught.value.hint == f"Name one of them: --data {tmp_path}/splits/test"
    assert held(open_source(str(tmp_path / "splits" / "train"))) == PAIRS


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"label": [1]}, "there is no column image, caption or text in label"),
        ({"image": [1], "caption": ["one"]}, "the column image holds int64, not paths, bytes or images"),
        ({"image": ["a.png"], "caption": [["one", "uno"]]}, r"the column caption holds list<.*>, not texts"),
        ({"image": ["a.png", "b.png"], "caption": ["one", None]}, "row 2: the caption is missing"),
        ({"image": ["a.png", ""], "caption": ["one", "two"]}, "row 2: the image is missing"),
        ({"image": [b"GIF87 is cut"], "caption": ["one"]}, "row 1: its image is of no format that Pillow knows"),
        ({"image": [picture(1), None], "caption": ["one", "two"]}, "row 2: the image is missing"),
        ({"image": [picture(1)], "caption": [" "]}, "row 1: the caption is missing"),
        ({"image": [picture(1)], "caption": ["one"], "text": ["uno"]}, "it has both caption and text"),
        ({"url": ["https://a/b.png"], "caption": ["one"]}, "there is no column of images in .*, only their addresses"),
        (
            {"image": [*HF_IMAGE, {"bytes": None, "path": "a.png"}], "text": ["one", "two", "three"]},
            "row 3: its image is",
        ),
    ],
)
def test_what_cannot_be_used_in_parquet_is_said_with_its_row(
    columns: dict[str, Any], told: str, tmp_path: Path
) -> None:
    path = parquet(tmp_path / "pairs.parquet", columns)
    with pytest.raises(CorruptFile, match=told):
        open_source(str(path))


@pytest.mark.parametrize(
    ("files", "data", "told"),
    [
        ({"p.parquet": b"PAR1 and no more"}, "p.parquet", r"p\.parquet cannot be read: "),
        ({"p.parquet": "image,caption\n"}, "p.parquet", r"p\.parquet cannot be read: Parquet magic bytes not found"),
        ({"p.parquet": "version https://git-lfs.github.com/spec/v1\n"}, "p.parquet", "is a pointer of git-lfs"),
        ({}, "absent.parquet", r"absent\.parquet does not exist"),
        ({"f/metadata.csv": "image,text\na.png,one\n"}, "f", "f holds no images"),
        ({"f/a.png": b"x", "f/metadata.csv": "label\n3\n"}, "f", "line 1: there is no column image, caption or text"),
        ({"f/a.png": b"x", "f/metadata.csv": "file_name,text\na.png,\n"}, "f", "line 2: the text is missing"),
        ({"f/a.png": b"x", "f/metadata.csv": "file_name,text\nb.png,one\n"}, "f", r"b\.png"),
        (
            {"f/a.png": b"x", "f/metadata.jsonl": '{"file_name": 3, "text": "one"}'},
            "f",
            "the file_name 3 is not a text",
        ),
        ({"p.tsv": "image,caption\na.png,one\n"}, "p.tsv", "its columns are separated by commas, not by tabs"),
        ({"p.tsv": "image\tcaption\na.png\n"}, "p.tsv", "line 2: it has 1 cells, and the header has 2"),
        ({"f/state.json": "{}", "f/dataset_info.json": "{}"}, "f", "f cannot be read: "),
    ],
)
def test_what_is_wrong_with_a_form_is_said(files: dict[str, bytes | str], data: str, told: str, tmp_path: Path) -> None:
    write(tmp_path, files)
    with pytest.raises(CirbenchError, match=told):
        open_source(f"{tmp_path}/{data}")


def test_two_descriptions_of_one_folder_are_refused_with_the_way_to_name_one(tmp_path: Path) -> None:
    write(tmp_path, {**TWO, "metadata.csv": "file_name,text\na.png,x\n", "metadata.jsonl": "{}"})
    with pytest.raises(UsageError, match=r"holds metadata\.csv and metadata\.jsonl, and only one") as caught:
        open_source(str(tmp_path))
    assert caught.value.hint == f"Name it: --data {tmp_path} --captions {tmp_path}/metadata.csv"


def test_a_folder_of_tfrecords_says_what_to_write_instead(tmp_path: Path) -> None:
    write(tmp_path, {"00000.tfrecord": b"x", "00000.parquet": b"x", "00000_stats.json": "{}"})
    with pytest.raises(UsageError, match="holds TFRecords, which cirbench does not read") as caught:
        open_source(str(tmp_path))
    assert "--output_format webdataset" in str(caught.value.hint)


def test_without_pyarrow_the_message_is_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "pairs.parquet", {"image": ["a.png"]})
    for module in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingData) as caught:
        open_source(str(path))
    assert caught.value.hint == "pip install 'cirbench[parquet]'"

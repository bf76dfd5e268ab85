"""Triplets from tables, shards and the files of benchmarks; whatever cannot be trained on is named before it begins."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.protocol import Triplet
from cirbench.training.data import Batches, Source, open_source
from cirbench.training.data.named import CirrTriplets, FashionIqTriplets
from cirbench.training.data.source import Asked
from cirbench.training.interface import TripletImageTraining
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate("abcd"):
        Image.new("RGB", (32, 32), (number * 60, 0, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


def written(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def told(source: Source) -> list[Any]:
    found = []
    for place in range(len(source.samples)):
        sample = source.samples[place]
        assert isinstance(sample, Triplet)
        negatives = [item.id for item in sample.negatives]
        found.append(
            [sample.reference.id, list(sample.captions), sample.target.id, negatives, sample.group, sample.weight]
        )
    return found


ROW = {"reference": "a.png", "text": ["redder", "no dots"], "target": "b.png", "negatives": ["c.png", "d.png"],
       "group": "7", "category": "dress", "weight": 2.0}  # fmt: skip
EXPECTED = [["a.png", ["redder", "no dots"], "b.png", ["c.png", "d.png"], "7", 2.0]]


def test_every_form_of_a_table_gives_the_same_triplets(images: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = "reference,text,text2,target,negatives,group,category,weight"
    cells = "a.png,redder,no dots,b.png,c.png|d.png,7,dress,2.0"
    parquet.write_table(pyarrow.Table.from_pylist([ROW]), images / "t.parquet")
    paths = [
        written(images / "t.csv", columns, cells),
        written(images / "t.tsv", columns.replace(",", "\t"), cells.replace(",", "\t")),
        written(images / "t.jsonl", json.dumps(ROW)),
        written(images / "t.json", json.dumps([ROW])),
        str(images / "t.parquet"),
    ]
    assert [told(open_source(path)) for path in paths] == [EXPECTED] * 5


def test_images_may_lie_in_a_folder_of_their_own(images: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("lists")
    table = written(elsewhere / "t.csv", "reference,caption,target", "a.png,redder,b.png")
    source = open_source(str(images), table)
    assert told(source) == [["a.png", ["redder"], "b.png", [], None, 1.0]]
    assert source.triplets[0].target.image.open().getpixel((0, 0)) == (60, 0, 0)


def test_the_files_of_lasco_covr_and_megapairs_are_read_as_published(images: Path) -> None:
    lasco = [{"qid": 3, "query-image": [12, "a.png"], "query-text": "redder", "target-image": [13, "b.png"]}]
    mega = {"q_img": "a.png", "q_text": ["redder", "more red"], "t_img": "b.png", "hns": ["a.png", "c.png"]}
    covr = written(
        images / "covr.csv", "txt1,txt2,pth1,pth2,edit", "x,y,a,b,make it red", """x,y,c,d,"['one', 'two']\""""
    )
    assert told(open_source(written(images / "lasco.json", json.dumps(lasco)))) == [
        ["a.png", ["redder"], "b.png", [], None, 1.0]
    ]
    assert told(open_source(written(images / "mega.jsonl", json.dumps(mega)))) == [
        ["a.png", [text], "b.png", ["c.png"], None, 1.0] for text in ("redder", "more red")
    ]
    assert [row[:3] for row in told(open_source(covr))] == [
        ["a", ["make it red"], "b"], ["c", ["one"], "d"], ["c", ["two"], "d"]
    ]  # fmt: skip


BAD = {
    "an unknown image": ("a.png,redder,z.png,", "line 2: there is no image 'z.png'"),
    "a reference that is the target": ("a.png,redder,a.png,", "line 2: its reference is its target, 'a.png'"),
    "an empty text": ("a.png, ,b.png,", "line 2: its text is empty"),
    "negatives with the target": (
        "a.png,redder,b.png,c.png|b.png",
        "line 2: its negatives contain its target, 'b.png'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_triplet_of_no_use_is_named_before_anything_runs_and_may_be_left_out(images: Path, case: str) -> None:
    row, problem = BAD[case]
    path = written(images / "t.csv", "reference,text,target,negatives", row, "a.png,redder,c.png,", "b.png,less,c.png,")
    source = open_source(path)
    with pytest.raises(MissingData) as caught:
        Batches(source, tiny_backbone(), 2, 0, "triplets", view=TripletImageTraining())
    assert caught.value.message == f"1 of 3 triplets of {path} cannot be used: {problem}."
    assert caught.value.hint == "Repair them, or leave them out: --skip-broken 1"
    batches = Batches(source, tiny_backbone(), 3, 0, "triplets", skip_broken=1, view=TripletImageTraining())
    assert {triplet.target.id for triplet in batches[0].triplets} == {"c.png"}
    assert batches.skipped == {0}


@pytest.mark.parametrize(
    ("name", "lines", "problem"),
    [
        (
            "t.csv",
            ["reference,text,target", "a.png,redder,b.png,c.png"],
            "line 2: it has 4 cells, and the header has 3",
        ),
        ("t.csv", ["reference,target,words", "a.png,b.png,redder"], "line 1: there are no columns reference, text and"),
        ("t.jsonl", ['{"reference": "a.png", "target": "b.png"}'], "line 1: it has none of reference, text and target"),
        ("t.json", ['[{"reference": "a.png", "target": "b.png", "text": 3, "weight": "x"}]'], "row 1: Expected"),
        (
            "t.jsonl",
            ['{"reference": "a.png", "text": "x", "target": "b.png", "weight": 0}'],
            "line 1: Expected `float` >",
        ),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused_with_its_place(
    images: Path, name: str, lines: Sequence[str], problem: str
) -> None:
    with pytest.raises(CorruptFile) as caught:
        open_source(written(images / name, *lines))
    assert problem in caught.value.message


def test_columns_that_are_not_used_are_named(images: Path) -> None:
    said: list[str] = []
    open_source(written(images / "t.csv", "id,reference,text,target", "1,a.png,redder,b.png"), say=said.append)
    assert said == [f"{images / 't.csv'}: not used: id."]


def shard(path: Path, members: Mapping[str, bytes]) -> str:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return str(path)


def test_shards_hold_two_images_and_a_text_of_one_name(images: Path) -> None:
    pixels = (images / "b.png").read_bytes()
    whole = {"1.reference.png": pixels, "1.target.png": pixels, "1.txt": b"make it red", "1.mask.png": pixels}
    half = {"2.query.png": pixels, "2.txt": b"make it blue"}
    said: list[str] = []
    source = open_source(shard(images / "s.tar", {**whole, **half}), kind="triplets", say=said.append)
    assert told(source) == [["s.tar/1.reference", ["make it red"], "s.tar/1.target", [], None, 1.0]]
    assert source.triplets[0].reference.image.open().size == (32, 32)
    assert said == [f"{images / 's.tar'}: not used: 1.mask.png, 2 (without target)."]
    with pytest.raises(UsageError, match="holds no triplets"):
        open_source(shard(images / "half.tar", half), kind="triplets")


def cirr_files(root: Path) -> Path:
    (root / "cirr/captions").mkdir(parents=True)
    (root / "cirr/image_splits").mkdir()
    names = [f"train-1-0-img{number}" for number in range(7)]
    for name in names:
        (root / "cirr/train/34").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(root / f"cirr/train/34/{name}.png")
    row = {"pairid": 12, "reference": names[0], "target_hard": names[1], "caption": "Show more dogs.",
           "target_soft": {names[1]: 1.0, names[2]: 0.5, names[3]: -1.0},
           "img_set": {"id": 3, "members": names[:6], "reference_rank": 1}}  # fmt: skip
    (root / "cirr/captions/cap.rc2.train.json").write_text(json.dumps([row]))
    (root / "cirr/image_splits/split.rc2.train.json").write_text(json.dumps({name: f"./{name}.png" for name in names}))
    return root


def test_the_groups_of_cirr_are_negatives_but_for_soft_targets(tmp_path: Path) -> None:
    root = cirr_files(tmp_path)
    found = CirrTriplets("cirr:train", "", expected={"triplets": 1, "images": 7})
    source = found.open(Asked("cirr:train", data_root=root))
    names = [f"train-1-0-img{number}" for number in range(6)]
    assert told(source) == [[names[0], ["Show more dogs."], names[1], names[3:6], "3", 1.0]]
    with pytest.raises(CorruptFile, match="it holds 7 images, not 16939"):
        CirrTriplets("cirr:train", "").open(Asked("cirr:train", data_root=cirr_files(tmp_path / "again")))


def test_the_garments_of_fashioniq_keep_both_captions_and_their_category(tmp_path: Path) -> None:
    (tmp_path / "fashioniq/captions").mkdir(parents=True)
    (tmp_path / "fashioniq/images").mkdir()
    for name in ("A1", "B1"):
        Image.new("RGB", (32, 32)).save(tmp_path / f"fashioniq/images/{name}.jpg")
    rows = [{"candidate": "A1", "target": "B1", "captions": ["", "is red"]}]
    for category in ("dress", "toptee"):
        (tmp_path / f"fashioniq/captions/cap.{category}.train.json").write_text(json.dumps(rows))
    found = FashionIqTriplets("f", "", categories=("dress", "toptee"), expected={"dress": 1, "toptee": 1})
    source = found.open(Asked("f", data_root=tmp_path))
    assert told(source) == [["A1", ["", "is red"], "B1", [], None, 1.0]] * 2
    assert [sample.category for sample in source.triplets] == ["dress", "toptee"]
    assert not source.unusable  # one of its captions says something


def test_what_is_missing_of_a_named_set_is_said_with_its_command(tmp_path: Path) -> None:
    with pytest.raises(CirbenchError, match="A file of the data set is missing"):
        open_source("fashioniq:train:dress", data_root=tmp_path)
    with pytest.raises(UsageError, match="is not training data"):
        open_source("fashioniq:train:trousers", data_root=tmp_path)


@pytest.mark.skipif(not os.environ.get("CIRBENCH_DATA"), reason="needs the annotations in CIRBENCH_DATA")
def test_the_published_list_of_cirrs_training_images_has_the_expected_count() -> None:
    split = Path(os.environ["CIRBENCH_DATA"]) / "cirr/image_splits/split.rc2.train.json"
    assert len(json.loads(split.read_text())) == CirrTriplets("cirr:train", "").expected["images"]

"""Triplets from tables, shards and the files of benchmarks; whatever cannot be trained on is named before it begins."""

from __future__ import annotations

import io
import json
import os
import tarfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from PIL import Image

from cirbench.benchmarks.catalogue import load_protocol
from cirbench.cli import execute
from cirbench.errors import CheckFailed, CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.methods.interface import find_method
from cirbench.methods.training import training_parameters, training_request
from cirbench.protocol import Triplet
from cirbench.runs.training import refuse_overlap
from cirbench.training.data import Batches, Source, open_source
from cirbench.training.data.named import CirrTriplets, FashionIqTriplets
from cirbench.training.data.source import Asked, TripletCensus, describe_source
from cirbench.training.interface import TripletImageTraining
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


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


Given: TypeAlias = tuple[str, str, str, tuple[str, ...]]
"""Reference, text, target and negatives."""


def as_csv(folder: Path, rows: Sequence[Given], sep: str = ",", name: str = "t.csv") -> Source:
    lines = [sep.join((*cells, "|".join(negatives))) for *cells, negatives in rows]
    return open_source(written(folder / name, sep.join(("reference", "text", "target", "negatives")), *lines))


def as_objects(rows: Sequence[Given]) -> list[dict[str, Any]]:
    return [dict(zip(("reference", "text", "target", "negatives"), row, strict=True)) for row in rows]


def as_jsonl(folder: Path, rows: Sequence[Given]) -> Source:
    return open_source(written(folder / "t.jsonl", *map(json.dumps, as_objects(rows))))


def as_parquet(folder: Path, rows: Sequence[Given]) -> Source:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(as_objects(rows)), folder / "t.parquet")
    return open_source(str(folder / "t.parquet"))


def as_lasco(folder: Path, rows: Sequence[Given]) -> Source:
    found = [{"qid": 1, "query-image": [1, r], "query-text": t, "target-image": [2, g]} for r, t, g, _ in rows]
    return open_source(written(folder / "t.json", json.dumps(found)))


def as_covr(folder: Path, rows: Sequence[Given]) -> Source:
    lines = [f"x,y,{Path(reference).stem},{Path(target).stem},{text}" for reference, text, target, _ in rows]
    return open_source(written(folder / "t.csv", "txt1,txt2,pth1,pth2,edit", *lines))


def as_megapairs(folder: Path, rows: Sequence[Given]) -> Source:
    found = [{"q_img": r, "q_text": [t], "t_img": g, "hns": [r, *negatives]} for r, t, g, negatives in rows]
    return open_source(written(folder / "t.jsonl", *map(json.dumps, found)))


def as_shards(folder: Path, rows: Sequence[Given]) -> Source:
    members: dict[str, bytes] = {}
    for number, (reference, text, target, _) in enumerate(rows):
        images = {"reference": folder / reference, "target": folder / target}
        members |= {f"{number}.{role}.png": path.read_bytes() for role, path in images.items()}
        members[f"{number}.txt"] = text.strip().encode()
    return open_source(shard(folder / "t.tar", members), kind="triplets")


def as_cirr(folder: Path, rows: Sequence[Given]) -> Source:
    """Rows of images that the split does not list are of images that are not there."""
    for part in ("captions", "image_splits", "train/0"):
        (folder / "cirr" / part).mkdir(parents=True)
    names = [path.stem for path in sorted(folder.glob("*.png"))]
    for name in names:
        (folder / f"cirr/train/0/{name}.png").write_bytes((folder / f"{name}.png").read_bytes())
    found = [
        {"pairid": number, "reference": Path(reference).stem, "caption": text, "target_hard": Path(target).stem,
         "img_set": {"id": number, "members": []}}
        for number, (reference, text, target, _) in enumerate(rows)
    ]  # fmt: skip
    (folder / "cirr/captions/cap.rc2.train.json").write_text(json.dumps(found))
    (folder / "cirr/image_splits/split.rc2.train.json").write_text(json.dumps({name: f"./{name}" for name in names}))
    expected = {"triplets": len(rows), "images": len(names)}
    return CirrTriplets("cirr:train", "", expected=expected).open(Asked("cirr:train", data_root=folder))


def as_fashioniq(folder: Path, rows: Sequence[Given]) -> Source:
    (folder / "fashioniq/captions").mkdir(parents=True)
    (folder / "fashioniq/images").mkdir()
    for path in folder.glob("*.png"):
        (folder / f"fashioniq/images/{path.name}").write_bytes(path.read_bytes())
    found = [{"candidate": Path(r).stem, "target": Path(g).stem, "captions": [t, ""]} for r, t, g, _ in rows]
    (folder / "fashioniq/captions/cap.dress.train.json").write_text(json.dumps(found))
    sets = FashionIqTriplets("fashioniq:train:dress", "", categories=("dress",), expected={"dress": len(rows)})
    return sets.open(Asked("fashioniq:train:dress", data_root=folder))


FORMS: dict[str, tuple[Callable[..., Source], str]] = {
    "csv": (as_csv, "line 2"),
    "tsv": (partial(as_csv, sep="\t", name="t.tsv"), "line 2"),
    "semicolons": (partial(as_csv, sep=";"), "line 2"),
    "jsonl": (as_jsonl, "line 1"),
    "parquet": (as_parquet, "row 1"),
    "lasco": (as_lasco, "row 1"),
    "covr": (as_covr, "line 2"),
    "megapairs": (as_megapairs, "line 1"),
    "shards": (as_shards, "t.tar, 0"),
    "cirr": (as_cirr, "pair 0"),
    "fashioniq": (as_fashioniq, "dress 0"),
}
"""What writes and opens each form, and how messages call its first row."""
FLAWS: dict[str, tuple[Given, str]] = {
    "an unknown image": (("a.png", "redder", "z.png", ()), "there is no image 'z{}'"),
    "a reference that is the target": (("a.png", "redder", "a.png", ()), "its reference is its target, 'a{}'"),
    "an empty text": (("a.png", " ", "b.png", ()), "its text is empty"),
    "negatives with the target": (
        ("a.png", "redder", "b.png", ("c.png", "b.png")),
        "its negatives contain its target, 'b{}'",
    ),
}
WITHOUT_NEGATIVES = ("lasco", "covr", "shards", "cirr", "fashioniq")
CASES = [
    (form, flaw)
    for form in FORMS
    for flaw in FLAWS
    if not (flaw == "negatives with the target" and form in WITHOUT_NEGATIVES)
    and not (flaw == "an unknown image" and form == "shards")  # a sample without an image is none; see below
]


@pytest.mark.parametrize(("form", "flaw"), CASES)
def test_a_triplet_of_no_use_is_named_before_anything_runs_and_may_be_left_out(
    images: Path, form: str, flaw: str
) -> None:
    (opened, place), (row, problem) = FORMS[form], FLAWS[flaw]
    source = opened(images, [row, ("a.png", "redder", "c.png", ()), ("b.png", "less", "c.png", ())])
    problem = problem.format("" if form in ("covr", "cirr", "fashioniq") else ".png")
    problem = "its reference is its target" if form == "shards" and "is its target" in problem else problem
    with pytest.raises(MissingData) as caught:
        Batches(source, tiny_backbone(), 2, 0, "triplets", view=TripletImageTraining())
    assert caught.value.message == f"1 of 3 triplets of {source.name} cannot be used: {place}: {problem}."
    assert caught.value.hint == "Repair them, or leave them out: --skip-broken 1"
    batches = Batches(source, tiny_backbone(), 3, 0, "triplets", skip_broken=1, view=TripletImageTraining())
    assert {triplet.target.image.open().getpixel((0, 0)) for triplet in batches[0].triplets} == {(120, 0, 0)}
    assert batches.skipped == {0}


@pytest.mark.parametrize("form", FORMS)
def test_triplets_of_every_form_that_show_images_of_the_protocol_are_counted(images: Path, form: str) -> None:
    """By the content of the images, whatever they are called here and there."""
    folder = images / "evaluated"
    (folder / "images").mkdir(parents=True)
    for new, old in (("1.png", "a.png"), ("2.png", "c.png"), ("3.png", "d.png")):
        (folder / "images" / new).write_bytes((images / old).read_bytes())
    written(folder / "queries.csv", "query_id,reference,text,targets", "1,images/1.png,redder,2.png")
    protocol = load_protocol(str(folder))
    source = FORMS[form][0](images, [("a.png", "redder", "b.png", ()), ("b.png", "redder", "c.png", ())])
    spec, backbone = find_method("combiner"), tiny_backbone()
    request = training_request(spec, backbone, source, training_parameters(spec, "", {}))
    with pytest.raises(CheckFailed, match=r"^2 images of own/evaluated@1 are among those of .*: ") as caught:
        refuse_overlap(request, [protocol], allowed=False)
    assert "--allow-overlap" in str(caught.value.hint)
    assert refuse_overlap(request, [protocol], allowed=True) == {"own/evaluated@1": 2}


HEADER = "reference,text,target"
OWN = '"reference": "a.png", "target": "b.png"'
REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "too many cells": ("t.csv", f"{HEADER}\na.png,redder,b.png,c.png", "line 2: it has 4 cells, and the header has 3"),
    "too few cells": ("t.csv", f"{HEADER}\na.png,redder", "line 2: it has 2 cells, and the header has 3"),
    "a missing column": (
        "t.csv",
        "reference,target,words\na.png,b.png,x",
        "line 1: there are no columns reference, text and target in ",
    ),
    "capitals": ("t.csv", "Reference,Text,Target\na.png,x,b.png", "line 1: there are no columns reference, text and"),
    "a table of pairs": ("t.csv", "image,caption\na.png,x", "line 1: there are no columns reference, text and"),
    "a table of queries": ("t.csv", "query_id,reference,text,targets\n1,a.png,x,b.png", "no columns reference, text"),
    "a column twice": (
        "t.csv",
        "reference,text,target,text\na.png,x,b.png,y",
        "line 1: the column 'text' occurs twice",
    ),
    "text and caption": (
        "t.csv",
        f"{HEADER},caption\na.png,x,b.png,y",
        "line 1: it has both text and caption, and only",
    ),
    "both in a later row": (
        "t.jsonl",
        f'{{{OWN}, "text": "x"}}\n{{{OWN}, "text": "x", "caption": "y"}}',
        "line 2: it has both text and",
    ),
    "a missing field": (
        "t.jsonl",
        f"{{{OWN}}}",
        "line 1: there are no fields reference, text and target in reference,",
    ),
    "a field twice": ("t.jsonl", f'{{{OWN}, "text": "x", "text": "y"}}', "line 1: the field 'text' occurs twice"),
    "a field twice in a list": ("t.json", f'[{{{OWN}, "text": "x", "text": "y"}}]', "row 1: the field 'text' occurs"),
    "a text that is a truth value": (
        "t.json",
        f'[{{{OWN}, "text": true}}]',
        "row 1: Expected `str | array | null`, got",
    ),
    "nested texts": (
        "t.jsonl",
        f'{{{OWN}, "text": [["x"]]}}',
        "line 1: Expected `str | null`, got `array` - at `$.text",
    ),
    "a list of targets": ("t.jsonl", '{"reference": "a.png", "text": "x", "target": ["b.png"]}', "at `$.target`"),
    "a weight of nothing": ("t.jsonl", f'{{{OWN}, "text": "x", "weight": 0}}', "line 1: Expected `float` > 0"),
    "a weight that is a word": (
        "t.csv",
        f"{HEADER},weight\na.png,x,b.png,heavy",
        "line 2: Expected `float | null`, got",
    ),
    "a weight that is no number": ("t.csv", f"{HEADER},weight\na.png,x,b.png,nan", "line 2: Expected `float` > 0"),
    "an infinite weight": ("t.csv", f"{HEADER},weight\na.png,x,b.png,inf", "line 2: Expected `float` <= 1000000"),
    "no number in JSON": ("t.jsonl", f'{{{OWN}, "text": "x", "weight": NaN}}', "line 1: JSON is malformed"),
    "a cut list": ("t.json", f'[{{{OWN}, "text": "x"}}, {{"ref', "is not a list of triplets: Input data was truncated"),
    "lines in a list": (
        "t.json",
        f'{{{OWN}, "text": "x"}}',
        "is not a list of triplets: Expected `array`, got `object`",
    ),
    "a list in lines": ("t.jsonl", f'[{{{OWN}, "text": "x"}}]', "line 1: Expected `object`, got `array`"),
    "lists in a list": ("t.json", '[["a.png", "x", "b.png"]]', "row 1: Expected `object`, got `array`"),
    "another encoding": ("t.csv", f"{HEADER}\na.png,r\xf6ter,b.png".encode("latin-1"), "line 2: it is not UTF-8: byte"),
    "two bytes a sign": ("t.csv", f"{HEADER}\na.png,x,b.png".encode("utf-16"), "looks like UTF-16"),
    "carriage returns alone": ("t.csv", f"{HEADER}\ra.png,x,b.png", "ends its lines by carriage returns alone"),
    "an open quote": ("t.csv", f'{HEADER}\na.png,"x,b.png\nc.png,x,d.png', "line 2: a double quote opens here, and at"),
    "LaSCo without its pairs": (
        "t.json",
        '[{"query-image": "a.png", "query-text": "x", "target-image": [1, "b.png"]}]',
        "row 1: Expected `array`, got `str` - at `$.query-image`",
    ),
    "MegaPairs with a single negative": (
        "t.jsonl",
        '{"q_img": "a.png", "q_text": ["x"], "t_img": "b.png", "hns": "c.png"}',
        "at `$.hns`",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_breaks_a_rule_is_refused_with_its_place(images: Path, case: str) -> None:
    name, content, problem = REFUSED[case]
    (images / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorruptFile) as caught:
        open_source(str(images / name), kind="triplets")
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.png,nan,b.png,,", "nan is given as its text, which is how pandas writes a missing value"),
        ("a.png,x,b.png,nan,", "nan is given as its negatives, which is how pandas writes a missing value"),
        ("a.png,x,b.png,,nan", "nan is given as its group, which is how pandas writes a missing value"),
        ("a.png,x,,,", "it has no target"),
        (" , ,,,", "it has no reference and no target"),
        ("a.png,x,./a.png,,", "its reference is its target, 'a.png'"),
        ("a.png,x,a,,", "its reference is its target, 'a.png'"),
        ("a.png,x,b.png,c.png|./b.png,", "its negatives contain its target, 'b.png'"),
    ],
)
def test_a_triplet_is_of_no_use_however_it_is_written(images: Path, row: str, problem: str) -> None:
    path = written(images / "t.csv", f"{HEADER},negatives,group", row)
    assert [*open_source(path).unusable.values()] == [f"line 2: {problem}"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", f"\ufeff{HEADER}\r\na.png,x,b.png\r\n", [["x"], []]),
        ("t.json", f'\ufeff[{{{OWN}, "text": "x"}}]', [["x"], []]),
        (
            "t.csv",
            "reference, text10, text2, caption, target\n a.png ,ten,two,one, b.png ",
            [["one", "two", "ten"], []],
        ),
        ("t.jsonl", f'{{{OWN}, "captions": ["x", null], "text2": "y"}}', [["x", "", "y"], []]),
        (
            "t.csv",
            f"{HEADER},negatives\na.png,\"['x', 'y']\",b.png,\"['c.png', 'd.png']\"",
            [["x", "y"], ["c.png", "d.png"]],
        ),
        ("t.csv", f"{HEADER},negatives\na.png,[sic],b.png,c.png|c.png", [["[sic]"], ["c.png"]]),
        (
            "t.json",
            f'[{{"of": {{"a": 1}}, {OWN}, "text": "a }} b", "negatives": null, "weight": null}}]',
            [["a } b"], []],
        ),
    ],
)
def test_what_can_be_understood_without_doubt_is_read(
    images: Path, name: str, content: str, expected: list[list[str]]
) -> None:
    (images / name).write_text(content)
    ((reference, texts, target, negatives, _, weight),) = told(open_source(str(images / name), kind="triplets"))
    assert [reference, target, weight] == ["a.png", "b.png", 1.0]
    assert [texts, negatives] == expected


def test_a_whole_number_may_name_an_image_and_a_group(images: Path) -> None:
    (images / "12.png").write_bytes((images / "a.png").read_bytes())
    row = {"reference": 12, "text": "x", "target": "b", "group": 7.0, "category": 3}
    source = open_source(written(images / "t.jsonl", json.dumps(row)))
    assert told(source) == [["12", ["x"], "b", [], "7", 1.0]]
    assert not source.unusable


def test_an_edit_that_lists_nothing_is_an_empty_text(images: Path) -> None:
    path = written(images / "t.csv", "pth1,edit,pth2", "a,[],b", "a,\"['one', '']\",b", "a,[1],b")
    assert [*open_source(path).unusable.values()] == ["line 2: its text is empty", "line 3: its text is empty"]
    mega = {"q_img": "a.png", "q_text": [], "t_img": "b.png"}
    assert [*open_source(written(images / "t.jsonl", json.dumps(mega))).unusable.values()] == [
        "line 1: its text is empty"
    ]


def test_fields_of_later_rows_that_are_not_used_are_named(images: Path) -> None:
    said: list[str] = []
    written(images / "t.jsonl", f'{{{OWN}, "text": "x"}}', f'{{{OWN}, "text": "x", "negative": "c.png"}}')
    open_source(str(images / "t.jsonl"), say=said.append)
    assert said == [f"{images / 't.jsonl'}: not used: negative."]


def test_a_parquet_file_that_holds_images_or_a_column_twice_is_refused(images: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = images / "t.parquet"
    image = {"bytes": b"...", "path": "a.png"}
    parquet.write_table(pyarrow.Table.from_pylist([{"reference": image, "text": "x", "target": image}]), path)
    with pytest.raises(CorruptFile, match="holds images in its column reference") as caught:
        open_source(str(path), kind="triplets")
    assert "000123.reference.jpg" in str(caught.value.hint)
    columns = [pyarrow.array([value]) for value in ("a.png", "x", "b.png", "y")]
    parquet.write_table(pyarrow.Table.from_arrays(columns, names=["reference", "text", "target", "text"]), path)
    with pytest.raises(CorruptFile, match="the column 'text' occurs twice"):
        open_source(str(path), kind="triplets")


def test_where_no_triplet_can_be_used_all_are_named(images: Path) -> None:
    source = open_source(written(images / "t.csv", HEADER, "x.png,x,y.png", "z.png,x,x.png"))
    with pytest.raises(MissingData, match=r"2 of 2 triplets of .* cannot be used: line 2: there is no image 'x.png'"):
        Batches(source, tiny_backbone(), 2, 0, "triplets", view=TripletImageTraining())


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


def test_a_part_of_a_sample_that_is_there_twice_and_an_empty_text_are_said(images: Path) -> None:
    pixels = [(images / f"{name}.png").read_bytes() for name in "ab"]
    twice = {"1.reference.png": pixels[0], "1.query.png": pixels[0], "1.target.png": pixels[1], "1.txt": b""}
    said: list[str] = []
    source = open_source(shard(images / "s.tar", twice), kind="triplets", say=said.append)
    assert said == [f"{images / 's.tar'}: not used: 1 (another reference, before the last one)."]
    assert source.unusable == {0: "s.tar, 1: its text is empty"}
    spoken = {**twice, "1.txt": b" ", "2.reference.png": pixels[0], "2.target.png": pixels[1], "2.txt": b"x"}
    source = open_source(shard(images / "s.tar", spoken), kind="triplets", say=said.append)
    batches = Batches(source, tiny_backbone(), 2, 0, "triplets", view=TripletImageTraining())
    with pytest.raises(MissingData, match=r"^Sample 1 of .*s.tar cannot be used: all its captions are empty"):
        batches[0]


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


def test_a_table_of_triplets_is_described_and_checked(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["a.png,x,,b.png,c.png,1", "c.png,y,x,b.png,,1", "z.png,x,y,c.png,,2"]
    path = written(images / "t.csv", "reference,text,text2,target,negatives,group", *rows)
    counts = describe_source(open_source(path)).triplets
    flaw = "line 4: there is no image 'z.png'"
    assert counts == TripletCensus(
        references=3, targets=2, repeated_targets=1, empty_captions=1, groups=2, negatives=1, unusable=[flaw]
    )
    assert execute(["data", "describe", path]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "samples 3 images 4 different ones captions 5" in said
    assert "targets 2 different ones, 1 of several triplets empty captions 1 groups 2 negatives 1" in said
    assert execute(["data", "check", path]) == 3
    said = capsys.readouterr().out
    assert "3 of 4 images are there and whole" in said
    assert f"triplets that cannot be used, 1: {flaw}" in said

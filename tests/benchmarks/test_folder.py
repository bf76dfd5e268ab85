"""Your own data: what a folder and its table may hold, what follows from it, and every way to go wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cirbench import cli
from cirbench.benchmarks import choose_protocol, find_dataset, load_protocol
from cirbench.benchmarks.folder import measures
from cirbench.comparison.api import score
from cirbench.errors import CheckFailed, CirbenchError, CorruptFile, MissingData, UnknownName, UsageError
from cirbench.metrics.measure import ceilings
from cirbench.runs.additional import with_metric
from cirbench.runs.folder import load_run
from cirbench.runs.predictions.lists import write_qrels
from tests.tiny_clip import write_design

if TYPE_CHECKING:
    from cirbench.protocol import EvaluationProtocol

HEADER = "query_id,reference,text,targets"
GOOD = f"{HEADER}\nq1,a,in blue,b\nq2,b,in red,a\n"


def write(folder: Path, table: str | bytes, *, name: str = "queries.csv", gallery: str = "gallery") -> Path:
    """A folder with the images a, b, c.d and sub/e, each of its own colour, and a table."""
    for place, image in enumerate(("a.png", "b.JPG", "c.d.webp", "sub/e.png")):
        path = folder / gallery / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * place, 0, 0)).save(path)
    (folder / "gallery-notes.txt").write_text("not an image")
    (folder / name).write_bytes(table if isinstance(table, bytes) else table.encode())
    return folder


def load(folder: Path) -> EvaluationProtocol:
    return load_protocol(str(folder))


def labels(protocol: EvaluationProtocol) -> list[str]:
    return [str(measure) for measure in protocol.measures]


def test_a_folder_with_a_table_is_a_data_set(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", GOOD)
    protocol = load(folder)
    assert protocol.name == "own/mine@1"
    assert protocol.gallery is not None
    assert protocol.gallery.ids == ("a", "b", "c.d", "sub/e")
    assert [(query.id, query.reference.id, query.captions) for query in protocol.queries] == [
        ("q1", "a", ("in blue",)),
        ("q2", "b", ("in red",)),
    ]
    assert protocol.labels is not None
    assert protocol.labels.relevant == (("b",), ("a",))
    assert protocol.exclude_reference
    assert protocol.clusters == ("a", "b")
    assert labels(protocol) == ["Recall@1", "Recall@5", "Recall@10", "Recall@50"]
    entry = choose_protocol(str(folder))
    assert (entry.id, entry.split, entry.labelled, entry.address) == ("own/mine", "all", True, str(folder))
    assert choose_protocol(str(folder), protocol="own/mine") == entry
    assert find_dataset(str(folder)).default_backbone == "ViT-L-14/openai"


def test_json_lines_say_the_same_as_csv_and_may_hold_several_texts(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"query_id": "q1", "reference": "a", "text": "in blue", "targets": "b"},
        {"query_id": "q2", "reference": "b", "text": "in red", "targets": ["a"]},
    ]
    lines = "\n".join(map(json.dumps, rows)) + "\n\n"
    same = load(write(tmp_path / "json" / "mine", lines, name="queries.jsonl"))
    assert same.digest == load(write(tmp_path / "csv" / "mine", GOOD)).digest
    rows[1]["text"] = ["in red", "no longer blue"]
    several = load(write(tmp_path / "several", json.dumps({**rows[1], "query_id": 7}), name="queries.jsonl"))
    assert several.queries[0].captions == ("in red", "no longer blue")
    assert several.queries[0].id == "7"


@pytest.mark.parametrize(
    ("written", "id"),
    [
        ("a", "a"),
        ("a.png", "a"),
        ("gallery/a.png", "a"),
        ("gallery/a", "a"),
        ("./a.png", "a"),
        (" b.JPG ", "b"),
        ("c.d", "c.d"),
        ("c.d.webp", "c.d"),
        ("sub/e", "sub/e"),
        ("gallery/sub/e.png", "sub/e"),
        ("asked/f.png", "asked/f"),
        ("asked/f", "asked/f"),
    ],
)
def test_an_image_is_named_by_its_path_with_or_without_suffix(tmp_path: Path, written: str, id: str) -> None:
    folder = write(tmp_path / "mine", f"{HEADER}\nq1,{written},other,{'b' if id != 'b' else 'a'}\n")
    (folder / "asked").mkdir()
    Image.new("RGB", (8, 8), "white").save(folder / "asked/f.png")
    protocol = load(folder)
    assert protocol.queries[0].reference.id == id
    assert protocol.gallery is not None
    assert "asked/f" not in protocol.gallery.ids


def test_the_gallery_may_be_called_images_and_may_be_a_link(tmp_path: Path) -> None:
    plain = load(write(tmp_path / "one" / "mine", GOOD))
    renamed = load(write(tmp_path / "two" / "mine", GOOD.replace(",a,", ",images/a.png,"), gallery="images"))
    assert renamed.digest == plain.digest
    linked = tmp_path / "three" / "mine"
    linked.mkdir(parents=True)
    (linked / "gallery").symlink_to(tmp_path / "one" / "mine" / "gallery")
    (linked / "queries.csv").write_text(GOOD)
    assert load(linked).digest == plain.digest


def test_several_targets_groups_and_aspects_are_reported_as_such(tmp_path: Path) -> None:
    table = f'{HEADER},group,aspect\nq1,a,in blue,b | c.d,a|b|sub/e,colour|negation\nq2,b,"in red, please",a,b|a|c.d,\n'
    protocol = load(write(tmp_path / "mine", table))
    assert protocol.labels is not None
    assert protocol.labels.relevant == (("b", "c.d"), ("a",))
    assert protocol.groups == (("a", "b", "sub/e"), ("b", "a", "c.d"))
    assert protocol.slices == {"aspect": (("colour", "negation"), ())}
    assert protocol.queries[1].captions == ("in red, please",)
    assert labels(protocol) == [
        *(f"mAP@{k}" for k in (5, 10, 25, 50)),
        *(f"Hit_rate@{k}" for k in (1, 5, 10, 50)),
        *(f"Recall_subset@{k}" for k in (1, 2, 3)),
        "mAP@10 per aspect",
    ]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.booleans(), st.booleans())
def test_what_is_reported_follows_from_the_targets(counts: list[int], grouped: bool, sliced: bool) -> None:
    asked = measures([("x",) * count for count in counts], grouped=grouped, sliced=sliced)
    assert bool(asked) == (max(counts) > 0)
    if asked:
        assert asked[0].metric == ("Recall" if max(counts) == 1 else "mAP")
        assert any(measure.metric == "Recall_subset" for measure in asked) == grouped
        assert any(measure.by == "aspect" for measure in asked) == sliced


def test_other_pixels_are_another_protocol(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", GOOD)
    before = load(folder)
    Image.new("RGB", (8, 8), "green").save(folder / "gallery/sub/e.png")
    after = load(folder)
    assert after.digest != before.digest
    assert {name for name, value in after.fields.items() if value != before.fields[name]} == {"data"}


BAD_TABLES: dict[str, tuple[str | bytes, str]] = {
    "an empty file": ("", "queries.csv is empty"),
    "a blank file": ("\ufeff \n\n", "queries.csv is empty"),
    "a header alone": (f"{HEADER}\n", "queries.csv holds no queries"),
    "a missing column": ("query_id,text,targets\nq1,in blue,b\n", "queries.csv, line 1: there is no column reference"),
    "a misspelt column": (
        "query_id,reference,text,target\nq1,a,in blue,b\n",
        "line 1: the column 'target' means nothing here.\nNearest: targets.",
    ),
    "a repeated column": (f"{HEADER},text\nq1,a,x,b,y\n", "line 1: the column 'text' occurs twice"),
    "an unknown reference": (
        f"{HEADER}\nq1,sub/f,x,b\n",
        "line 2: reference names 'sub/f', and no image of the folder is that.\nNearest: sub/e.",
    ),
    "a reference too long for a path": (f"{HEADER}\nq1,{'x' * 5000},x,b\n", "and no image of the folder is that"),
    "an unknown target": (
        f"{HEADER}\nq1,a,x,b\nq2,b,x,gallery/a.jpg\n",
        "line 3: targets names 'gallery/a.jpg', and no image of the gallery is that.\nNearest: a.",
    ),
    "an unknown member": (f"{HEADER},group\nq1,a,x,b,b|z\n", "line 2: group names 'z', and no image of the gallery"),
    "a target elsewhere": (f"{HEADER}\nq1,a,x,gallery-notes.txt\n", "and no image of the gallery is that"),
    "a repeated id": (f"{GOOD}q1,a,x,b\n", "line 4: the query id q1 is already in line 2"),
    "an id with white space": (f"{HEADER}\nq 1,a,x,b\n", "line 2: the query id 'q 1' holds white space"),
    "no id": (f"{HEADER}\n,a,x,b\n", "line 2: the query id is empty"),
    "no reference": (f"{HEADER}\nq1,,x,b\n", "line 2: the reference is empty"),
    "an empty text": (f"{HEADER}\nq1,a,x,b\nq2,b, ,a\n", "line 3: the text is empty"),
    "a way out": (f"{HEADER}\nq1,../a.png,x,b\n", "line 2: reference names '../a.png', which leaves the folder"),
    "an absolute way out": (f"{HEADER}\nq1,a,x,/b.png\n", "line 2: targets names '/b.png', which leaves the folder"),
    "a target twice": (f"{HEADER}\nq1,a,x,b|b.JPG\n", "line 2: targets names b twice"),
    "the reference as a target": (f"{HEADER}\nq1,a,x,b|a\n", "line 2: the reference a is its own target"),
    "a target outside its group": (f"{HEADER},group\nq1,a,x,b,a|c.d\n", "the target b is not in the group"),
    "targets for some only": (f"{HEADER}\nq1,a,x,b\nq2,b,x,\n", "line 3: targets must be given for every query"),
    "groups for some only": (f"{HEADER},group\nq1,a,x,b,b\nq2,b,x,a,\n", "line 3: group must be given for every"),
    "too few cells": (f"{HEADER}\nq1,a,x\n", "line 2: it has 3 cells, and the header has 4"),
    "an unquoted comma": (f"{HEADER}\nq1,a,x, y,b\n", "line 2: it has 5 cells, and the header has 4"),
    "an open quote": (f'{HEADER}\nq1,a,"x,b\n', "line 2: a double quote opens here, and at line 2 it is not closed"),
    "another encoding": (f"{HEADER}\nq1,a,caf\xe9,b\n".encode("latin-1"), "queries.csv, line 2: it is not UTF-8"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_breaks_a_rule_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    table, message = BAD_TABLES[name]
    with pytest.raises(CorruptFile) as raised:
        load(write(tmp_path / "mine", table))
    assert message in str(raised.value)
    assert str(tmp_path / "mine/queries.csv") in str(raised.value)


BAD_LINES = {
    "no json": ("{", "line 2: Input data was truncated"),
    "no object": ("[1]", "line 2: Expected `object`"),
    "a missing field": ('{"query_id": "q2", "reference": "b"}', "line 2: Object missing required field `text`"),
    "an unknown field": (
        '{"query_id": "q2", "reference": "b", "text": "x", "target": "a"}',
        "line 2: the column 'target' means nothing here.\nNearest: targets.",
    ),
    "a number as text": ('{"query_id": "q2", "reference": "b", "text": 5}', "line 2: Expected `str | array`"),
    "no text": ('{"query_id": "q2", "reference": "b", "text": [], "targets": "a"}', "line 2: the text is empty"),
    "deep nesting": ("[" * 100_000, "line 2: "),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_json_line_that_breaks_a_rule_is_refused_with_its_number(tmp_path: Path, name: str) -> None:
    line, message = BAD_LINES[name]
    first = '{"query_id": "q1", "reference": "a", "text": "x", "targets": "b"}'
    with pytest.raises(CorruptFile) as raised:
        load(write(tmp_path / "mine", f"{first}\n{line}\n", name="queries.jsonl"))
    assert f"queries.jsonl, {message}" in str(raised.value)


@given(content=st.binary(max_size=200))
def test_whatever_stands_in_the_table_is_read_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any") / "mine"
    try:
        load(write(folder, b"query_id,reference,text\n" + content))
    except CirbenchError as error:
        assert "queries.csv" in error.message


def test_two_images_with_one_id_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", GOOD)
    Image.new("RGB", (8, 8)).save(folder / "gallery/a.jpg")
    with pytest.raises(CorruptFile, match=r"gallery/a\.jpg and .*gallery/a\.png have one id, a\."):
        load(folder)


def test_white_space_in_the_path_of_an_image_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", GOOD)
    Image.new("RGB", (8, 8)).save(folder / "gallery/my photo.png")
    with pytest.raises(CorruptFile, match=r"my photo\.png has white space in its path"):
        load(folder)


@pytest.mark.parametrize("place", ["gallery/linked.png", "asked.png"])
def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path, place: str) -> None:
    folder = write(tmp_path / "mine", f"{HEADER}\nq1,{place},x,b\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    (folder / place).symlink_to(tmp_path / "private.png")
    with pytest.raises(CheckFailed, match=r"leads out of .*, to .*private\.png"):
        load(folder)


def test_a_folder_that_lacks_its_parts_says_which(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(MissingData, match=r"mine holds no queries\.csv, queries\.tsv or queries\.jsonl") as raised:
        choose_protocol(str(folder))
    assert raised.value.hint == "Type `cirbench new dataset PATH` to get an example to change."
    (folder / "queries.csv").write_text(GOOD)
    with pytest.raises(MissingData, match=r"mine holds no folder gallery \(or images\)"):
        load(folder)
    (folder / "gallery").mkdir()
    with pytest.raises(MissingData, match="gallery holds no images"):
        load(folder)
    write(folder, GOOD)
    (folder / "queries.jsonl").write_text("{}")
    with pytest.raises(CorruptFile, match=r"mine holds queries\.csv and queries\.jsonl"):
        load(folder)


@pytest.mark.parametrize("name", ["no/where", "/" + "x" * 5000])
def test_a_path_that_is_no_folder_is_an_unknown_data_set(name: str) -> None:
    with pytest.raises(UnknownName, match=f"There is no data set called '{name[:150]}") as raised:
        choose_protocol(name)
    assert len(raised.value.message) < 250
    assert raised.value.hint is not None
    assert raised.value.hint.endswith("Nor is there a folder at that path.")


def test_a_name_of_the_catalogue_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "scenes", GOOD)
    monkeypatch.chdir(tmp_path)
    assert choose_protocol("scenes").id == "scenes/val"
    assert choose_protocol("./scenes").id == "own/scenes"


def test_images_in_every_format_are_ranked_and_the_other_files_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "mine", GOOD)
    picture = Image.new("RGB", (8, 8), "red")
    for name, kind in {"g.jfif": "JPEG", "h.avif": "AVIF", "i.jp2": "JPEG2000", "j": "JPEG", "k.webp": "WEBP"}.items():
        picture.save(folder / "gallery" / name, kind)
    for name in ("notes.txt", "drawing.svg", "README", "clip.mp4"):
        (folder / "gallery" / name).write_text("x")
    gallery = load(folder).gallery
    assert gallery is not None
    assert {"g", "h", "i", "j", "k"} <= set(gallery.ids)
    told = capsys.readouterr().err
    assert "mine/gallery: 4 files are not images and are not ranked: README, clip.mp4, drawing.svg, notes.txt." in told


@pytest.mark.parametrize(("table", "disk"), [("caf\xe9", "cafe\u0301"), ("cafe\u0301", "caf\xe9")])
def test_images_are_found_however_the_letters_of_their_names_are_composed(
    tmp_path: Path, table: str, disk: str
) -> None:
    folder = write(tmp_path / "mine", f"{HEADER}\nq1,gallery/{table}.png,x,b\nq2,outside/{table},x,{table}\n")
    for place in ("gallery", "outside"):
        (folder / place).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(folder / place / f"{disk}.png")
    protocol = load(folder)
    assert protocol.labels is not None
    assert protocol.queries[0].reference.id == "caf\xe9"
    assert protocol.labels.relevant[1] == ("caf\xe9",)
    assert protocol.queries[1].reference.id == "outside/caf\xe9"


@pytest.mark.parametrize("name", ["x" * 5000, "\xe9" * 5000, "a\x1b[31m\u202e"])
def test_a_message_about_a_table_quotes_no_more_than_a_line_of_it(tmp_path: Path, name: str) -> None:
    for row in (f"{name},a,x,b\n{name},a,x,b", f"q,{name},x,b", f"q,a,x,{name}", f"q,a,x,b|{name}", f"q,a,x,b,{name}"):
        with pytest.raises(CorruptFile) as raised:
            load(write(tmp_path / "mine", f"{HEADER}\n{row}\n"))
        assert len(raised.value.message) < 400 + len(str(tmp_path))
        assert raised.value.message.isprintable()


def run(*arguments: str | Path) -> None:
    assert cli.execute([str(argument) for argument in arguments]) == 0


def test_the_example_runs_at_once_and_is_scored_to_the_same_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my-data"
    run("new", "dataset", folder)
    assert "It runs already: cirbench run" in capsys.readouterr().err
    common = ("--backbone", "scenes-vit", "--output", tmp_path / "runs", "--device", "cpu")
    run("run", "--method", "image-text", "--dataset", folder, *common, "--json")
    result = json.loads(capsys.readouterr().out)["results"][-1]
    assert result["protocol"]["name"] == "own/my-data@1"
    run("score", "--dataset", folder, "--predictions", Path(result["folder"]) / "predictions.jsonl", "--json")
    scored = json.loads(capsys.readouterr().out)
    assert scored["protocol"]["digest"] == result["protocol"]["digest"]
    assert [(each["label"], each["value"]) for each in scored["metrics"]] == [
        (each["label"], pytest.approx(each["value"])) for each in result["metrics"]
    ]
    run("run", "--config", Path(result["folder"]) / "config.toml", "--json")
    assert json.loads(capsys.readouterr().out)["results"][-1]["folder"] == result["folder"]
    run("data", "check", folder)
    assert "images: 12 of 12 are there and whole" in capsys.readouterr().out
    run("data", "describe", folder)
    assert "aspect" in capsys.readouterr().out


def test_an_example_never_overwrites(tmp_path: Path) -> None:
    from cirbench.benchmarks.folder import write_example

    with pytest.raises(UsageError, match="exists already"):
        write_example(tmp_path)


def test_without_targets_there_are_rankings_and_no_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "mine", "query_id,reference,text\nq1,a,in blue\n")
    assert load(folder).labels is None
    run("run", "--method", "image-text", "--dataset", folder, "-b", "scenes-vit", "--output", tmp_path / "runs")
    shown = capsys.readouterr()
    assert "rankings, and no numbers" in shown.out
    assert "submit" not in shown.err
    (predictions,) = (tmp_path / "runs/own").glob("image-text-*/predictions.jsonl")
    run("score", "--dataset", folder, "--predictions", predictions, "--output", tmp_path / "scored")
    assert "rankings, and no numbers" in capsys.readouterr().out
    assert sorted(json.loads(predictions.read_text())["ranking"]) == ["b", "c.d", "sub/e"]


def test_a_trained_method_asks_for_its_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "mine", GOOD)
    assert cli.execute(["run", "--method", "pli", "--dataset", str(folder)]) == 3
    assert "cirbench train pli --backbone ViT-L-14/openai" in capsys.readouterr().err


@pytest.fixture
def emoji() -> Path:
    """A folder of 3,583 emoji with queries.csv and pairs.csv, where the environment names it."""
    folder = os.environ.get("CIRBENCH_EMOJI")
    if folder is None:
        pytest.skip("CIRBENCH_EMOJI is not set, so there are no emoji to test on")
    return Path(folder)


def test_a_table_from_elsewhere_is_read_as_it_stands(emoji: Path) -> None:
    protocol = load(emoji)
    assert protocol.gallery is not None
    with (emoji / "queries.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [query.id for query in protocol.queries] == [row["query_id"] for row in rows]
    assert len(protocol.gallery) == sum(1 for _ in (emoji / "images").iterdir())
    assert protocol.labels is not None
    assert protocol.labels.relevant == tuple((Path(row["targets"]).stem,) for row in rows)
    assert labels(protocol)[0] == "Recall@1"


def test_pictures_go_from_training_to_report(emoji: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = some_of(emoji, tmp_path / "emoji", queries=40)
    data, design = folder / "pairs.csv", write_design(tmp_path / "design")
    few = ("--set", "steps=3", "--set", "batch_size=16", "--device", "cpu")
    run("train", "clip", "--model", design, "--data", data, "--output", tmp_path / "vit", *few)
    run("train", "pli", "--backbone", tmp_path / "vit", "--data", data, "--output", tmp_path / "pli", *few)
    capsys.readouterr()
    command: list[Any] = ["run", "--method", "pli", "--dataset", folder, "--checkpoint", tmp_path / "pli", "--json"]
    run(*command, "--backbone", tmp_path / "vit", "--output", tmp_path / "runs", "--device", "cpu")
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["method"]["name"] for result in results] == ["image-only", "text-only", "image-text", "pli"]
    assert {result["counts"]["queries"] for result in results} == {40}


def some_of(emoji: Path, folder: Path, *, queries: int) -> Path:
    """Copy the first queries and pairs, and the images that they name."""
    folder.mkdir()
    wanted = set()
    for name in ("queries.csv", "pairs.csv"):
        lines = (emoji / name).read_text().splitlines(keepends=True)[: queries + 1]
        (folder / name).write_text("".join(lines))
        wanted |= {cell for line in lines for cell in line.strip().split(",") if cell.startswith("images/")}
    (folder / "images").mkdir()
    for image in wanted:
        shutil.copy(emoji / image, folder / image)
    return folder


REFUTED = f"{HEADER},negatives\nq1,a,in blue,b|c.d,sub/e\nq2,b,in red,a,\n"


def test_negatives_are_measured_and_are_no_ground_truths(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", REFUTED)
    protocol = load(folder)
    assert protocol.labels is not None
    assert protocol.labels.relevant == (("b", "c.d", "sub/e"), ("a",))
    assert protocol.labels.right == ((True, True, False), (True,))
    assert labels(protocol)[-2:] == ["NegRecall@10", "mAP_drop@10"]
    ranked = {"q1": ["sub/e", "b", "c.d"], "q2": ["a", "c.d", "sub/e"]}
    found = {each.label: each.value for each in score(ranked, protocol).measurements}
    assert found["Hit_rate@1"] == 0.5  # the negative that comes first is no hit
    assert found["mAP@5"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)
    assert found["NegRecall@10"] == 1.0  # of the one query that has negatives
    assert found["mAP_drop@10"] == pytest.approx((1 - (1 / 2 + 2 / 3) / 2) / 2)
    best = {each.label: each.value for each in ceilings(protocol)}
    assert (best["mAP@5"], best["NegRecall@10"], best["mAP_drop@10"]) == (1.0, 0.0, 0.0)
    write_qrels(tmp_path / "qrels", protocol)
    assert (tmp_path / "qrels").read_text() == "q1 0 b 1\nq1 0 c.d 1\nq2 0 a 1\n"


def test_a_kept_run_still_knows_its_negatives(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", REFUTED)
    ranked = {"q1": ["sub/e", "b", "c.d"], "q2": ["a", "c.d", "sub/e"]}
    run = score(ranked, str(folder), output=tmp_path / "runs").run
    assert run is not None and run.gains == ((1.0, 1.0, -1.0), (1.0,))
    again = load_run(run.folder)
    assert with_metric(again, "mAP@3").result["mAP@3"].value == pytest.approx(50 * ((1 / 2 + 2 / 3) / 2 + 1))
    assert with_metric(again, "NegRecall@1").result["NegRecall@1"].value == 100


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("b", "line 2: b is a target and a negative"),
        ("a", "line 2: the reference a is a negative, and is never ranked"),
        ("sub/f", "line 2: negatives names 'sub/f', and no image of the gallery is that"),
        ("sub/e|sub/e", "line 2: negatives names sub/e twice"),
    ],
)
def test_negatives_that_cannot_be_are_refused_with_the_line(tmp_path: Path, cell: str, message: str) -> None:
    folder = write(tmp_path / "mine", f"{HEADER},negatives\nq1,a,in blue,b|c.d,{cell}\nq2,b,in red,a,\n")
    with pytest.raises(CorruptFile, match=message.replace("|", r"\|")):
        load(folder)


def test_measures_of_negatives_need_their_column(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", GOOD)
    (folder / "dataset.toml").write_text('measures = ["Recall@1", "NegRecall@10"]')
    with pytest.raises(CorruptFile, match="measures: NegRecall@10 needs a column negatives"):
        load(folder)
    (folder / "queries.csv").write_text(REFUTED)
    assert labels(load(folder)) == ["Recall@1", "NegRecall@10"]
